"""The monitor of a run: what log lines say beyond the losses, TensorBoard files, early stop, and the probe's cost."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.settings import Masking, Objective, Prepare, Pretrain
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import pretrain
from dupmae.training import monitor as module
from dupmae.training import run as run_module
from dupmae.training.flops import Shape, Texts, step_flops
from dupmae.training.log import TIMED, note, read_log
from dupmae.training.monitor import Monitor
from dupmae.training.probe import Probe
from tests.reference.tiny import sentences
from tests.stages.test_joint import launch
from tests.tiny import beir_folder

SHAPE = {"layers": 1, "hidden": 32, "heads": 2}
PROBED = {f"probe_{score}_{metric}" for score in ("cls", "bow") for metric in ("mrr@10", "ndcg@10")}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(module, "matmul_peak", lambda dtype: 1e12)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("monitor")
    lines = sentences(120)
    write_text(folder / "texts.txt", "\n".join(f"{a}. {b}." for a, b in pairwise(lines)))
    prepare(Prepare(inputs=[folder / "texts.txt"], out=folder / "data", vocabulary=150, max_length=48, workers=1))
    return folder / "data"


def settings(data: Path, out: Path, **changes: Any) -> Pretrain:
    values = {"data": [data], "out": out, "from_scratch": SHAPE, "batch_tokens": 512, "dtype": "fp32", "log_every": 4}
    return Pretrain.model_validate({**values, **changes})


def untimed(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name not in TIMED} for line in log]


def test_every_line_says_how_fast_and_how_long(data: Path, tmp_path: Path) -> None:
    log = pretrain(settings(data, tmp_path / "run", steps=8, probe_every=0)).log
    assert [line["step"] for line in log] == [1, 4, 8]
    for line in log:
        assert 0 < line["utilisation"] < 1
        assert line["flops_per_second"] == pytest.approx(line["utilisation"] * 1e12)
        assert line["processes"] == 1
        assert 0 <= line["padding_share"] < 0.1
        assert not PROBED & set(line)
    assert log[0]["seconds_left"] > log[-1]["seconds_left"] == 0


def test_the_probe_runs_at_the_first_and_the_last_step_and_between(data: Path, tmp_path: Path) -> None:
    log = pretrain(settings(data, tmp_path / "run", steps=8, probe_every=3)).log
    assert [line["step"] for line in log] == [1, 3, 4, 6, 8]
    assert [line["step"] for line in log if set(line) >= PROBED] == [1, 3, 6, 8]
    assert all(0 <= line[name] <= 1 for line in log for name in PROBED & set(line))
    read = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert read == log


def test_the_probe_changes_nothing_of_the_training(data: Path, tmp_path: Path) -> None:
    """Dropout is on: a single draw from the random state, or a mode left behind, would show."""
    weights = []
    for every in (0, 1):
        run = pretrain(settings(data, tmp_path / str(every), steps=6, probe_every=every))
        weights.append(load_file(run.encoder / "model.safetensors"))
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_a_resumed_run_logs_the_same_probes(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain(settings(data, tmp_path / "whole", steps=8, save_every=3, probe_every=2))
    measure, calls = Probe.measure, []

    def stops(self: Probe) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 4:  # steps 1, 2, 4, then 6
            raise KeyboardInterrupt
        return measure(self)

    monkeypatch.setattr(Probe, "measure", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(data, tmp_path / "stopped", steps=8, save_every=3, probe_every=2))
    monkeypatch.undo()
    monkeypatch.setattr(module, "matmul_peak", lambda dtype: 1e12)
    resumed = pretrain(settings(data, tmp_path / "stopped", steps=8, save_every=3, probe_every=2, resume=True))
    assert untimed(resumed.log) == untimed(whole.log)


def falling(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let every probe after the second be worse than the one before."""
    values, calls = [0.2, 0.5, 0.4, 0.3, 0.2, 0.1], []

    def measure(self: Probe) -> dict[str, float]:
        calls.append(1)
        return dict.fromkeys(PROBED, values[len(calls) - 1])

    monkeypatch.setattr(Probe, "measure", measure)
    return calls


def test_the_run_ends_when_patience_does(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    falling(monkeypatch)
    run = pretrain(settings(data, tmp_path / "run", steps=40, probe_every=5, patience=2))
    assert run.steps == run.log[-1]["step"] == 15
    assert (run.encoder / "config.json").is_file()
    assert (tmp_path / "run" / "checkpoint-15").is_dir()
    again = pretrain(settings(data, tmp_path / "run", steps=40, probe_every=5, patience=2, resume=True))
    assert again.steps == 15


def test_patience_counts_on_after_a_resume() -> None:
    earlier = [{"step": 5 * place, **dict.fromkeys(PROBED, value)} for place, value in enumerate([0.5, 0.4], 1)]
    names = sorted(PROBED)
    watching = Monitor(None, torch.float32, lambda texts: 0.0, patience=2, stop_on=names)  # type: ignore[arg-type]
    watching.begin(10, 40, [*earlier, {"step": 10}])
    assert not watching.ended
    again = Monitor(None, torch.float32, lambda texts: 0.0, patience=1, stop_on=names)  # type: ignore[arg-type]
    again.begin(10, 40, earlier)
    assert again.ended


def test_a_short_run_has_no_probe_and_a_long_one_few(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level("INFO", logger="dupmae"):
        log = pretrain(settings(data, tmp_path / "run", steps=4)).log
    assert not any(PROBED & set(line) for line in log)
    (told,) = [record.message for record in caplog.records if "no retrieval probe" in record.message]
    interval = int(told.split(" steps")[0].rsplit(" ", 1)[1].replace(",", ""))
    # The halves of all 119 records once, forward, against 3 passes and more of 512 tokens a step.
    shape = Shape(1, 32, 128, 150)
    step = step_flops(shape, Texts.of([30] * 17), Objective(), Masking())
    assert 100 < interval < 10_000
    assert 3 * interval * module.PROBE_SHARE * step > 3 * 119 * 2 * 15 * 2 * 32 * 150


def test_a_beir_folder_is_probed(data: Path, tmp_path: Path) -> None:
    beir = beir_folder(tmp_path / "beir", 20)
    log = pretrain(settings(data, tmp_path / "run", steps=2, probe_every=2, probe=beir, probe_split="test")).log
    assert set(log[-1]) >= PROBED


def test_tensorboard_reads_the_figures(data: Path, tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = pretrain(settings(data, tmp_path / "run", steps=8, probe_every=4, tensorboard=True)).log
    read = events.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set().union(*log) - {"step"}
    assert [event.step for event in read.Scalars("loss")] == [line["step"] for line in log]
    assert [event.value for event in read.Scalars("loss")] == pytest.approx([line["loss"] for line in log])


def test_no_tensorboard_files_unless_asked_for(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(settings(data, tmp_path / "run", steps=1))
    assert not (tmp_path / "run" / "tensorboard").exists()
    monkeypatch.setattr(run_module, "find_spec", lambda name: None)
    with pytest.raises(DupmaeError, match="tensorboard: needs the package tensorboard"):
        pretrain(settings(data, tmp_path / "other", steps=1, tensorboard=True))
    assert not (tmp_path / "other").exists()


def test_the_note_of_the_progress_bar_has_terms_speed_and_probe() -> None:
    line = {
        "step": 3,
        "loss": 9.5,
        "mlm": 4.5,
        "mlm_accuracy": 0.25,
        "learning_rate": 1e-4,
        "tokens_per_second": 2712.0,
    }
    line |= {"utilisation": 0.43, "seconds_left": 60.0, "padding_share": 0.01, "probe_cls_mrr@10": 0.5}
    told = note(line)
    for part in ("loss 9.5", "MLM 4.5", "MLM accuracy 0.25", "2,712 tokens/s", "43% of peak", "[CLS] MRR@10 0.5"):
        assert part in told
    assert "learning" not in told


def test_two_processes_that_share_the_weights_probe_as_one(data: Path, tmp_path: Path) -> None:
    common = {"data": [str(data)], "from_scratch": {**SHAPE, "layers": 2}, "steps": 3, "dropout": 0.0, "dtype": "fp32"}
    common |= {"batch_tokens": 512, "learning_rate": 1e-3, "probe_every": 2, "patience": 9}
    launch(tmp_path, [{**common, "out": str(tmp_path / "two"), "sharding": "full"}])
    one = pretrain(Pretrain.model_validate({**common, "out": tmp_path / "one"})).log
    two = read_log(tmp_path / "two")
    assert [line["step"] for line in two if set(line) >= PROBED] == [1, 2, 3]
    for mine, theirs in zip(one, two, strict=True):
        for name in PROBED:
            # Sums in another order: a near tie may fall the other way.
            assert mine[name] == pytest.approx(theirs[name], abs=0.02)
