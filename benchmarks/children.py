"""Variants that are compared, each in a process of its own, so that the peak of memory is its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from argparse import SUPPRESS, ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

Step = Callable[[], Tensor]
# Options that do not say what is measured.
NO_SETTINGS = ("variant", "json", "threads", "alone", "profile")


def parser(told: str | None, sizes: Sequence[tuple[str, int, str]], variants: Sequence[str], of: str) -> ArgumentParser:
    """The options that all benchmarks of variants have.

    Args:
        sizes: names of whole numbers, their defaults and meanings.
        of: what has the dtype.
    """
    made = ArgumentParser(description=told, formatter_class=ArgumentDefaultsHelpFormatter)
    for name, default, meaning in sizes:
        made.add_argument(f"--{name}", type=int, default=default, help=meaning)
    made.add_argument("--threads", type=int, help="threads (torch's own choice when not given)")
    made.add_argument("--dtype", choices=["auto", "bf16", "fp32"], default="auto", help=f"of {of}")
    made.add_argument("--json", action="store_true", help="print one JSON object")
    made.add_argument("--variant", choices=variants, help=SUPPRESS)
    return made


def run(
    options: Namespace,
    measure: Callable[[Namespace], dict[str, Any]],
    compare: Callable[[Namespace], dict[str, Any]],
    table: Callable[[dict[str, Any]], str],
) -> None:
    """In a child `measure` its variant, else `compare` them all; print the figures."""
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if options.variant is not None:
        print(json.dumps(measure(options)))
        return
    told = {name: value for name, value in vars(options).items() if name not in NO_SETTINGS}
    result = {"settings": told, "threads": torch.get_num_threads(), **compare(options)}
    print(json.dumps(result) if options.json else table(result))


def child(benchmark: str, variant: str, *, may_fail: bool = False) -> dict[str, Any]:
    """The figures of one variant; where it may fail, the error that ended it."""
    command = [sys.executable, "-m", f"benchmarks.{benchmark}", *sys.argv[1:], "--variant", variant]
    errors = subprocess.PIPE if may_fail else None
    done = subprocess.run(command, check=not may_fail, stdout=subprocess.PIPE, stderr=errors, text=True)
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
    return {"step_seconds": spread(seconds), "memory_bytes": peak_memory(device) - before, "loss": value}


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Minimum, median and maximum."""
    return {"min": min(seconds), "median": median(seconds), "max": max(seconds)}


def _held(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.memory_allocated()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_memory(device: torch.device) -> int:
    """Most bytes that the process held: resident, or on a GPU what torch allocated there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
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
