"""BM25, indexes and encoders as they come are measured like retrievers, and their rankings merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from dupmae.corpus.beir import load_split
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import ranking
from dupmae.evaluation.runs import read_run
from dupmae.retriever.model import Retriever
from dupmae.search import index as indexes
from dupmae.search.bm25 import BM25
from dupmae.settings import Evaluate, FromEncoder, Index, Merge
from dupmae.stages.evaluate import evaluate_retriever
from dupmae.stages.from_encoder import from_encoder
from dupmae.stages.index import build
from dupmae.stages.merge import merge
from tests.reference.tiny import tiny_folder
from tests.tiny import beir_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection with a dev split, an encoder as it comes with its index, and runs of it and of BM25."""
    folder = tmp_path_factory.mktemp("merging")
    beir_folder(folder / "data")
    judged = (folder / "data/qrels/test.tsv").read_text().splitlines()
    (folder / "data/qrels/dev.tsv").write_text("\n".join([judged[0], *judged[1::2]]) + "\n")
    (folder / "data/qrels/test.tsv").write_text("\n".join([judged[0], *judged[2::2]]) + "\n")
    tiny_folder(folder / "model", head=False)
    from_encoder(FromEncoder(model=str(folder / "model"), out=folder / "encoder", passage_length=48))
    build(Index(retriever=folder / "encoder", data=folder / "data", out=folder / "index"))
    for split in ("test", "dev"):
        for name, system in (("bm25", {"bm25": True}), ("encoder", {"index": folder / "index"})):
            measured = {"data": folder / "data", "split": split, "out": folder / f"{name}-{split}", **system}
            evaluate_retriever(Evaluate.model_validate(measured))
    return folder


def metrics(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "metrics.json").read_text())["metrics"]
    return found


def test_an_encoder_as_it_comes_is_as_wide_as_it_is(folder: Path) -> None:
    retriever = Retriever.load(folder / "encoder")
    assert retriever.dimensions == retriever.encoder.backbone.width
    assert (retriever.representation.kind, retriever.representation.pooling) == ("cls", "cls")
    assert retriever.settings.passage_length == 48


def test_an_index_is_measured_like_its_retriever(folder: Path, tmp_path: Path) -> None:
    result = evaluate_retriever(Evaluate(retriever=folder / "encoder", data=folder / "data", out=tmp_path))
    assert metrics(folder / "encoder-test") == result["metrics"]
    assert result["queries_per_second"] > 0
    assert result["index_bytes"] == indexes.Index.open(folder / "index").snapshot.size_bytes()


def test_bm25_is_measured(folder: Path) -> None:
    passages, queries, _ = load_split(folder / "data", "test")
    numbers, _ = BM25([passage.content for passage in passages]).search(list(queries.values()), 100)
    run = read_run(folder / "bm25-test" / "run.trec")
    for query, row in zip(queries, numbers, strict=True):
        assert set(ranking(run[query])) == {passages[number].id for number in row if number >= 0}


def test_merged_runs(folder: Path, tmp_path: Path) -> None:
    runs, dev_runs = ([folder / f"{name}-{split}" for name in ("bm25", "encoder")] for split in ("test", "dev"))
    by_ranks = merge(Merge(runs=runs, data=folder / "data", out=tmp_path / "ranks"))
    assert by_ranks["weights"] is None
    assert metrics(tmp_path / "ranks") == by_ranks["metrics"]
    weighted = merge(Merge(runs=runs, dev_runs=dev_runs, data=folder / "data", out=tmp_path / "weighted"))
    assert sum(weighted["weights"]) == pytest.approx(1)
    members = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert weighted["index_bytes"] == sum(member["index_bytes"] for member in members)
    assert weighted["queries_per_second"] < min(member["queries_per_second"] for member in members)
    # Chosen on the dev queries, where no member alone can be better.
    on_dev = merge(Merge(runs=dev_runs, dev_runs=dev_runs, data=folder / "data", split="dev", out=tmp_path / "dev"))
    assert on_dev["weights"] == weighted["weights"]
    assert on_dev["metrics"]["ndcg@10"] >= max(metrics(run)["ndcg@10"] for run in dev_runs)


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="bm25-dev: ranks none of the judged queries"):
        merge(Merge(runs=[folder / "bm25-test", folder / "bm25-dev"], data=folder / "data", out=tmp_path))
    beir_folder(tmp_path / "other")
    (tmp_path / "other/corpus.jsonl").open("a").write('{"_id": "more", "text": "one more"}\n')
    with pytest.raises(DupmaeError, match="index: does not hold the passages of"):
        evaluate_retriever(Evaluate(index=folder / "index", data=tmp_path / "other", out=tmp_path))
    with pytest.raises(ValidationError, match="more than one of retriever, index and bm25"):
        Evaluate(index=folder / "index", bm25=True, data=folder, out=tmp_path)
    with pytest.raises(ValidationError, match="dev_runs: 1 given for 2 runs"):
        Merge(runs=[folder, tmp_path], dev_runs=[folder], data=folder, out=tmp_path)
