"""The command of docs/checkpoints.md runs as it stands, with training cut down, and says what the page shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dupmae.files import write_text
from dupmae.settings import Prepare
from dupmae.stages.prepare import prepare
from tests.paths import DOCS
from tests.reference.tiny import sentences
from tests.tiny import call

PAGE = (DOCS / "checkpoints.md").read_text(encoding="utf-8")
SMALL = ["from_scratch.layers=1", "from_scratch.hidden=16", "from_scratch.heads=2", "batch_tokens=64", "dtype=fp32"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_command_starts_resumes_and_steps_over_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text("texts.txt", "\n".join(sentences(20)))
    prepare(Prepare(inputs=[Path("texts.txt")], out=Path("mine/shards"), vocabulary=150, max_length=32))
    (command,), (starts, damaged) = blocks("bash"), blocks("text")
    first, second = starts.splitlines()
    words = [*shlex.split(command.replace("1000", "10").replace("100", "5"))[1:], *SMALL]
    checkpoint = Path("mine/pretraining/checkpoint-10")
    for expected in (first, second, damaged):
        assert call(*words) == 0
        assert expected.replace("1000", "10") in [line[9:] for line in capsys.readouterr().err.splitlines()]
        if expected == second:
            (checkpoint / "model.safetensors").write_bytes(b"not it")
