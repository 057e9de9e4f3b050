"""Variants that are compared, each in a process of its own, so that the peak of memory is its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], Tensor]


def child(benchmark: str, variant: str) -> dict[str, Any]:
    """The figures of one variant, or the error that ended it."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *sys.argv[1:], "--variant", variant]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"ended by signal {-done.returncode}"]
        return {"error": last[0]}
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def timed(loss: Step, steps: int, device: torch.device) -> dict[str, Any]:
    """Seconds of each step after two to warm up, bytes that steps add, and the loss."""
    before = _held(device)
    moments, value = [], 0.0
    for _ in range(steps + 2):
        made = loss()
        made.backward()  # type: ignore[no-untyped-call]
        # Waits for the device.
        value = made.item()
        moments.append(time.perf_counter())
    seconds = [after - start for start, after in pairwise(moments)][1:]
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else _most_resident()
    spread = {"min": min(seconds), "median": median(seconds), "max": max(seconds)}
    return {"step_seconds": spread, "memory_bytes": peak - before, "loss": value}


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _most_resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def lines(result: dict[str, Any], variants: Iterable[str]) -> list[str]:
    """A line for people on each variant."""
    made = []
    for name in variants:
        told = result[name]
        shown = told.get("error") or (
            "{min:.3f} / {median:.3f} / {max:.3f} s".format(**told["step_seconds"])
            + f"  {told['memory_bytes'] / 2**20:,.0f} MiB"
        )
        made.append(f"{name:16}{shown}")
    return made
