"""Queries that are documents too: one rule for mining, fine-tuning, `evaluate`, the suites and BM25."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import Passage, write_beir
from dupmae.corpus.negatives import read_mined
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.evaluation.runs import read_run
from dupmae.training.pairs import HardNegatives, read_pair_data
from tests.tiny import call, tiny_retriever

TEXTS = {
    "a0": "how do i learn python quickly",
    "b0": "what is the fastest way to learn python",
    "a1": "which phone has the best camera",
    "b1": "best camera phone to buy",
}
QUERIES = {"a0": TEXTS["a0"], "a1": TEXTS["a1"], "other": f" {TEXTS['a1']} "}
QRELS = {"a0": {"b0": 1}, "a1": {"b1": 1}, "other": {"b1": 1}}


def own_document(folder: Path) -> Path:
    """Duplicate questions; `other` has the text of a document under another id."""
    passages = [Passage(name, "", text) for name, text in TEXTS.items()]
    write_beir(folder, passages, QUERIES, {"train": QRELS, "test": QRELS})
    return folder


def equal_ids(folder: Path) -> Path:
    """Pairs numbered on both sides."""
    prices = {"0": "item apple costs 3 euros", "1": "item bread costs 10 euros", "2": "item candle costs 17 euros"}
    queries = {name: f"what does {' '.join(text.split()[:2])} cost" for name, text in prices.items()}
    qrels = {name: {name: 1} for name in prices}
    passages = [Passage(name, "", text) for name, text in prices.items()]
    write_beir(folder, passages, queries, {"train": qrels, "test": qrels})
    return folder


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "retriever"
    tiny_retriever(folder)
    return folder


def test_the_rule() -> None:
    rule = OwnDocuments({"q": "a  text", "p": "else"}, {"p": {"p": 1}})
    assert rule.queries(Passage("x", "", " a text")) == ["q"]
    assert rule.queries(Passage("x", "a", "text")) == ["q"]
    assert rule.queries(Passage("x", "title", "a text")) == ["q"]
    assert rule.queries(Passage("q", "", "b text")) == ["q"]
    assert rule.queries(Passage("p", "", "else")) == []
    assert OwnDocuments({"q": "a text"}, by_id=False).queries(Passage("q", "", "b text")) == []
    rule.add([Passage("q", "", "b"), Passage("x", "", "a text")])
    assert rule.most == 2
    assert rule.ranked("q", {"x": 3.0, "y": 2.0, "q": 1.5, "z": 1.0, "w": 0.5}, 2) == {"y": 2.0, "z": 1.0}
    assert rule.ranked("p", {"x": 3.0, "y": 2.0}, 1) == {"x": 3.0}


def test_it_is_never_mined(tmp_path: Path, retriever: Path) -> None:
    data = own_document(tmp_path / "data")
    for name, words in (("bm25", ()), ("retriever", ("--retriever", retriever))):
        assert call("mine", "--data", data, "--out", tmp_path / name, *words, "depth=3", "--quiet") == 0
        mined = {item.query: item.negatives for item in read_mined(tmp_path / name / "negatives.jsonl")}
        assert not {"a0", "b0"} & set(mined["a0"])
        assert not {"a1", "b1"} & {*mined["a1"], *mined["other"]}


def test_it_is_no_negative_of_a_batch(tmp_path: Path) -> None:
    pairs = read_pair_data(own_document(tmp_path / "data"))
    places = {text: place for place, text in enumerate(pairs.passages)}
    for query, own in ((0, "a0"), (1, "a1"), (2, "a1")):
        assert pairs.answers.among(query, [places[TEXTS[own]]]).all()
    found = HardNegatives(pairs, 4).of([0, 1, 2], [0, 1, 2])
    assert not any(pairs.answers.among(query, candidates).any() for query, candidates in enumerate(found))


def figures(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "metrics.json").read_text())["metrics"]
    return found


@pytest.mark.parametrize("write", [own_document, equal_ids])
def test_evaluate_the_suite_and_bm25_leave_out_the_same(tmp_path: Path, retriever: Path, write: Any) -> None:
    data = write(tmp_path / "data")
    plain, suite = tmp_path / "plain", tmp_path / "suite"
    words = ("--retriever", retriever, "--data", data, "--quiet")
    assert call("evaluate", *words, "--out", plain) == 0
    assert call("evaluate", *words, "--out", suite, "--suite", "beir", "official=false") == 0
    (measured,) = suite.glob("**/data/metrics.json")
    assert figures(plain)["ndcg@10"] == pytest.approx(figures(measured.parent)["ndcg@10"])
    assert call("compare", plain, "--bm25", f"out={tmp_path / 'compared'}", "--quiet") == 0
    (bm25,) = (tmp_path / "compared").glob("**/bm25/run.trec")
    for file in (plain / "run.trec", measured.parent / "run.trec", bm25):
        run = read_run(file)
        if write is own_document:
            assert "a0" not in run["a0"]
            assert not {"a1"} & (run["a1"].keys() | run["other"].keys())
            assert "b0" in run["a0"]
        else:
            assert all(name in found for name, found in run.items())


def test_ids_that_a_run_cannot_hold_are_refused_before_anything_is_ranked(
    tmp_path: Path, retriever: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    passages = [Passage("My File (1).txt", "", "tea leaves are boiled"), Passage("b", "", "objects are compared")]
    write_beir(tmp_path / "data", passages, {"q": "tea"}, {"test": {"q": {"My File (1).txt": 1}}})

    def never(*given: Any, **named: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr("dupmae.retriever.model.encode", never)
    words = ("evaluate", "--retriever", retriever, "--data", tmp_path / "data", "--out", tmp_path / "out", "--quiet")
    for more in ((), ("--suite", "beir", "official=false")):
        assert call(*words, *more) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "the document id 'My File (1).txt' is empty or holds white space" in message
