"""Whether pre-training works: utilisation, padding, time left and the retrieval probe, in every log line.

`watcher` makes the `Monitor` of a run from its settings; the training loop calls it between steps. The lines also
go to TensorBoard event files where TensorBoard is installed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from dupmae.console import logger
from dupmae.nn.backbone import Backbone
from dupmae.settings import Pretrain
from dupmae.shards.batches import Records
from dupmae.training import processes
from dupmae.training.flops import Shape, Texts, step_flops
from dupmae.training.log import in_words, is_quality
from dupmae.training.peak import matmul_peak
from dupmae.training.probe import Probe, ProbeTexts, halves, judged

# Counted work of a probe, as a share of the training between two. With those at the first and the last step there are
# three at most in the time of one interval, 1.8% of the counted work; measured on a CPU a probe runs 1.6 times as many
# operations a second as a step does, which leaves 1.1% of the time.
PROBE_SHARE = 0.006
TYPICAL_STEPS = 16
EVENTS = "tensorboard"
Line = dict[str, float]


class Watched(Protocol):
    """Joint batches of text that a monitor counts, and the records that they come from."""

    @property
    def corpora(self) -> Sequence[Records]:
        """Where the records come from."""
        ...

    def step_lengths(self, step: int) -> NDArray[np.integer[Any]]:
        """Tokens of each row of a step's text [B]."""
        ...


class Monitor:
    """Looks on while `steps` are done.

    Args:
        work: counts the operations of a step's texts, forward and backward.
        beside: counts the operations of a step (counted from 0) that are not its texts'; told once for each step.
        probe_every: steps between probes; the first and the last step have one too. 0: no probes.
        patience: the run ends after this many probes without a better one; none: never.
        stop_on: names of the figures whose mean says which probe is better.

    Attributes:
        ended: whether the probes ask for the end of the run; the same in every process.
    """

    def __init__(
        self,
        out: Path,
        data: Watched,
        work: Callable[[Texts], float],
        dtype: torch.dtype,
        *,
        beside: Callable[[int], float] = lambda step: 0.0,
        parts: int = 1,
        probe: Probe | None = None,
        probe_every: int = 0,
        patience: int | None = None,
        stop_on: Sequence[str] = (),
    ) -> None:
        self.ended = False
        self._out, self._data, self._work, self._dtype, self._parts = out, data, work, dtype, parts
        self._beside = beside
        self._probe, self._probe_every, self._patience, self._stop_on = probe, probe_every, patience, stop_on
        self._pending: Line = {}
        self._best, self._worse = -math.inf, 0
        self._events: Any = None

    def begin(self, done: int, steps: int, lines: list[Line]) -> None:
        """Measure the peak, and take up the probes of an earlier part of the run from its log lines."""
        self._steps, self._first = steps, done
        self._peak = matmul_peak(self._dtype) * processes.count()
        known = processes.agreed(lines)
        for earlier in known:
            self._judge(earlier)
        self._logged = int(known[-1]["step"]) if known else 0
        if processes.rank() == 0:
            name = str(self._dtype).removeprefix("torch.")
            told = f"matrix products in {name} reach {self._peak / 1e9:,.0f} GFLOP/s here"
            logger.info(f"{told}; utilisation is the counted work of a second against that")
            self._events = _event_files(self._out / EVENTS, done)
        self._start = self._clock = time.perf_counter()

    def after_step(self, done: int) -> bool:
        """Probe when it is time to; returns whether a log line is due whatever the settings say."""
        if self._probe is None or not self._probe_every:
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
        if self._events is not None:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, done)
            self._events.flush()
            if self.ended or done == self._steps:
                self._events.close()

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


def note(line: Mapping[str, float]) -> str:
    """The figures of a log line for the progress bar: every term and accuracy, speed, the probe."""
    terms = [f"{in_words(name)} {value:.3g}" for name, value in line.items() if is_quality(name)]
    speed = [f"{line['tokens_per_second']:,.0f} tokens/s"]
    speed += [f"{line['utilisation']:.0%} of peak"] if "utilisation" in line else []
    return ", ".join([*terms, *speed])


def watcher(
    settings: Pretrain,
    backbone: Backbone,
    tokenizer: Any,
    data: Watched,
    dtype: torch.dtype,
    steps: int,
    beside: Callable[[Shape, int], float] = lambda shape, step: 0.0,
) -> Monitor:
    """The monitor of a pre-training run.

    Args:
        beside: counts the operations of a step that are not its texts', for an encoder of a shape.

    Raises:
        DupmaeError: when the probe's BEIR folder cannot be read.
    """
    shape = Shape.of(backbone.config)

    def work(texts: Texts) -> float:
        return step_flops(shape, texts, settings.objective, settings.masking)

    typical = [work(Texts.of(data.step_lengths(step))) for step in range(min(steps, TYPICAL_STEPS))]
    probe, every = _probe(settings, backbone, tokenizer, data, dtype, steps, sum(typical) / len(typical))
    # RetroMAE trains nothing but the [CLS] state to hold a whole text.
    scores = ("cls",) if settings.objective.kind == "retromae" else ("cls", "bow")
    return Monitor(
        settings.out,
        data,
        work,
        dtype,
        beside=partial(beside, shape),
        parts=processes.count() * settings.accumulate,
        probe=probe,
        probe_every=every,
        patience=settings.patience,
        stop_on=[f"probe_{score}_mrr@10" for score in scores],
    )


def _probe(
    settings: Pretrain,
    backbone: Backbone,
    tokenizer: Any,
    data: Watched,
    dtype: torch.dtype,
    steps: int,
    step_work: float,
) -> tuple[Probe | None, int]:
    """The probe, if there is one, and the steps between two of them."""
    if settings.probe_every == 0:
        return None, 0
    texts: ProbeTexts | None
    if settings.probe is None:
        texts = halves(data.corpora, tokenizer, settings.seed)
    else:
        texts = judged(settings.probe, settings.probe_split, tokenizer, settings.seed, backbone.max_length)
    if texts is None:
        return None, 0
    probe = Probe(backbone, texts, tokenizer, dtype)
    # Each process does the whole probe, but only its share of a step.
    every = settings.probe_every or math.ceil(probe.flops() * processes.count() / (PROBE_SHARE * step_work))
    if settings.probe_every is None and steps < every:
        if processes.rank() == 0:
            logger.info(f"no retrieval probe in a run shorter than {every:,} steps, unless probe_every asks for it")
        return None, 0
    return probe, every


def _padded(lengths: NDArray[np.integer[Any]], parts: int) -> int:
    """Tokens of a batch with its padding, when every `parts`-th row goes to the same part."""
    dealt = [lengths[part::parts] for part in range(min(parts, len(lengths)))]
    return sum(len(part) * int(part.max()) for part in dealt)


def _event_files(folder: Path, done: int) -> Any:
    """A writer of TensorBoard's files, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What an earlier part of the run wrote beyond its checkpoint is hidden.
    return SummaryWriter(str(folder), purge_step=done + 1)
