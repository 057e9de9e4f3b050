"""Whether pre-training works: utilisation, padding, time left and the retrieval probe, in every log line."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dupmae.console import logger
from dupmae.training import processes
from dupmae.training.flops import Texts
from dupmae.training.loop import Line
from dupmae.training.peak import matmul_peak
from dupmae.training.probe import Probe
from dupmae.training.run import Lines, Watcher

# Counted work of a probe, as a share of the training between two. With those at the first and the last step there are
# three at most in the time of one interval, 1.8% of the counted work; measured on a CPU a probe runs 1.6 times as many
# operations a second as a step does, which leaves 1.1% of the time.
PROBE_SHARE = 0.006
TYPICAL_STEPS = 16


class Watched(Protocol):
    """Joint batches of text that a monitor counts."""

    def step_lengths(self, step: int) -> NDArray[np.integer[Any]]:
        """Tokens of each row of a step's text [B]."""
        ...


class Monitor(Watcher):
    """Looks on while pre-training goes.

    Args:
        dtype: of the steps' matrix products.
        work: counts the operations of a step's texts, forward and backward.
        beside: counts the operations of a step (counted from 0) that are not its texts'; called once for each step.
        parts: how many parts a batch is dealt out to.
        probe_every: steps between probes; the first and the last step have one too.
        patience: the run ends after this many probes without a better one; none: never.
        stop_on: names of the figures whose mean says which probe is better.
    """

    def __init__(
        self,
        data: Watched,
        dtype: torch.dtype,
        work: Callable[[Texts], float],
        *,
        beside: Callable[[int], float] = lambda step: 0.0,
        parts: int = 1,
        probe: Probe | None = None,
        probe_every: int = 1,
        patience: int | None = None,
        stop_on: Sequence[str] = (),
    ) -> None:
        self._data, self._dtype, self._work, self._beside, self._parts = data, dtype, work, beside, parts
        self._probe, self._probe_every, self._patience, self._stop_on = probe, probe_every, patience, stop_on
        self._pending: Line = {}
        self._best, self._worse = -math.inf, 0

    def begin(self, done: int, steps: int, lines: Lines) -> None:
        """Measure the peak, and take up the probes of an earlier part of the run from its log lines."""
        self._steps, self._first = steps, done
        self._peak = matmul_peak(self._dtype) * processes.count()
        known = processes.agreed(lines)
        for earlier in known:
            self._judge(earlier)
        self._logged = int(known[-1]["step"]) if known else 0
        if processes.rank() == 0:
            name = str(self._dtype).removeprefix("torch.")
            speed = f"matrix products in {name} reach {self._peak / 1e9:,.0f} GFLOP/s here"
            logger.info(f"{speed}; utilisation is the counted work of a second against that")
        self._start = self._clock = time.perf_counter()

    def after_step(self, done: int) -> bool:
        """Probe when it is time to; returns whether a log line is due whatever the settings say."""
        if self._probe is None:
            return False
        if done not in (1, self._steps) and done % self._probe_every:
            return False
        self._pending = self._probe.measure()
        self._judge(self._pending)
        if self.ended and processes.rank() == 0:
            logger.info(f"step {done:,}: {self._worse} probes without a better one, the run ends here")
        return True

    def complete(self, line: Line) -> None:
        """Add what was counted since the last line, and the probe; `line` has `step` and the loss terms."""
        now, done = time.perf_counter(), int(line["step"])
        batches = [self._data.step_lengths(step) for step in range(self._logged, done)]
        tokens = sum(int(lengths.sum()) for lengths in batches)
        padded = sum(_padded(lengths, self._parts) for lengths in batches)
        # Steps that another process did before this one resumed took none of this one's time.
        first = max(self._first, self._logged)
        work = sum(self._work(Texts.of(lengths)) for lengths in batches[first - self._logged :])
        work += sum(map(self._beside, range(first, done)))
        rate = work / max(now - self._clock, 1e-9)
        line["padding_share"] = 1 - tokens / max(padded, 1)
        if done > first:
            line["flops_per_second"], line["utilisation"] = rate, rate / self._peak
        line["processes"] = processes.count()
        line["seconds_left"] = (now - self._start) / max(1, done - self._first) * (self._steps - done)
        line |= self._pending
        self._pending, self._logged, self._clock = {}, done, now

    def _judge(self, figures: Mapping[str, float]) -> None:
        """Count the probes since the best one."""
        if self._patience is None or not all(name in figures for name in self._stop_on):
            return
        value = sum(figures[name] for name in self._stop_on) / len(self._stop_on)
        if value > self._best:
            self._best, self._worse = value, 0
        else:
            self._worse += 1
        self.ended = self._worse >= self._patience


def probe_interval(probe: Probe, data: Watched, work: Callable[[Texts], float], steps: int) -> int | None:
    """Steps between two probes at which they are `PROBE_SHARE` of the work; None where the run is shorter than that."""
    typical = [work(Texts.of(data.step_lengths(step))) for step in range(min(steps, TYPICAL_STEPS))]
    # Each process does the whole probe, but only its share of a step.
    every = math.ceil(probe.flops() * processes.count() / (PROBE_SHARE * sum(typical) / len(typical)))
    if steps >= every:
        return every
    if processes.rank() == 0:
        logger.info(f"no retrieval probe in a run shorter than {every:,} steps, unless probe_every asks for it")
    return None


def _padded(lengths: NDArray[np.integer[Any]], parts: int) -> int:
    """Tokens of a batch with its padding, when every `parts`-th row goes to the same part."""
    dealt = [lengths[part::parts] for part in range(min(parts, len(lengths)))]
    return sum(len(part) * int(part.max()) for part in dealt)
