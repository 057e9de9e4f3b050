"""The recipe that adapts an encoder to text without labels, with training cut down to single steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupmae.settings import Chain, Finetune
from dupmae.settings.loading import RECIPES, load
from dupmae.stages.chain import stages_of
from tests.reference.tiny import tiny_folder
from tests.tiny import beir_folder, call, documents

RECIPE = RECIPES / "adapt.yaml"
SMALL = [
    "stages.prepare.max_length=48",
    "stages.prepare.workers=1",
    "stages.pretrain.steps=1",
    "stages.pretrain.batch_tokens=256",
    "stages.pretrain.probe_every=0",
    "stages.finetune.steps=1",
    "stages.finetune.batch_size=4",
    "stages.finetune.query_length=16",
    "stages.finetune.passage_length=48",
    "stages.finetune.representation.top_k=16",
]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapt")
    beir_folder(folder / "judged", 20)
    tiny_folder(folder / "model")
    return folder


def adapt(start: Path, data: Path, out: Path, *more: str) -> int:
    width = json.loads((start / "model" / "config.json").read_text())["hidden_size"]
    values = (f"values.data={data}", f"values.model={start / 'model'}", f"values.width={width}")
    return call("run", "adapt", "--out", out, *values, *SMALL, *more, "--json", "--quiet")


def test_judged_text_to_a_measured_index(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    judged = f"values.judged={start / 'judged'}"
    assert adapt(start, start / "judged", out, judged) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in told["stages"]] == [
        "prepare", "synthesize", "pretrain", "finetune", "index", "evaluate",
    ]  # fmt: skip
    assert told["stages"][-1]["metrics"]["mrr@10"] > 0
    assert told["next"] == f"dupmae search {out / 'index'} 'what you look for'"
    assert call("search", out, documents(1)[0].text[:40], "--json") == 0
    assert json.loads(capsys.readouterr().out)["hits"]
    assert adapt(start, start / "judged", out, judged) == 0
    assert all(stage["before"] for stage in json.loads(capsys.readouterr().out)["stages"])


def test_a_folder_of_plain_text_to_an_index(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    for name, part in (("a", documents(6)), ("b", documents(12)[6:])):
        (tmp_path / "texts" / f"{name}.txt").write_text("\n".join(document.text for document in part))
    assert adapt(start, tmp_path / "texts", tmp_path / "run") == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["stages"][-1]["name"] == "index"
    assert call("search", tmp_path / "run", documents(1)[0].text[:40], "--k", 12, "--json") == 0
    found = json.loads(capsys.readouterr().out)["hits"]
    assert {hit["id"] for hit in found} == {str(number) for number in range(1, 13)}


def test_the_dense_part_is_left_to_the_encoder() -> None:
    by_name = {stage.name: stage for stage in stages_of(load(Chain, RECIPE, []), RECIPE)}
    assert "evaluate" not in by_name
    tuned = by_name["finetune"].settings
    assert isinstance(tuned, Finetune)
    assert (tuned.representation.pooling, tuned.representation.normalize) == ("auto", None)
