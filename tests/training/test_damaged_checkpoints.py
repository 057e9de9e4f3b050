"""Damaged checkpoints are stepped over, and a run that has no whole one is left as it is."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from dupmae.errors import DupmaeError
from dupmae.files import write_json
from dupmae.stages.pretrain import pretrain
from dupmae.training import checkpoints
from tests.tiny import call
from tests.training.checkpointed import SHAPE, at_step, flip, names, never_stopped, prepared, settings, weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return never_stopped(data, tmp_path_factory.mktemp("whole") / "run")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda folder: flip(folder / "optimizer.safetensors"),
    "a cut file": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    "a missing file": lambda folder: (folder / "state.json").unlink(),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "an empty manifest": lambda folder: write_json(folder / "manifest.json", {}),
    "a short manifest": lambda folder: write_json(folder / "manifest.json", {"sha256": {}}),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text("{"),
    "nothing but a folder": lambda folder: [path.unlink() for path in folder.iterdir()],
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_checkpoint_is_stepped_over(
    data: Path, whole: Path, tmp_path: Path, kind: str, log_messages: Callable[[], list[str]]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    DAMAGES[kind](run / "checkpoint-6")
    pretrain(settings(data, run, resume=True))
    lines = log_messages()
    (damaged,) = [line for line in lines if ": damaged checkpoint" in line]
    assert damaged.startswith(f"{run / 'checkpoint-6'}: damaged checkpoint, the one before is used (")
    assert lines.index(damaged) < lines.index(f"resuming from {run / 'checkpoint-4'}")
    assert names(run) == names(whole)
    assert weights(run) == weights(whole)
    assert checkpoints.damage(run / "checkpoint-6") is None


def test_a_run_without_a_whole_checkpoint_is_left_as_it_is(
    data: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    flip(run / "checkpoint-6" / "optimizer.safetensors")
    (run / "checkpoint-4" / "state.json").unlink()
    (run / ".checkpoint-2.999999.old").mkdir()
    (run / ".checkpoint-2.999999.old" / "state.json").write_text("{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ["--data", data, "--out", run, "--steps", 6, "--resume", "batch_tokens=256", "dtype=fp32"]
    assert call("pretrain", *words, *(f"from_scratch.{name}={value}" for name, value in SHAPE.items())) == 2
    faults = "checkpoint-6 (optimizer.safetensors is not what was written), checkpoint-4 (state.json is missing)"
    problem = f"{run}: none of its checkpoints is whole: {faults} (move or delete them to start without)"
    assert capsys.readouterr().err.splitlines()[-1] == f"dupmae: {problem}"
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_checkpoint_that_cannot_be_read_for_now_is_not_damaged(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)

    def fails(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checkpoints, "sha256", fails)
    with pytest.raises(DupmaeError, match=r"checkpoint-6/model.*: cannot read: Input/output error \(try again, or"):
        pretrain(settings(data, run, resume=True))
    assert names(run) == names(whole)


def test_a_later_damaged_checkpoint_does_not_push_out_good_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    pretrain(settings(data, run))
    flip(run / "checkpoint-6" / "model.safetensors")
    at_step(monkeypatch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        pretrain(settings(data, run, resume=True))
    assert [path.name for path in checkpoints.listed(run)] == ["checkpoint-4", "checkpoint-5"]
