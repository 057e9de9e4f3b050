"""Pairs for fine-tuning from collections of several kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import load_split
from dupmae.corpus.pair_sources import gather
from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.settings import PairSource


def jsonl(file: Path, records: list[dict[str, Any]]) -> Path:
    return write_text(file, "".join(json.dumps(record) + "\n" for record in records))


def source(kind: str, path: str, **settings: Any) -> dict[str, PairSource]:
    return {"s": PairSource.model_validate({"kind": kind, "path": path, **settings})}


def gathered(folder: Path, sources: dict[str, PairSource]) -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
    """Texts of passages, of queries, and the judgements."""
    count = gather(sources, folder, folder / "out")
    passages, queries, qrels = load_split(folder / "out", "train")
    assert count == len(queries)
    return {passage.id: passage.content for passage in passages}, queries, qrels


def test_questions(tmp_path: Path) -> None:
    lines = ["qtext,label,atext", '"Who, when?",1,Ada in 1843', '"Who, when?",0,Nobody', "Where?,0,Here", "Why?,1, "]
    write_text(tmp_path / "q.csv", "\r\n".join(lines))
    passages, queries, qrels = gathered(tmp_path, source("questions", "q.csv"))
    assert passages == {"s/1": "Ada in 1843", "s/2": "Nobody", "s/3": "Here"}
    assert queries == {"s/1": "Who, when?"}
    assert qrels == {"s/1": {"s/1": 1}}


def test_claims(tmp_path: Path) -> None:
    told = [("yes", "SUPPORTS"), ("no", "REFUTES"), ("perhaps", "NOT_ENOUGH_INFO")]
    evidences = [{"evidence": text, "evidence_label": label} for text, label in told]
    jsonl(tmp_path / "c.jsonl", [{"claim": "It is warm", "evidences": evidences}, {"claim": "x", "evidences": []}])
    passages, queries, qrels = gathered(tmp_path, source("claims", "c.jsonl"))
    assert passages == {"s/1": "yes", "s/2": "no"}
    assert (queries, qrels) == ({"s/1": "It is warm"}, {"s/1": {"s/1": 1, "s/2": 1}})


def test_articles(tmp_path: Path) -> None:
    rest = " ".join(f"word{n}" for n in range(20)) + "."
    articles = [
        {"id": "7", "title": "Ada", "text": f"Ada was a mathematician of note. It is known that {rest}"},
        {"id": "8", "title": "Stub", "text": "This stub is far too short. Nothing follows."},
        {"id": "9", "title": "One", "text": "A single sentence without an end"},
    ]
    jsonl(tmp_path / "a.jsonl", articles)
    passages, queries, _ = gathered(tmp_path, source("articles", "a.jsonl"))
    assert queries == {"s/7": "Ada was a mathematician of note."}
    assert passages == {"s/7": f"It is known that {rest}"}


def test_judged_queries_and_several_sources(tmp_path: Path) -> None:
    folder = tmp_path / "beir"
    jsonl(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "t", "text": f"text {n}"} for n in range(5)])
    jsonl(folder / "queries.jsonl", [{"_id": f"q{n}", "text": f"query {n}"} for n in range(5)])
    rows = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q1\td1\t0", "q2\td2\t2", "q2\td3\t0", "q3\td3\t1"]
    write_text(folder / "qrels/train.tsv", "\n".join(rows))
    passages, queries, qrels = gathered(tmp_path, source("beir", "beir"))
    assert len(passages) == 5
    assert qrels == {"s/q0": {"s/d0": 1}, "s/q2": {"s/d2": 2}, "s/q3": {"s/d3": 1}}
    _, queries, _ = gathered(tmp_path, source("beir", "beir", at_most=2) | {"t": PairSource(path=Path("beir"))})
    assert sorted(name[0] for name in queries) == ["s", "s", "t", "t", "t"]
    again = gathered(tmp_path, source("beir", "beir", at_most=2) | {"t": PairSource(path=Path("beir"))})
    assert again[1] == queries


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "questions",
            "question,label\na,1\n",
            "columns are missing (the first line names the columns qtext, label, atext)",
        ),
        ("claims", '{"claim": "a"}\n', "record without `evidences`"),
        ("claims", '{"claim": "a", "evidences": []}\n', "holds no pair"),
        ("articles", '{"id": 1, "text": "short"}\n', "holds no pair"),
    ],
)
def test_faults_are_named(tmp_path: Path, kind: str, text: str, message: str) -> None:
    write_text(tmp_path / "file", text)
    with pytest.raises(DupmaeError) as caught:
        gather(source(kind, "file"), tmp_path, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()
