"""The page on fine-tuning: its commands run or are understood, and the settings it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dupmae import commands
from dupmae import settings as recipe
from dupmae.corpus.beir import Passage
from dupmae.retriever.backbones import new_backbone
from dupmae.retriever.model import Retriever
from dupmae.settings import FromScratch
from dupmae.shards.tokenizers import train_wordpiece
from tests.paths import DOCS
from tests.tiny import beir_folder, call, documents, stand_in

PAGE = (DOCS / "fine-tuning.md").read_text(encoding="utf-8")
SMALL = {
    r"steps[ =]\d+": "steps=2",
    "batch_size=1024 chunk_size=64": "batch_size=16 chunk_size=5",
    "kind=aggregated": "kind=aggregated representation.aggregated_dimensions=12",
}


def commands_of(page: str) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def encoder(folder: Path, texts: list[Passage]) -> None:
    tokenizer = train_wordpiece([passage.content for passage in texts], 300)
    backbone = new_backbone(FromScratch(layers=1, hidden=16, heads=2), tokenizer, 128)
    backbone.lm.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(tmp_path / "mine", 40)
    encoder(tmp_path / "pretraining" / "encoder", documents(40))
    lines = [line for line in commands_of(PAGE) if line.startswith("dupmae ")]
    for line in lines:
        text = line.replace("--steps", "steps")
        for long, short in SMALL.items():
            text = re.sub(long, short, text)
        words = [*shlex.split(text)[1:], "representation.dimensions=8"]
        assert call(*words) == 0, capsys.readouterr().err
    assert len(lines) == 4
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code.replace("128", "4"), names)
    assert names["retriever"].dimensions == 4
    assert Retriever.load("flat").dimensions == 20
    assert call("report", "retriever-training") == 0


def test_the_launch_line_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[recipe.Finetune] = []

    def finetune(settings: recipe.Finetune) -> commands.Outcome:
        seen.append(settings)
        return commands.Outcome({}, "")

    stand_in(monkeypatch, "finetune", finetune)
    (line,) = [line for line in commands_of(PAGE) if line.startswith("torchrun")]
    assert call("finetune", *shlex.split(line.partition(" finetune ")[2])) == 0
    assert seen[0].batch_size == 128


def test_every_setting_of_the_representation_is_on_the_page() -> None:
    for name in recipe.Representation.model_fields:
        assert f"`{name}`" in PAGE or f"representation.{name}" in PAGE, name
