"""Kill pre-training runs at chosen moments, start them again, and say what they ended with.

`main` prints one JSON object: `whole` is what a run that was never stopped ends with, `stopped` has, for each of the
points, where the run was killed and what it ended with. Each run is a forked child of a process that has the libraries.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from dupmae.files import sha256
from dupmae.settings import Pretrain
from dupmae.stages.pretrain import pretrain
from dupmae.training import checkpoints
from dupmae.training.log import TIMED

STEPS, EVERY = 7, 2


def settings(data: Path, out: Path) -> Pretrain:
    """Dropout is on, log lines span checkpoints, and the same settings start a run and resume it."""
    values = {"from_scratch": {"layers": 1, "hidden": 16, "heads": 2}, "batch_tokens": 256, "dtype": "fp32"}
    return Pretrain.model_validate(
        {**values, "data": data, "out": out, "steps": STEPS, "save_every": EVERY, "log_every": 3, "resume": True}
    )


class CallCounter:
    """Counts calls of Python and C functions, and of those the ones inside a save; ends the process at one of them."""

    def __init__(self, at: int | None = None, in_save: bool = False) -> None:
        self.calls, self.saving_calls = 0, 0
        self._at, self._in_save, self._depth = at, in_save, 0

    def __call__(self, frame: Any, event: str, argument: object) -> None:
        if frame.f_code is checkpoints.save.__code__ and event in ("call", "return"):
            self._depth += 1 if event == "call" else -1
        if event in ("call", "c_call"):
            self.calls += 1
            self.saving_calls += self._depth > 0
            if self._at == (self.saving_calls if self._in_save else self.calls):
                os.kill(os.getpid(), signal.SIGKILL)


def run(data: Path, out: Path, counter: CallCounter | None = None) -> None:
    torch.set_num_threads(1)
    sys.setprofile(counter)
    pretrain(settings(data, out))
    sys.setprofile(None)


def in_child(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Run something in a forked child; returns its exit status, negative after a signal."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end(out: Path) -> dict[str, Any]:
    """Everything a run leaves but the measured speed."""
    last = out / f"checkpoint-{STEPS}"
    files = [out / "encoder" / "model.safetensors", last / "model.safetensors", last / "optimizer.safetensors"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    for line in log:
        for name in TIMED:
            line.pop(name)
    names = sorted(path.name for path in out.iterdir())
    return {"sums": [sha256(file) for file in files], "log": log, "names": names}


def load_rules() -> None:
    """What transformers reads once when it first writes a model, before children would all do so."""
    with tempfile.TemporaryDirectory() as scratch:
        BertModel(BertConfig(vocab_size=9, hidden_size=2, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
            scratch
        )


def main(data: Path, out: Path, points: int) -> None:
    def counted() -> None:
        counter = CallCounter()
        run(data, out / "counted", counter)
        (out / "calls.json").write_text(json.dumps([counter.calls, counter.saving_calls]))

    load_rules()
    start = time.monotonic()
    assert in_child(lambda: run(data, out / "whole")) == 0
    seconds = time.monotonic() - start
    assert in_child(counted) == 0
    calls, saving_calls = json.loads((out / "calls.json").read_text())
    drawn = random.Random(0)
    stopped = []
    for point in range(points):
        run_folder = out / f"stopped-{point}"
        kind = ("save", "anywhere", "outside")[point % 3]
        if kind == "outside":
            code = in_child(lambda folder=run_folder: run(data, folder), drawn.uniform(0, seconds))
        else:
            at = drawn.randint(1, saving_calls if kind == "save" else calls)
            counter = CallCounter(at, kind == "save")
            code = in_child(lambda folder=run_folder, counter=counter: run(data, folder, counter))
        found = sorted(path.name for path in run_folder.iterdir()) if run_folder.exists() else []
        again = in_child(lambda folder=run_folder: run(data, folder))
        stopped.append({"kind": kind, "code": code, "found": found, "again": again, **end(run_folder)})
    print(json.dumps({"whole": end(out / "whole"), "stopped": stopped}))
