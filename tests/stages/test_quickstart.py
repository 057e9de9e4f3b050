"""The quickstart: a chain like any other, whose report has the same rows in the same order."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.search.index import Index
from dupmae.settings import Quickstart
from dupmae.settings.loading import find_recipe, load
from dupmae.stages import quickstart as stage
from dupmae.stages.chain import stages_of
from tests.paths import ROOT

SYSTEMS = [
    "bm25", "encoder", "bm25-encoder-ranks", "bm25-encoder", "dense", "bm25-dense", "hybrid", "dupmae-dense",
    "dupmae-sparse", "dupmae",
]  # fmt: skip
ROOTS = [Path(sysconfig.get_paths()["stdlib"]) / name for name in ("asyncio", "email")]
TINY = [
    "from_scratch.layers=1",
    "from_scratch.hidden=32",
    "vocabulary=400",
    "documents=100",
    "test_queries=20",
    "stages.documentation.dev_share=0.05",
    "stages.pretrain.minutes=null",
    "stages.pretrain.steps=3",
    "stages.pretrain.batch_tokens=512",
    "stages.pretrain.contrastive.batch_size=4",
    "stages.no-pretraining.minutes=null",
    "stages.no-pretraining.steps=3",
    *(f"stages.{name}.batch_size=4" for name in ("no-pretraining", "finetuned-dense", "retriever")),
]


def tiny(out: Path) -> Quickstart:
    return load(Quickstart, None, TINY, out=out, roots=ROOTS)


def checked(*words: str) -> dict[str, Any]:
    """Settings of the stages by name, as a quickstart with these words has them."""
    chain = stage.chain_settings(load(Quickstart, None, words))
    return {found.name: found.settings for found in stages_of(chain, find_recipe("quickstart", ""))}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    return folder, stage.quickstart(tiny(folder))


def test_the_report_has_every_system_and_figure(run: tuple[Path, dict[str, Any]]) -> None:
    folder, report = run
    assert list(report["systems"]) == SYSTEMS
    for figures in report["systems"].values():
        assert 0 <= figures["ndcg@10"] <= 1
        assert figures["mrr@10"] <= figures["recall@100"] <= 1
        assert figures["queries_per_second"] > 0
        assert figures["index_bytes"] > 0
    assert report["dataset"]["queries"] == 20
    assert len(report["p_values"]) == len(SYSTEMS) - 1
    assert all("dupmae" in pair.split(" against ") for pair in report["p_values"])
    assert report["peak_memory_bytes"] > 10_000_000
    assert report["seconds"]["total"] >= report["seconds"]["pretrain"] > 0
    assert all(not ran["before"] for ran in report["stages"])
    for name in ("report.html", "report.png", "report.md"):
        assert (folder / "report" / name).stat().st_size > 0


def test_the_check_of_the_report_knows_its_rows(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    report = json.loads((run[0] / "report/report.json").read_text())
    for name, figures in report["systems"].items():
        figures["ndcg@10"] = 0.9 if name == "dupmae" else 0.5
    file = tmp_path / "report.json"

    def check() -> subprocess.CompletedProcess[str]:
        file.write_text(json.dumps(report))
        return subprocess.run([sys.executable, ROOT / ".ci/check_report.py", file], capture_output=True, text=True)

    assert check().returncode == 0, check().stderr
    report["systems"]["encoder"]["ndcg@10"] = 0.95
    assert "does not beat encoder" in check().stderr
    del report["systems"]["bm25-dense"]
    assert check().returncode == 1


def test_parts_of_one_index_add_up(run: tuple[Path, dict[str, Any]]) -> None:
    systems = run[1]["systems"]
    parts = systems["dupmae-dense"]["index_bytes"] + systems["dupmae-sparse"]["index_bytes"]
    assert systems["dupmae"]["index_bytes"] == pytest.approx(parts, rel=0.05)


def test_the_run_leaves_encoder_retriever_and_index(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    assert (folder / "pretrain" / "encoder" / "model.safetensors").exists()
    hits = Index.open(folder).search("wait for a task", k=3)
    assert [hit.rank for hit in hits] == [1, 2, 3]


def test_all_fine_tunings_have_the_same_steps(run: tuple[Path, dict[str, Any]]) -> None:
    trained = {ran["name"]: ran["steps"] for ran in run[1]["stages"] if ran["kind"] == "finetune"}
    assert trained == dict.fromkeys(("no-pretraining", "finetuned-dense", "retriever"), 3)


def test_pre_training_learns_pairs_of_the_documents(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    first = json.loads((folder / "pretrain" / "log.jsonl").read_text().splitlines()[0])
    assert {"mlm", "decoder", "bow", "contrastive"} <= set(first)
    queries = [json.loads(line) for line in (folder / "synthesize" / "queries.jsonl").read_text().splitlines()]
    judged = [json.loads(line) for line in (folder / "documentation/retrieval/queries.jsonl").open()]
    # Summaries are what the documents lack.
    assert not {query["text"] for query in queries} & {query["text"] for query in judged}


def test_a_second_run_does_nothing_and_another_one_the_same(run: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, report = run
    again = stage.quickstart(tiny(folder))
    assert all(ran["before"] for ran in again["stages"])
    other = stage.quickstart(tiny(tmp_path / "run"))
    assert {n: s["ndcg@10"] for n, s in other["systems"].items()} == {
        n: s["ndcg@10"] for n, s in report["systems"].items()
    }
    for name in ("pretrain", "retriever-training", "no-pretraining-training"):
        first, second = (
            [json.loads(line)["loss"] for line in (base / name / "log.jsonl").read_text().splitlines()]
            for base in (folder, tmp_path / "run")
        )
        assert first == second


def test_short_runs_have_short_passages_and_few_queries() -> None:
    short, long = checked("minutes=1"), checked("minutes=8")
    assert [found["no-pretraining"].passage_length for found in (short, long)] == [64, 96]
    assert [found["documentation"].test_queries for found in (short, long)] == [3000, 8000]
    assert [found["no-pretraining"].minutes for found in (short, long)] == [0.225, 1.0]
    assert checked("minutes=1", "passage_length=80")["as-it-comes"].passage_length == 80


def test_a_run_starts_from_the_model_or_from_nothing() -> None:
    model, nothing = checked(), checked("from_scratch.hidden=64")
    assert "start" not in model
    assert (model["pretrain"].model, model["prepare"].tokenizer) == ("minilm", "minilm")
    assert nothing["pretrain"].model == str(nothing["start"].out)
    assert nothing["prepare"].tokenizer is None
    assert nothing["retriever"].representation.dimensions == 64


def test_test_documents_can_be_kept_out_of_training() -> None:
    assert checked()["documentation"].test_documents_in_training
    assert not checked("test_documents_in_training=false")["documentation"].test_documents_in_training


def test_a_setting_that_no_stage_has_is_refused() -> None:
    with pytest.raises(DupmaeError, match="stage pretrain: no setting learning_rat"):
        checked("stages.pretrain.learning_rat=1")
    with pytest.raises(DupmaeError, match="no stage pre-training"):
        checked("stages.pre-training.steps=1")
