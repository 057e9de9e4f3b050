from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from dupmae.corpus.beir import load_split
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import evaluate
from dupmae.evaluation.runs import read_run
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index
from dupmae.search.snapshot import PARTS
from dupmae.settings import Evaluate
from dupmae.stages.evaluate import METRICS, evaluate_retriever, score_run
from tests.tiny import beir_folder, tiny_retriever


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    beir_folder(folder / "data")
    tiny_retriever(folder / "retriever")
    return folder


def settings(folder: Path, out: Path, **changes: object) -> Evaluate:
    given = {"retriever": folder / "retriever", "data": folder / "data", "out": out, **changes}
    return Evaluate.model_validate(given)


def test_the_written_metrics_are_those_of_the_written_run(folder: Path, tmp_path: Path) -> None:
    result = evaluate_retriever(settings(folder, tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == result
    _, queries, qrels = load_split(folder / "data", "test")
    run = read_run(tmp_path / "out" / "run.trec")
    assert evaluate(qrels, run, METRICS) == result["metrics"]
    assert result["counts"] == {"queries": len(queries), "passages": 60, "judgements": 60}
    assert result["retriever"] == Retriever.load(folder / "retriever").fingerprint()
    assert result["settings"]["split"] == "test"


def test_the_run_holds_the_best_passages_of_every_query(folder: Path, tmp_path: Path) -> None:
    evaluate_retriever(settings(folder, tmp_path))
    run = read_run(tmp_path / "run.trec")
    passages, queries, _ = load_split(folder / "data", "test")
    retriever = Retriever.load(folder / "retriever")
    scores = retriever.score(
        retriever.encode_queries(list(queries.values())), retriever.encode_passages([p.content for p in passages])
    )
    assert list(run) == list(queries)
    for query, row in zip(queries, scores, strict=True):
        found = [run[query][passage.id] for passage in passages]
        assert found == pytest.approx(row.tolist(), rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("part", ["dense", "sparse", "hybrid"])
def test_the_parts_add_up(folder: Path, part: str) -> None:
    passages, queries, _ = load_split(folder / "data", "test")
    retriever = Retriever.load(folder / "retriever")
    index = Index.build(retriever, passages)
    run = index.run(queries, 100, weights=PARTS[part])  # type: ignore[index]
    both = index.run(queries, 100)
    other = {"dense": "sparse", "sparse": "dense"}.get(part)
    if other is None:
        assert run == both
        return
    rest = index.run(queries, 100, weights=PARTS[other])  # type: ignore[index]
    for query, scores in both.items():
        for passage, score in scores.items():
            assert score == pytest.approx(run[query][passage] + rest[query][passage], abs=1e-4)


def test_a_run_that_lacks_a_query_is_refused() -> None:
    qrels = {"q1": {"d": 1}, "q2": {"d": 1}}
    with pytest.raises(DupmaeError, match="the run lacks 1 of 2 judged queries, first q2"):
        score_run(qrels, {"q1": {"d": 1.0}})
    assert score_run(qrels, {"q1": {"d": 1.0}, "q2": {}})["mrr@10"] == 0.5


def test_a_depth_too_shallow_for_the_metrics_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="depth: recall@100 needs 100 passages per query, not 10"):
        evaluate_retriever(settings(folder, tmp_path / "out", depth=10))
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_in_the_temporary_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    evaluate_retriever(settings(folder, tmp_path / "out"))
    assert not list(scratch.iterdir())
