"""Hard negatives by id in three layouts, and a teacher's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.negatives import (
    MinedQuery,
    read_mined,
    read_negatives,
    read_scores,
    score_of,
    write_mined,
    write_scores,
)
from dupmae.errors import DupmaeError
from dupmae.files import write_text

MINED = [MinedQuery("q1", ["p1"], ["p2", "p3"], [2.5, 1.0]), MinedQuery("q2", ["p4"], [], [])]


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def test_mined_files_come_back(tmp_path: Path) -> None:
    write_mined(tmp_path / "negatives.jsonl", MINED)
    assert list(read_mined(tmp_path / "negatives.jsonl")) == MINED
    assert read_negatives(tmp_path / "negatives.jsonl", {"q1", "q2"}) == {"q1": ["p2", "p3"], "q2": []}


def test_triples_and_lists_by_system(tmp_path: Path) -> None:
    triples = write_text(tmp_path / "qidpidtriples.tsv", "q1\tp1\tp2\nq1\tp1\tp3\nq9\tp1\tp3\nq1\tp1\tp2\n")
    assert read_negatives(triples, {"q1"}) == {"q1": ["p2", "p3"]}
    systems = {"qid": "q1", "pos": ["p1"], "neg": {"bm25": ["p2", "p5"], "dense": ["p3", "p2", "p4"]}}
    file = write_text(tmp_path / "hard.jsonl", lines(systems, {"qid": 9, "pos": [1], "neg": [7]}))
    assert read_negatives(file, {"q1"}) == {"q1": ["p2", "p3", "p5", "p4"]}
    assert read_negatives(file, {"9"}) == {"9": ["7"]}


BAD = [
    ({"query_id": "q1", "positive_ids": [], "negative_ids": [], "scores": []}, "line 1: query q1 without a positive"),
    ({"query_id": "q1", "positive_ids": ["p1"], "negative_ids": ["p2"], "scores": []}, "line 1: not one score"),
    ({"query_id": "q1", "positive_ids": "p1"}, "line 1: `positive_ids` is no list of ids"),
    ({"query_id": "q9", "positive_ids": ["p1"], "negative_ids": [], "scores": []}, "line 1: unknown query q9"),
    ({"qid": "q9", "neg": ["p1"]}, "names none of the queries"),
    ({"qid": "q1", "neg": "p1"}, "line 1: `neg` is no list of ids"),
]


@pytest.mark.parametrize(("record", "told"), BAD)
def test_bad_negatives(record: dict[str, Any], told: str, tmp_path: Path) -> None:
    file = write_text(tmp_path / "negatives.jsonl", lines(record))
    with pytest.raises(DupmaeError, match=told):
        read_negatives(file, {"q1"})


def test_triples_of_two_columns(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="line 2: needs 3 columns, has 2"):
        read_negatives(write_text(tmp_path / "triples.tsv", "q1\tp1\tp2\nq1\tp2\n"), {"q1"})


def test_scores_come_back(tmp_path: Path) -> None:
    file = tmp_path / "scores.jsonl"
    write_scores(file, [("q1", {"p1": 1.5, "p2": -3.25}), ("q2", {"p4": 0.1})])
    scores = read_scores(file)
    assert scores == {"q1": {"p1": 1.5, "p2": -3.25}, "q2": {"p4": 0.1}}
    assert score_of(scores, "q1", "p2", file) == -3.25
    for query, passage in (("q1", "p9"), ("q9", "p1")):
        with pytest.raises(DupmaeError, match=f"scores.jsonl: no score of query {query} and passage {passage}"):
            score_of(scores, query, passage, file)


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"high"', "null"])
def test_scores_that_are_no_numbers(value: str, tmp_path: Path) -> None:
    good = '{"query_id": "q1", "passage_ids": ["p1"], "scores": [1]}\n'
    bad = f'{{"query_id": "q2", "passage_ids": ["p1", "p2"], "scores": [1, {value}]}}\n'
    file = write_text(tmp_path / "scores.jsonl", good + bad)
    with pytest.raises(DupmaeError, match=r"line 2: the score of query q2 and passage p2 is .*no finite number"):
        read_scores(file)


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="score of query q1 and passage p2 is nan"):
        write_scores(tmp_path / "scores.jsonl", [("q1", {"p1": 1.0, "p2": float("nan")})])
    assert not list(tmp_path.iterdir())
