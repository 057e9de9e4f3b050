"""The pages on pre-training and scaling out: commands run or are understood, figures are the code's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dupmae import commands
from dupmae import settings as recipe
from dupmae.stages.plan import PUBLISHED_PEAKS
from dupmae.training.log import read_log
from tests.paths import DOCS
from tests.tiny import beir_folder, call, stand_in

PAGE = (DOCS / "pretraining.md").read_text(encoding="utf-8")
SCALING = (DOCS / "scaling-out.md").read_text(encoding="utf-8")
SMALL = {"2000": "3", "probe_every=250": "probe_every=2 from_scratch.layers=1 from_scratch.hidden=16 batch_tokens=512"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def test_the_commands_of_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(tmp_path / "mine", 40)
    (text,) = blocks(PAGE, "bash")
    for long, short in SMALL.items():
        assert long in text
        text = text.replace(long, short)
    for line in text.splitlines():
        words = shlex.split(line)
        assert call(*words[1:], *(["vocabulary=300"] if words[1] == "prepare" else [])) == 0, capsys.readouterr().err
    (shown,) = blocks(PAGE, "text")
    assert capsys.readouterr().out.endswith(shown.replace("2,000", "3"))
    named = set(re.findall(r"`([a-z_@0-9]+)`", PAGE.split("| in a line |")[1].split("\n\n")[0]))
    assert named - {"dupmae.training.flops"} == set().union(*read_log(tmp_path / "pretraining")) - {"step"}


def launched(page: str) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines()]


def test_every_launch_line_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[recipe.Pretrain] = []

    def pretrain(settings: recipe.Pretrain) -> commands.Outcome:
        seen.append(settings)
        return commands.Outcome({}, "")

    stand_in(monkeypatch, "pretrain", pretrain)
    lines = [line for line in launched(SCALING) if " pretrain " in line]
    for line in lines:
        launcher, _, words = line.rpartition("dupmae pretrain ")
        assert launcher == "" or re.match(r"(torchrun|accelerate launch) .*-m $", launcher)
        assert call("pretrain", *shlex.split(words)) == 0
    assert len(seen) == 5
    assert all(settings.resume and settings.objective.kind == "dupmae" for settings in seen)
    assert [settings.accumulate for settings in seen] == [8, 1, 1, 1, 1]


def planned(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert call("plan", name, "--gpu", "h100", "--count", "8", "--price", "2.5", "--json") == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_the_table_is_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    rows = re.findall(r"^\| `((?:retro|dup)mae-\S+)` \|.*$", SCALING, re.MULTILINE)
    assert rows == ["retromae-generic", "retromae-msmarco", "dupmae-msmarco"]
    for name in rows:
        told = planned(name, capsys)
        cells = [f"`{name}`", f"{told['tokens'] / 1e9:.1f}", f"{told['steps']:,}", f"{told['flops']:.2e}"]
        cells += [f"{told['device_hours']:.1f}", f"{told['hours']:.1f}", f"{told['cost']:.2f}"]
        assert f"| {' | '.join(cells)} |" in SCALING
    (line,) = [line for line in launched(SCALING) if " plan " in line]
    assert call(*shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out == blocks(SCALING, "text")[0]


def test_the_peaks_are_those_of_the_code() -> None:
    shown = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (\d+) \|$", SCALING, re.MULTILINE))
    assert shown == {name: f"{peak / 1e12:.0f}" for name, peak in PUBLISHED_PEAKS.items()}
    assert "Not yet run on a GPU" in SCALING
    assert "assumed" in SCALING
