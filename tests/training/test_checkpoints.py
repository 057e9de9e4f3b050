"""Checkpoints: a stop saves, bad weights and full disks cost nothing saved, other settings are refused."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dupmae.errors import DupmaeError
from dupmae.files import read_json, write_json, write_text
from dupmae.nn.objectives import DuplexMAE
from dupmae.stages.pretrain import Pretrained, pretrain
from dupmae.training import checkpoints, loop
from dupmae.training import run as training
from tests.reference.tiny import sentences
from tests.tiny import call
from tests.training.checkpointed import SHAPE, at_step, names, never_stopped, prepared, settings, weights


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return never_stopped(data, tmp_path_factory.mktemp("whole") / "run")


def test_a_run_killed_before_it_deleted_old_checkpoints_deletes_them(data: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.copytree(run / "checkpoint-4", run / "checkpoint-2")
    shutil.rmtree(run / "encoder")
    pretrain(settings(data, run, resume=True))
    assert names(run) == names(whole)
    assert weights(run) == weights(whole)


def test_resume_without_a_checkpoint_starts_at_the_beginning(
    data: Path, whole: Path, tmp_path: Path, log_messages: Callable[[], list[str]]
) -> None:
    pretrain(settings(data, tmp_path / "run", resume=True))
    assert f"{tmp_path / 'run'}: nothing to resume from, starting at the beginning" in log_messages()
    assert weights(tmp_path / "run") == weights(whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_and_ends_with_its_code(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run, before = tmp_path / "run", signal.getsignal(number)
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as stopped:
        pretrain(settings(data, run, save_every=100))
    assert stopped.value.code == 128 + number
    assert [path.name for path in checkpoints.listed(run)] == ["checkpoint-3"]
    assert not (run / "encoder").exists()
    assert signal.getsignal(number) is before
    monkeypatch.undo()
    pretrain(settings(data, run, save_every=100, resume=True))
    assert weights(run) == weights(whole)
    assert (run / "log.jsonl").read_text().count("\n") == (whole / "log.jsonl").read_text().count("\n")


def test_the_same_command_line_starts_and_resumes(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pretrain", "--data", data, "--out", tmp_path / "run", "--steps", 6, "--resume", "save_every=2"]
    words += ["batch_tokens=256", "dtype=fp32", *(f"from_scratch.{name}={value}" for name, value in SHAPE.items())]
    at_step(monkeypatch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        call(*words)
    monkeypatch.undo()
    assert call(*words) == 0
    assert call(*words) == 0
    assert weights(tmp_path / "run") == weights(whole)


def not_a_number_at(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the loss of these calls of the objective (counted from 0) not a number."""
    forward, calls = DuplexMAE.forward, iter(range(1000))

    def bad(self: DuplexMAE, *given: Any) -> dict[str, Tensor]:
        terms = forward(self, *given)
        scale = float("nan") if next(calls) in steps else 1.0
        return {name: value * scale for name, value in terms.items()}

    monkeypatch.setattr(DuplexMAE, "forward", bad)


def test_a_step_without_a_finite_loss_is_skipped(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_messages: Callable[[], list[str]]
) -> None:
    not_a_number_at(monkeypatch, 1, 3)
    run = pretrain(settings(data, tmp_path / "run", log_every=1))
    assert [line["step"] for line in run.log] == [1, 3, 5, 6]
    assert [line["skipped_steps"] for line in run.log] == [0, 1, 2, 2]
    assert "step 4: loss or gradient not finite, skipped (1 of 10 in a row)" in log_messages()
    assert weights(tmp_path / "run") != weights(whole)
    # Step 4 was due to be saved: the next good one is.
    assert [path.name for path in checkpoints.listed(tmp_path / "run")] == ["checkpoint-5", "checkpoint-6"]


def test_too_many_bad_steps_end_the_run_and_keep_the_good_checkpoints(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, message = tmp_path / "run", r"run: training diverged: 3 steps in a row without a finite .*lower learning_rate"
    monkeypatch.setattr(loop, "MAX_BAD_STEPS", 2)
    # Two in a row, a good one, three in a row.
    not_a_number_at(monkeypatch, 2, 3, 5, 6, 7)
    with pytest.raises(DupmaeError, match=message):
        pretrain(settings(data, run, steps=12))
    assert names(run) == ["checkpoint-2", "checkpoint-5", "log.jsonl"]
    assert [checkpoints.damage(path) for path in checkpoints.listed(run)] == [None, None]


def test_weights_without_a_finite_loss_are_not_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_a_number_at(monkeypatch, 3, 4, 5)
    with pytest.raises(DupmaeError, match=r"run: training diverged: no finite loss at the end \(lower learning_rate"):
        pretrain(settings(data, tmp_path / "run"))
    assert names(tmp_path / "run") == ["checkpoint-2", "log.jsonl"]


def test_weights_that_are_not_finite_are_not_saved(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, update = tmp_path / "run", torch.optim.AdamW.step
    pretrain(settings(data, run, steps=2))

    def overflows(self: torch.optim.AdamW, *given: Any) -> None:
        update(self, *given)
        self.param_groups[0]["params"][0].data[0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", overflows)
    with pytest.raises(DupmaeError, match=r"diverged: inner.* is not finite \(lower learning_rate\)"):
        pretrain(settings(data, run, steps=3, resume=True))
    assert names(run) == ["checkpoint-2", "encoder", "log.jsonl"]
    assert checkpoints.damage(run / "checkpoint-2") is None


@pytest.mark.parametrize("limit", [1_000, 30_000])
def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half(data: Path, tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stops a write in the middle, as a full disk does; weights take 60 kB."""
    run = tmp_path / "run"
    pretrain(settings(data, run, steps=3))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DupmaeError, match=r"checkpoint-4: cannot write: .*File too large.*free some space"):
            pretrain(settings(data, run, resume=True))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(run) == ["checkpoint-2", "checkpoint-3", "encoder", "log.jsonl"]
    assert checkpoints.damage(run / "checkpoint-3") is None
    pretrain(settings(data, run, resume=True))
    assert checkpoints.damage(run / "checkpoint-6") is None


def test_other_settings_are_refused(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "run"))
    # As many records by the same tokenizer, two words of each changed about.
    texts = [" ".join([*text.split()[1::-1], *text.split()[2:]]) for text in sentences(120)]
    changed = prepared(tmp_path, texts, tokenizer=str(data / "tokenizer"))
    write_text(tmp_path / "pairs.csv", "\n".join(["sent0,sent1", *(f"{text[:9]},{text}" for text in texts[:9])]))
    pairs = {"data": tmp_path / "pairs.csv", "query_length": 8, "passage_length": 16}
    for changes, message in (
        ({"seed": 1}, r"checkpoint-6: seed is 1, the run was started with 0 \(resume with the settings"),
        ({"batch_tokens": 128}, "batch_tokens is 128, the run was started with 256"),
        ({"dtype": "bf16"}, "dtype is bf16, the run was started with fp32"),
        ({"dropout": 0.2}, "dropout is 0.2, the run was started with None"),
        ({"weight_decay": 0.1}, "weight_decay is 0.1, the run was started with 0.01"),
        ({"contrastive": pairs}, "contrastive.weight is 1.0, the run was started with None"),
        ({"from_scratch": {**SHAPE, "layers": 2}}, "is of another model: .*layer.1.* differs"),
        ({"from_scratch": {**SHAPE, "hidden": 32}}, "is of another model"),
    ):
        with pytest.raises(DupmaeError, match=message):
            pretrain(settings(data, tmp_path / "run", resume=True, **changes))
    shutil.copytree(data, tmp_path / "moved")
    assert pretrain(settings(tmp_path / "moved", tmp_path / "run", resume=True)).steps == 6
    with pytest.raises(DupmaeError, match=r"data is \['.{16}'\], the run was started with \['.{16}'\]"):
        pretrain(settings(changed, tmp_path / "run", resume=True))


def test_a_run_can_be_lengthened(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "run", steps=4))
    longer = pretrain(settings(data, tmp_path / "run", steps=8, resume=True))
    assert longer.log[-1]["step"] == 8
    assert [path.name for path in checkpoints.listed(tmp_path / "run")] == ["checkpoint-6", "checkpoint-8"]


def test_a_resumed_time_budget_keeps_its_steps(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    changes = {"steps": None, "minutes": 0.003}
    first = pretrain(settings(data, tmp_path / "run", **changes))
    speeds = read_json(tmp_path / "cache" / "speed.json")
    write_json(tmp_path / "cache" / "speed.json", dict.fromkeys(speeds, 0.18 / (first.steps + 2.5)))
    again = pretrain(settings(data, tmp_path / "run", resume=True, **changes))
    assert again.steps == first.steps
    assert pretrain(settings(data, tmp_path / "other", **changes)).steps == first.steps + 2


@pytest.mark.parametrize("text", ["", "[]", "{", "{}", "null"])
def test_damaged_side_files_count_as_absent(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    changes = {"steps": None, "minutes": 0.003}
    pretrain(settings(data, tmp_path / "run", **changes))
    for file in (tmp_path / "cache" / "speed.json", tmp_path / "run" / "run.json"):
        file.write_text(text)
    assert pretrain(settings(data, tmp_path / "run", resume=True, **changes)).steps >= 1


def test_without_a_number_of_steps_checkpoints_follow_the_clock(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    at_step(monkeypatch, 5, lambda: kept.extend(names(tmp_path / "run")))
    run: Pretrained = pretrain(settings(data, tmp_path / "run", save_every=None))
    assert run.steps == 6
    assert kept == ["checkpoint-4", "checkpoint-5", "log.jsonl"]
