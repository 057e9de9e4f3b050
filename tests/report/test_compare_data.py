"""What is compared on: collections of the suites, BM25 over them, and results that the suites wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import load_split
from dupmae.evaluation.benchmarks.suite import evaluate_suite
from dupmae.report import judged as module
from dupmae.report.judged import open_judged
from dupmae.search.bm25 import BM25
from dupmae.search.topk import NOTHING
from dupmae.settings import EvaluateSuite
from tests.report.compared import TOPICS, data_folder
from tests.tiny import beir_folder, call, tiny_retriever


def test_bm25_over_blocks_is_bm25(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 7)
    data = beir_folder(tmp_path / "data", 30)
    passages, queries, _ = load_split(data, "test")
    places, scores = BM25([passage.content for passage in passages]).search(list(queries.values()), 10)
    run = open_judged(data, "test", ["mrr@10"]).bm25(10)
    assert list(run) == list(queries)
    for query, row, line in zip(queries, places, scores, strict=True):
        expected = [
            (passages[place].id, score) for place, score in zip(row, line.tolist(), strict=True) if place != NOTHING
        ]
        found = list(run[query].items())
        assert [name for name, _ in found] == [name for name, _ in expected]
        assert [score for _, score in found] == pytest.approx([score for _, score in expected], rel=1e-5)


def settings(suite: str, data: Path) -> dict[str, Any]:
    return EvaluateSuite(suite=suite, retriever=Path("r"), data=data, official=False).model_dump(mode="json")  # type: ignore[arg-type]


def test_answers_in_the_text_decide(tmp_path: Path) -> None:
    lines = ["id\ttext\ttitle", "1\tParis is the capital of France.\tParis", "2\tFrance is a country.\tFrance"]
    (tmp_path / "psgs_w100.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "nq-test.qa.csv").write_text("what is the capital of France\t['paris']\nwhere is Rome\t['Italy']\n")
    metrics = ["recall@5", "recall@20", "recall@100"]
    judged = open_judged(tmp_path, "test", metrics, "nq", settings("nq", tmp_path))
    run = judged.bm25(5)
    first, second = run
    assert list(run[first]) == ["1", "2"]
    assert run[second] == {}
    assert judged.measure(run) == {metric: {first: 1.0, second: 0.0} for metric in metrics}
    assert judged.right(first, ["2", "1"], judged.documents(["1", "2"])) == ["1"]
    assert judged.relevant(first) == []


def test_a_document_of_several_passages_is_ranked_as_one(tmp_path: Path) -> None:
    words = " ".join(f"word{n}" for n in range(250))
    (tmp_path / "msmarco-docs.tsv").write_text(f"D1\turl\tTitle\t{words}\nD2\turl\tOther\tnothing of it\n")
    (tmp_path / "msmarco-docdev-queries.tsv").write_text("7\tword3 word240\n")
    (tmp_path / "msmarco-docdev-qrels.tsv").write_text("7 0 D1 1\n")
    judged = open_judged(tmp_path, "", ["mrr@100"], "msmarco-document", settings("msmarco-document", tmp_path))
    assert list(judged.bm25(10)["7"]) == ["D1"]
    assert judged.documents(["D1"])["D1"].text == words
    assert judged.measure(judged.bm25(10))["mrr@100"] == {"7": 1.0}


def test_results_of_a_suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_folder(tmp_path / "data")
    tiny_retriever(tmp_path / "retriever")
    for part in ("dense", "sparse"):
        given = {"retriever": tmp_path / "retriever", "data": data, "out": tmp_path / part, "part": part}
        evaluate_suite(EvaluateSuite(suite="beir", official=False, **given))  # type: ignore[arg-type]
    words = [tmp_path / part / "data" for part in ("dense", "sparse")]
    assert call("compare", *words, "--bm25", "--json", "--quiet") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["systems"]) == ["bm25", "dense", "sparse"]
    assert found["metrics"] == ["ndcg@10", "recall@100"]
    assert found["systems"]["bm25"]["ndcg@10"] == 1.0
    written = json.loads((words[0] / "metrics.json").read_text())
    assert written["metrics"].items() <= found["systems"]["dense"].items()
    assert {move["text"] for move in found["moved"]} <= set(TOPICS)
