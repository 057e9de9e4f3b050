"""Comparisons that make no sense are refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dupmae.files import write_json
from tests.report.compared import data_folder, per_query, ranked_at, write_result
from tests.tiny import call

GIVEN = {"q0": 1.0, "q1": 1.0, "q2": 0.5, "q3": 0.25}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    data = data_folder(Path("data"))
    write_result(Path("a"), data, ranked_at([1, 1, 2, 4]))
    write_result(Path("b"), data, ranked_at([1, 2, 2, 1]))
    return tmp_path


def change(file: str, edit: Callable[[dict[str, object]], object]) -> None:
    found = json.loads(Path(file).read_text())
    edit(found)
    write_json(file, found)


def line(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert call("compare", *words, "--quiet") == 2
    told = capsys.readouterr()
    assert not told.out
    assert told.err.count("\n") == 1
    return told.err


def test_other_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change("a/metrics.json", lambda found: found.update(data={"corpus.jsonl": "1" * 64}))
    change("b/metrics.json", lambda found: found.update(data={"corpus.jsonl": "2" * 64}))
    told = "b/metrics.json: the fingerprint of corpus.jsonl is 222222222222, of a/metrics.json 111111111111"
    assert told in line(capsys, "a", "b")


def test_other_splits_suites_and_counts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change("b/metrics.json", lambda found: found.update(counts={"queries": 4, "passages": 9}))
    assert "the size of the corpus is 9, of a/metrics.json 8" in line(capsys, "a", "b")
    change("b/metrics.json", lambda found: found.update(counts={"queries": 5, "passages": 8}))
    assert "the number of queries is 5, of a/metrics.json 4" in line(capsys, "a", "b")
    change("b/metrics.json", lambda found: found.update(settings={"data": "data", "split": "dev"}))
    assert "the split is dev, of a/metrics.json test" in line(capsys, "a", "b")
    change("b/metrics.json", lambda found: found.update(suite="nq"))
    assert "the suite is nq, of a/metrics.json none" in line(capsys, "a", "b")


def test_other_queries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change("a/metrics.json", lambda found: found.update(metrics={"mrr@10": 0.6875, "recall@2": 0.75}))
    write_json("a/per_query.json", per_query(GIVEN))
    write_json("b/per_query.json", per_query({**{q: v for q, v in GIVEN.items() if q != "q3"}, "q9": 0.25}))
    change("b/metrics.json", lambda found: found.update(metrics={"mrr@10": 0.6875, "recall@2": 0.75}))
    assert "b/metrics.json: 2 queries are not the same as in a/metrics.json, first q3" in line(capsys, "a", "b")


def test_partial_rankings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path("b/run.trec").read_text().splitlines(keepends=True)
    Path("b/run.trec").write_text("".join(text for text in lines if not text.startswith("q2 ")))
    assert "b/run.trec: lacks 1 of 4 judged queries, first q2" in line(capsys, "a", "b")
    # Cut short within a query.
    Path("b/run.trec").write_text("".join(text for text in lines if not text.startswith("q2 Q0 d2 ")))
    assert "b/run.trec: gives mrr@10 0.625000, metrics.json says 0.750000" in line(capsys, "a", "b")


def test_values_of_a_part_of_the_queries(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json("a/per_query.json", per_query({"q0": 1.0, "q1": 0.375}))
    assert "a/per_query.json: has mrr@10 of 2 queries, metrics.json of 4" in line(capsys, "a", "b")
    write_json("a/per_query.json", [])
    assert "a/per_query.json: not metric -> query -> value" in line(capsys, "a", "b")


def test_the_wrong_data_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "gone: no such file or folder" in line(capsys, "a", "b", "--data", "gone")
    Path("data/qrels/test.tsv").write_text("q0\td0\t1\nq1\td1\t1\n")
    assert "has 2 judged queries, a/metrics.json is of 4" in line(capsys, "a", "b")


def test_what_is_no_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json("sts/metrics.json", {"suite": "sts", "metrics": {"mean": 70.0}, "settings": {"split": "test"}})
    assert "sts/metrics.json: not a result with queries and a corpus" in line(capsys, "a", "sts")
    write_json("beir/metrics.json", {"suite": "beir", "metrics": {}, "sets": {"scifact": {}}})
    assert "a/metrics.json: is of one data set, others are of several" in line(capsys, "a", "beir")
    Path("broken.json").write_text("{")
    assert "broken.json, line 1: not JSON" in line(capsys, "a", "broken.json")
    change("a/metrics.json", lambda found: found.update(metrics={"mrr@10": float("nan")}))
    assert "mrr@10 is not finite" in line(capsys, "a", "b")


def test_names_and_numbers_that_do_not_fit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is named twice" in line(capsys, "a", "b", "a/metrics.json")
    assert "one result alone" in line(capsys, "a")
    assert "labels: unknown: 'c' (one of a, b)" in line(capsys, "a", "b", "labels={c: C}")
    assert "metric: unknown: 'ndcg@10' (one of mrr@10, recall@2)" in line(capsys, "a", "b", "--metric", "ndcg@10")
    assert "baseline: unknown: 'c' (one of a, b)" in line(capsys, "a", "b", "--baseline", "c")
    assert "one is called bm25 already" in line(capsys, "inputs={bm25: a, b: b}", "--bm25")
    change("b/metrics.json", lambda found: found.update(metrics={"map@10": 0.5}))
    assert "the results share no metric" in line(capsys, "a", "b")
