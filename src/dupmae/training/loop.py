"""One step of training, on one process or many, and all that a checkpoint has to hold of it.

What a step does is a function of (seed, step) and the weights alone, so a resumed run repeats what the stopped
one would have done. A `Plan` says what a stage wants; `Loop` does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.memory import release
from dupmae.training import checkpoints, processes

GRADIENT_NORM = 1.0
# Giving memory back takes a quarter of a second, most of it spent on collecting garbage.
RELEASE_SECONDS = 30.0
Batch = dict[str, Tensor]
Line = dict[str, float]
Arguments = tuple[Any, ...]


class Steps(Protocol):
    """The joint batches of a run."""

    def __getitem__(self, step: int) -> Batch:
        """The whole batch of a step (counted from 0)."""
        ...


class DivisibleSteps(Steps, Protocol):
    """Joint batches that can be dealt out to several processes, or to several passes of one."""

    def part(self, step: int, part: int, parts: int) -> Batch | None:
        """Part `part` of `parts` of a step's batch, None when there are fewer rows than parts."""
        ...


class Watcher(Protocol):
    """Looks on while a run goes, in every process.

    Attributes:
        ended: whether the run is to end here; the same in every process.
    """

    ended: bool

    def begin(self, done: int, steps: int, lines: list[Line]) -> None:
        """Told once: the steps done before, all that are planned, and process 0 the log lines of the former."""
        ...

    def after_step(self, done: int) -> bool:
        """Told after each step; returns whether a log line is due, whatever the settings say."""
        ...

    def complete(self, line: Line) -> None:
        """Add figures to a log line before it is written."""
        ...


@dataclass(frozen=True)
class Plan:
    """What the loop needs to know of a stage's settings.

    Attributes:
        out: folder for checkpoints, run.json and log.jsonl.
        groups: optimizer groups, each with `params`, `lr`, `weight_decay`.
        inputs: maps (module, batch) to the arguments of the module, once for each pass whose activations are to be
            held alone, and to how many items each term of the results is the mean of; a term that is not named
            counts once. With several passes the last one uses every parameter that has a gradient.
        weights: the loss is the sum of these terms, each times its weight; a step may be without some of them.
        layers: modules that are gathered on their own when weights are sharded.
        compile: whether the step goes through torch.compile.
        dtype: what sharded weights are cast to when they are gathered.
        same: settings that a resumed run has to share with the first one.
        save_every: steps between checkpoints; none: ten minutes.
        checkpoints: whether there are any.
        watcher: looks on between steps.
    """

    out: Path
    groups: Callable[[Any], list[dict[str, Any]]]
    inputs: Callable[[Any, Batch], tuple[Sequence[Arguments], dict[str, Tensor]]]
    weights: Mapping[str, float]
    title: str
    warmup: float
    log_every: int
    seed: int
    max_bad_steps: int = 10
    layers: Callable[[Any], list[nn.Module]] = lambda module: []
    sharding: Literal["none", "full"] = "none"
    dtype: torch.dtype = torch.float32
    accumulate: int = 1
    compile: bool = False
    same: Mapping[str, Any] = field(default_factory=dict)
    save_every: int | None = None
    checkpoints: bool = False
    resume: bool = False
    watcher: Watcher | None = None


def rate_share(step: int, steps: int, warmup: float) -> float:
    """The learning rate of step `step`, counted from 0, as a share of its peak: linear up, then linear to 0."""
    warm = math.ceil(steps * warmup)
    return step / warm if step < warm else (steps - step) / max(1, steps - warm)


class Loop:
    """Model, optimizer and position of a run, and the sums since its last log line.

    Attributes:
        done: optimizer steps so far, skipped ones included.
        diverging: whether the last step was skipped, for want of a finite loss and gradient.
        saved: when the last checkpoint was written, on the monotonic clock; before the first, when the run began.
        saved_step: the steps that the last checkpoint holds, 0 before the first.
    """

    def __init__(self, model: nn.Module, data: Steps, plan: Plan, steps: int) -> None:
        if processes.count() > 1 and not hasattr(data, "part"):
            raise DupmaeError("works in one process only", where=plan.title, fix="start it without torchrun")
        self.inner, self.data, self.plan, self.steps = model, data, plan, steps
        self.model = processes.spread(model, plan.sharding, plan.layers(model), plan.dtype)
        self.model.train()
        if plan.compile:
            self.model.compile(dynamic=True)
        self.optimizer = torch.optim.AdamW(plan.groups(model), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.done = self.bad_steps = self._tokens = 0
        self.diverging, self.saved, self.saved_step = False, time.monotonic(), 0
        # Sums of every term since the last line, and of how many steps.
        self._sums: dict[str, Tensor] = {}
        self._counted: dict[str, int] = {}
        self._clock = self._released = time.perf_counter()

    def step(self, asked: Callable[[], tuple[bool, bool]] = lambda: (False, False)) -> tuple[bool, bool]:
        """Do one optimizer step, or nothing of it when it is asked to stop between two of its passes.

        Args:
            asked: whether this process is asked to stop, and to save; called between passes and after the last one.

        Returns:
            The same for any of the processes. A step that was dropped is not counted in `done`.

        Raises:
            DupmaeError: after more than `max_bad_steps` steps without a finite loss and gradient.
        """
        self._set_rates(self.done)
        found = self._gradients(lambda: asked()[0])
        if found is None:
            self.optimizer.zero_grad()
            return True, False
        terms, tokens = found
        norm = processes.whole(clip_grad_norm_(self.inner.parameters(), GRADIENT_NORM))
        bad = not bool(torch.isfinite(norm) & torch.isfinite(terms["loss"]))
        flags = torch.tensor([bad, *asked()], dtype=torch.int32, device=norm.device)
        self.diverging, stop, save = map(bool, processes.total(flags, largest=True).tolist())
        if not self.diverging:
            self.optimizer.step()
            self._sums |= {name: self._sums.get(name, 0.0) + value for name, value in terms.items()}
            self._counted |= {name: self._counted.get(name, 0) + 1 for name in terms}
            self._tokens += tokens
        self.optimizer.zero_grad()
        self.done += 1
        if self.diverging:
            self._skipped()
        if time.perf_counter() - self._released > RELEASE_SECONDS:
            release()
            self._released = time.perf_counter()
        return stop, save

    def _set_rates(self, step: int) -> None:
        share = rate_share(step, self.steps, self.plan.warmup)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share

    def _gradients(self, stop: Callable[[], bool]) -> tuple[dict[str, Tensor], int] | None:
        """Gradients of the joint batch, and this process's share of every term of it; None when asked to stop."""
        random = np.random.SeedSequence([self.plan.seed, self.done, processes.rank()])
        torch.manual_seed(int(random.generate_state(1, np.uint32)[0]))
        parts = [self._part(place) for place in range(self.plan.accumulate)]
        shares = _shares([counts for _, _, counts in parts])
        found: dict[str, Tensor] = {}
        passes = [(each, share) for (inputs, _, _), share in zip(parts, shares, strict=True) for each in inputs]
        for place, (arguments, share) in enumerate(passes):
            if place and processes.anywhere(stop()):
                return None
            with processes.gradients_kept_local(self.model, place + 1 < len(passes)):
                terms = self.model(*arguments)
                terms = {name: value * share.get(name, 1.0) for name, value in terms.items()}
                terms["loss"] = sum(weight * terms[name] for name, weight in self.plan.weights.items() if name in terms)
                # Both engines average gradients over the processes; shares add up to one over all of them.
                (terms["loss"] * processes.count()).backward()
            found |= {name: found.get(name, 0.0) + value.detach() for name, value in terms.items()}
        return found, sum(tokens for _, tokens, _ in parts)

    def _part(self, place: int) -> tuple[Sequence[Arguments], int, dict[str, Tensor]]:
        """Arguments of each pass, tokens and counts of one of this process's parts of the joint batch."""
        parts = processes.count() * self.plan.accumulate
        if parts == 1:
            batch: Batch | None = self.data[self.done]
        else:
            data: Any = self.data
            batch = data.part(self.done, processes.rank() + place * processes.count(), parts)
        # A process without rows still takes part in every exchange, with a row that counts for nothing.
        present = batch is not None
        batch = batch if batch is not None else data.part(self.done, 0, parts)
        # Numbers are read before the batch moves, or stay: a GPU would have to finish its work first.
        tokens = sum(int(value.sum()) for name, value in batch.items() if name.endswith("valid"))
        batch = {
            name: value.to(self.device, non_blocking=True) if value.dim() else value for name, value in batch.items()
        }
        passes, counts = self.plan.inputs(self.inner, batch)
        return passes, tokens * present, {name: value * present for name, value in counts.items()}

    def _skipped(self) -> None:
        self.bad_steps += 1
        if self.bad_steps > self.plan.max_bad_steps:
            problem = f"training diverged: {self.bad_steps} steps without a finite loss and gradient"
            raise DupmaeError(problem, where=self.plan.out, fix="lower learning_rate, or raise max_bad_steps")
        if processes.rank() == 0:
            limit = self.plan.max_bad_steps
            logger.warning(f"step {self.done}: loss or gradient not finite, skipped ({self.bad_steps} of {limit})")

    def line(self) -> Line:
        """The means of every term since the last line, for the log; starts new sums."""
        sums, tokens = self._joint_sums()
        now = time.perf_counter()
        line: Line = {"step": self.done}
        line |= {name: value / self._counted[name] for name, value in sums.items()}
        line["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        line["tokens_per_second"] = tokens / max(now - self._clock, 1e-9)
        line["skipped_steps"] = self.bad_steps
        self._sums, self._counted, self._tokens, self._clock = {}, {}, 0, now
        return line

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.inner.parameters()).device

    @property
    def has_news(self) -> bool:
        """Whether any step was done since the last line."""
        return bool(self._counted)

    def _joint_sums(self) -> tuple[dict[str, float], int]:
        values = torch.stack(
            [*(value.double() for value in self._sums.values()), torch.tensor(self._tokens).to(self.device)]
        )
        *sums, tokens = processes.total(values).tolist()
        return dict(zip(self._sums, sums, strict=True)), int(tokens)

    def save(self, *, ended: bool = False, followed: bool = True) -> None:
        """Write a checkpoint; every process has to call this.

        Args:
            ended: whether the run has.
            followed: whether what is due after the step was done, the log line and what the watcher does.
        """
        sums, tokens = self._joint_sums()
        state = {
            "step": self.done,
            "steps": self.steps,
            "bad_steps": self.bad_steps,
            "ended": ended,
            "followed": followed,
            "sums": sums,
            "counted": self._counted,
            "tokens": tokens,
            "settings": dict(self.plan.same),
        }
        checkpoints.save(self.plan.out, self.done, self.inner, self.optimizer, state)
        self.saved, self.saved_step = time.monotonic(), self.done

    def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was written; the weights are in the model already."""
        checkpoints.load_optimizer(folder, self.inner, self.optimizer)
        self.done, self.bad_steps, counted = state["step"], state["bad_steps"], state["counted"]
        self.saved_step = self.done
        self._set_rates(self.done - 1)
        # Version 0.1 kept one number for all terms.
        self._counted = dict.fromkeys(state["sums"], counted) if isinstance(counted, int) else counted
        first = processes.rank() == 0
        self._sums = {name: torch.tensor(value * first, device=self.device) for name, value in state["sums"].items()}
        self._tokens = state["tokens"] * first


def _shares(counts: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """What each part's items are of the joint batch's, by term; over all parts and processes they add up to one."""
    names = list(dict.fromkeys(name for part in counts for name in part))
    if not names:
        return counts
    nothing = torch.zeros_like(next(iter(counts[0].values())))
    table = torch.stack([torch.stack([part.get(name, nothing) for name in names]) for part in counts]).float()
    table = table / processes.total(table.sum(0)).clamp(min=1)
    return [dict(zip(names, row, strict=True)) for row in table]
