"""Files of JSON whose fields have another type: read as far as they are whole, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dupmae.files import read_json, write_text
from dupmae.retriever.card import Measured
from dupmae.retriever.model import read_settings
from dupmae.settings import FromScratch, Prepare, Pretrain
from dupmae.shards.folder import Shards
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import pretrain
from dupmae.training import checkpoints
from tests.damage import refused_or_read
from tests.reference.tiny import sentences
from tests.tiny import call, tiny_retriever


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    write_text(folder / "texts.txt", "\n".join(sentences(60)))
    prepare(Prepare(inputs=[folder / "texts.txt"], out=folder / "shards", vocabulary=150, max_length=32, workers=1))
    return folder / "shards"


def test_the_manifest_of_shards(shards: Path) -> None:
    def read() -> None:
        opened = Shards.open(shards, verify=False)
        opened.get(opened.index.records[:3].astype(int))

    assert refused_or_read(shards / "manifest.json", read) == {}


def test_the_settings_of_a_retriever(tmp_path: Path) -> None:
    folder = tiny_retriever(tmp_path / "retriever").folder
    assert folder is not None
    assert refused_or_read(folder / "representation.json", lambda: read_settings(folder)) == {}


def test_metrics_that_a_card_quotes(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    settings = {"data": "a/b", "split": "test"}
    counts = {"queries": 3, "passages": 4, "judgements": 5}
    found = {"metrics": {"ndcg@10": 0.5}, "counts": counts, "retriever": {"config.json": "00"}, "settings": settings}
    file.write_text(json.dumps(found))
    assert refused_or_read(file, lambda: Measured.read(file)) == {}


def test_the_state_and_manifest_of_a_checkpoint_and_what_stands_beside_it(shards: Path, tmp_path: Path) -> None:
    def settings(**changes: object) -> Pretrain:
        shape = FromScratch(layers=1, hidden=16, heads=2)
        values = {"data": [shards], "out": tmp_path / "run", "from_scratch": shape, "steps": 2, "batch_tokens": 256}
        return Pretrain.model_validate({**values, "dtype": "fp32", "log_every": 1, **changes})

    pretrain(settings())
    run = tmp_path / "run"
    shutil.copytree(run, tmp_path / "whole")
    checkpoint = run / "checkpoint-2"
    for name in ("manifest.json", "state.json"):
        assert refused_or_read(checkpoint / name, lambda: checkpoints.latest(run)) == {}, name
    for file in (run / "run.json", run / "log.jsonl"):
        for damage in (b"[]", b"{}", b"\xff\xfe", b'{"step": "x"}\n{"step": null}\n3\n', b"[" * 50_000):
            file.write_bytes(damage)
            assert pretrain(settings(resume=True)).steps == 2
    assert read_json(tmp_path / "whole" / "checkpoint-2" / "manifest.json") == read_json(checkpoint / "manifest.json")


@pytest.mark.parametrize("name", [".", ".."])
def test_an_output_that_has_no_name(name: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "parent" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "parent" / "here")
    shape = ["from_scratch.layers=1", "from_scratch.hidden=16", "from_scratch.heads=2"]
    words = ["pretrain", f"data={shards}", f"out={name}", *shape, "steps=1", "batch_tokens=256", "--quiet"]
    assert call(*words) == 0
    assert (tmp_path / "parent" / "here" / name / "encoder" / "config.json").is_file()
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps({"query": f"q {n}", "positive": f"p {n}"}) + "\n" for n in range(8)))
    encoder = (Path(name) / "encoder").resolve()
    (tmp_path / "two" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "two" / "here")
    small = ["representation.dimensions=8", "passage_length=32", "batch_size=4", "steps=1", "negatives=0", "--quiet"]
    # `..` holds the folder that it is called from, and that is not to be lost.
    assert call("finetune", f"model={encoder}", f"data={data}", f"out={name}", *small) == (0 if name == "." else 2)
