from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.search.index import Index
from dupmae.settings import Quickstart
from dupmae.settings.loading import load
from dupmae.stages import quickstart as stage
from tests.paths import ROOT

SYSTEMS = ["bm25", "base", "finetuned-dense", "no-pretraining", "dupmae-dense", "dupmae-sparse", "dupmae-hybrid"]
RECIPE = ROOT / "recipes" / "quickstart.yaml"
ROOTS = [Path(sysconfig.get_paths()["stdlib"]) / name for name in ("asyncio", "email")]
TINY = [
    "from_scratch.layers=1",
    "from_scratch.hidden=32",
    "vocabulary=400",
    "documents=100",
    "test_queries=20",
    "pretrain.steps=3",
    "pretrain.batch_tokens=512",
    "finetune.steps=3",
    "finetune.batch_size=4",
    "contrastive.batch_size=4",
]


def tiny(out: Path) -> Quickstart:
    return load(Quickstart, RECIPE, TINY, out=out, roots=ROOTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUPMAE_CACHE", str(folder / "cache"))
        return folder / "run", stage.quickstart(tiny(folder / "run"))


def test_the_report_has_every_system_and_figure(run: tuple[Path, dict[str, Any]]) -> None:
    folder, report = run
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    assert list(report["systems"]) == SYSTEMS
    for figures in report["systems"].values():
        assert 0 <= figures["ndcg@10"] <= 1
        assert figures["mrr@10"] <= figures["recall@100"] <= 1
        assert figures["queries_per_second"] > 0
        assert figures["index_bytes"] > 0
    assert report["dataset"]["test_queries"] == 20
    wanted = {"no_pretraining", "bm25", "base", "finetuned_dense"}
    assert {f"hybrid_vs_{name}" for name in wanted} <= set(report["p_values"])
    assert report["fine_tuning"] == {"steps": 3, "batch_size": 4, "passage_length": 96}
    assert report["peak_memory_bytes"] > 10_000_000
    assert report["seconds"]["total"] >= report["seconds"]["pretrain"] > 0
    assert report["versions"]["torch"]


def test_parts_of_one_index_add_up(run: tuple[Path, dict[str, Any]]) -> None:
    systems = run[1]["systems"]
    parts = systems["dupmae-dense"]["index_bytes"] + systems["dupmae-sparse"]["index_bytes"]
    assert systems["dupmae-hybrid"]["index_bytes"] == pytest.approx(parts, rel=0.05)


def test_the_run_leaves_page_picture_encoder_retriever_and_index(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "DupMAE hybrid" in page
    assert "data:image/svg+xml" in page
    assert (folder / "report.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "pretraining" / "encoder" / "model.safetensors").exists()
    hits = Index.open(folder).search("wait for a task", k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert all(hit.score == pytest.approx(hit.dense + hit.sparse, abs=1e-3) for hit in hits)


def test_pre_training_learns_pairs_of_the_documents(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    first = json.loads((folder / "pretraining" / "log.jsonl").read_text().splitlines()[0])
    assert {"mlm", "decoder", "bow", "contrastive"} <= set(first)
    queries = [json.loads(line) for line in (folder / "pairs" / "queries.jsonl").read_text().splitlines()]
    judged = [json.loads(line) for line in next((folder.parent / "cache").glob("*/retrieval/queries.jsonl")).open()]
    # Summaries are what the documents lack.
    assert not {query["text"] for query in queries} & {query["text"] for query in judged}


def test_the_same_seed_gives_the_same_split_and_losses(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = run
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    again = stage.quickstart(tiny(tmp_path / "run"))
    assert again["dataset"] == report["dataset"]
    for name in ("pretraining", "retriever-training", "no-pretraining-training"):
        first, second = (
            [json.loads(line)["loss"] for line in (base / name / "log.jsonl").read_text().splitlines()]
            for base in (folder, tmp_path / "run")
        )
        assert first == second
    metrics = [{name: figures["ndcg@10"] for name, figures in r["systems"].items()} for r in (report, again)]
    assert metrics[0] == metrics[1]


def test_a_stage_budget_is_given_once() -> None:
    with pytest.raises(DupmaeError, match=r"pretrain\.minutes: give the budget as minutes"):
        load(Quickstart, None, ["pretrain.minutes=3"])


def test_a_short_run_cuts_its_passages() -> None:
    found = {
        minutes: stage._passage_length(load(Quickstart, None, [f"minutes={minutes}"])) for minutes in (1, 3.9, 4, 8)
    }
    assert found == {1: 64, 3.9: 64, 4: 128, 8: 128}
    assert stage._passage_length(load(Quickstart, None, ["minutes=1", "short_passages=80"])) == 80
    assert stage._passage_length(load(Quickstart, None, ["minutes=1", "finetune.passage_length=48"])) == 48
