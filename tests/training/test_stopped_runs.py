"""A stop asked for in the middle of a step costs that step alone: nothing is waited for, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from dupmae.nn.objectives import DuplexMAE
from dupmae.stages.pretrain import pretrain
from dupmae.training import checkpoints
from dupmae.training.log import TIMED
from dupmae.training.probe import Probe
from tests.stages.test_joint import launch
from tests.training import stopped
from tests.training.checkpointed import at_step, prepared, settings, weights

# Dropout is on.
ACCUMULATED: dict[str, Any] = {"accumulate": 3, "save_every": 100, "log_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("stopped"))


def at_pass(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], object]) -> list[int]:
    """Do something in one of the passes of a run (counted from 0); gives those that were begun."""
    forward, passes = DuplexMAE.forward, []

    def acts(self: DuplexMAE, *given: Any) -> dict[str, Tensor]:
        passes.append(len(passes))
        if len(passes) == number + 1:
            act()
        return forward(self, *given)

    monkeypatch.setattr(DuplexMAE, "forward", acts)
    return passes


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def log(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMED} for line in lines]


def test_a_stop_between_passes_drops_the_step(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    pretrain(settings(data, whole, **ACCUMULATED))
    # The second of the three passes of the third step.
    passes = at_pass(monkeypatch, 7, terminate)
    with pytest.raises(SystemExit) as ended:
        pretrain(settings(data, run, **ACCUMULATED))
    assert ended.value.code == 143
    assert len(passes) == 8
    assert [path.name for path in checkpoints.listed(run)] == ["checkpoint-2"]
    monkeypatch.undo()
    pretrain(settings(data, run, **ACCUMULATED, resume=True))
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)


def test_a_stop_in_the_first_step_saves_nothing(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_pass(monkeypatch, 0, terminate)
    with pytest.raises(SystemExit):
        pretrain(settings(data, tmp_path / "run", **ACCUMULATED))
    assert checkpoints.listed(tmp_path / "run") == []
    monkeypatch.undo()
    assert pretrain(settings(data, tmp_path / "run", **ACCUMULATED)).steps == 6


@pytest.mark.parametrize("step", [3, 6])
def test_a_due_probe_waits_for_the_resumed_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """At the last step too: what follows it, its log line and the export belong to the resumed run."""
    probed = {"probe_every": 3, "patience": 9, "log_every": 2, "save_every": 100}
    whole, run = tmp_path / "whole", tmp_path / "run"
    pretrain(settings(data, whole, **probed))
    measure, done = Probe.measure, []

    def counts(self: Probe) -> dict[str, float]:
        done.append(1)
        return measure(self)

    monkeypatch.setattr(Probe, "measure", counts)
    at_step(monkeypatch, step - 1, terminate)
    with pytest.raises(SystemExit):
        pretrain(settings(data, run, **probed))
    # Those after the first step and, where the run went beyond it, the third one.
    assert len(done) == step // 3
    assert [path.name for path in checkpoints.listed(run)] == [f"checkpoint-{step}"]
    assert [line["step"] for line in log(run)] == [line["step"] for line in log(whole) if line["step"] < step]
    monkeypatch.undo()
    pretrain(settings(data, run, **probed, resume=True))
    assert weights(run) == weights(whole)
    assert log(run) == log(whole)


def test_one_process_of_two_is_asked_to_stop(data: Path, tmp_path: Path) -> None:
    changes = {"accumulate": 3, "save_every": 100, "dropout": 0.0}
    jobs = [settings(data, tmp_path / name, **changes).model_dump(mode="json") for name in ("whole", "run")]
    jobs.append({**jobs[1], "resume": True})
    launch(tmp_path, jobs, main=stopped.main)
    found = [json.loads((tmp_path / f"stopped-{rank}.json").read_text()) for rank in (0, 1)]
    assert found == [{"code": 143, "passes": 8, "checkpoints": ["checkpoint-2"]}] * 2
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")
