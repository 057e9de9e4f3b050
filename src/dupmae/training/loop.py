"""One step of training, on one process or many, and all that a checkpoint has to hold of it.

What a step does is a function of (seed, step) and the weights alone, so a resumed run repeats what the stopped
one would have done. A `Training` says what is optimised; `Loop` does it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from dupmae.console import logger
from dupmae.memory import release
from dupmae.nn.compiled import compile_parts
from dupmae.settings import TrainingOptions
from dupmae.training import checkpoints, processes

GRADIENT_NORM = 1.0
MAX_BAD_STEPS = 10
# Giving memory back takes a quarter of a second, most of it spent on collecting garbage.
RELEASE_SECONDS = 30.0
Batch = dict[str, Tensor]
Line = dict[str, float]
Arguments = tuple[Any, ...]


class Steps(Protocol):
    """The joint batches of a run, which can be dealt out to several processes, or to several passes of one."""

    def part(self, step: int, part: int, parts: int) -> Batch | None:
        """Part `part` of `parts` of the batch of a step (from 0), None when there are fewer rows than parts."""
        ...


@dataclass
class Training:
    """What is optimised. Stages whose batches are not the one argument of their model have a class of their own.

    Attributes:
        model: gives the terms of its arguments by name.
        weights: the loss is the sum of these terms, each times its weight; a step may be without some of them.
        new: names of the parameters that start at random, which have a learning rate of their own.
        layers: modules that are gathered on their own when weights are sharded.
        sharded: what sharded weights are cast to when they are gathered; None: a replica in every process.
        accumulate: passes that each process deals its share of a batch out to.
        compiled: whether layers and losses go through torch.compile, each on its own.
    """

    model: nn.Module
    weights: Mapping[str, float]
    new: frozenset[str]
    layers: Sequence[nn.Module] = ()
    sharded: torch.dtype | None = None
    accumulate: int = 1
    compiled: bool = False

    def inputs(self, batch: Batch) -> tuple[Sequence[Arguments], dict[str, Tensor]]:
        """The model's arguments and how many items each term is the mean of; a term that is not named counts once.

        There is one tuple of arguments for each pass whose activations are to be held alone. With several passes
        the last one uses every parameter that has a gradient.
        """
        counts: Any = self.model.counts
        return [(batch,)], counts(batch)


def rate_share(step: int, steps: int, warmup: float) -> float:
    """The learning rate of step `step`, counted from 0, as a share of its peak: linear up, then linear to 0."""
    warm = math.ceil(steps * warmup)
    return step / warm if step < warm else (steps - step) / max(1, steps - warm)


def parameter_groups(model: nn.Module, new: frozenset[str], options: TrainingOptions) -> list[dict[str, Any]]:
    """Parameters in up to four groups: loaded or new, decayed or not (vectors and scalars are not decayed)."""
    groups = []
    for is_new, rate in ((False, options.learning_rate), (True, options.new_learning_rate or options.learning_rate)):
        for is_matrix, decay in ((True, options.weight_decay), (False, 0.0)):
            chosen = [p for name, p in model.named_parameters() if (name in new, p.ndim > 1) == (is_new, is_matrix)]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def names_of(model: nn.Module, parameters: Iterable[nn.Parameter]) -> frozenset[str]:
    """The names of some of a model's parameters."""
    chosen = set(map(id, parameters))
    return frozenset(name for name, parameter in model.named_parameters() if id(parameter) in chosen)


class Loop:
    """Model, optimizer and position of a run, and the sums since its last log line.

    Attributes:
        done: optimizer steps so far, skipped ones included.
        diverging: whether the last step was skipped, for want of a finite loss and gradient.
        saved: when the last checkpoint was written, on the monotonic clock; before the first, when the run began.
        saved_step: the steps that the last checkpoint holds, 0 before the first.
    """

    def __init__(self, training: Training, data: Steps, options: TrainingOptions, steps: int, out: Path) -> None:
        self.training, self.data, self.steps, self.out = training, data, steps, out
        self.inner, self._seed, self._warmup = training.model, options.seed, options.warmup
        self.model = processes.spread(self.inner, training.layers, training.sharded)
        self.model.train()
        if training.compiled:
            compile_parts(training.layers)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.inner, training.new, options), fused=True)
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self.done = self.skipped = self._skipped_in_a_row = self._tokens = 0
        self.diverging, self.saved, self.saved_step = False, time.monotonic(), 0
        # Sums of every term since the last line, and of how many steps.
        self._sums: dict[str, Tensor] = {}
        self._counted: dict[str, int] = {}
        self._clock = self._released = time.perf_counter()

    def step(self, requests: Callable[[], tuple[bool, bool]] = lambda: (False, False)) -> tuple[bool, bool]:
        """Do one optimizer step, or nothing of it when it is to stop between two of its passes.

        Args:
            requests: whether this process is to stop, and to save; called between passes and after the last one.

        Returns:
            The same for any of the processes. A step that was dropped is not counted in `done`.

        Raises:
            DupmaeError: after more than `MAX_BAD_STEPS` steps in a row without a finite loss and gradient.
        """
        self._set_rates(self.done)
        gradients = self._gradients(lambda: requests()[0])
        if gradients is None:
            self.optimizer.zero_grad()
            return True, False
        terms, tokens = gradients
        norm = processes.whole(clip_grad_norm_(self.inner.parameters(), GRADIENT_NORM))
        flags = torch.tensor([False, *requests()], dtype=torch.int32).to(norm.device, non_blocking=True)
        flags[0] = ~(torch.isfinite(norm) & torch.isfinite(terms["loss"]))
        # The one time that a GPU is waited for.
        self.diverging, stop, save = map(bool, processes.total(flags, largest=True).tolist())
        if not self.diverging:
            self.optimizer.step()
            self._sums |= {name: self._sums.get(name, 0.0) + value for name, value in terms.items()}
            self._counted |= {name: self._counted.get(name, 0) + 1 for name in terms}
            self._tokens += tokens
            self._skipped_in_a_row = 0
        self.optimizer.zero_grad()
        self.done += 1
        if self.diverging:
            self._skip()
        if self.device.type == "cpu" and time.perf_counter() - self._released > RELEASE_SECONDS:
            release()
            self._released = time.perf_counter()
        return stop, save

    def _set_rates(self, step: int) -> None:
        share = rate_share(step, self.steps, self._warmup)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share

    def _gradients(self, stop: Callable[[], bool]) -> tuple[dict[str, Tensor], int] | None:
        """Gradients of the joint batch, and this process's share of every term of it; None when asked to stop."""
        random = np.random.SeedSequence([self._seed, self.done, processes.rank()])
        torch.manual_seed(int(random.generate_state(1, np.uint32)[0]))
        parts = [self._part(number) for number in range(self.training.accumulate)]
        shares = _shares([counts for _, _, counts in parts])
        sums: dict[str, Tensor] = {}
        passes = [(each, share) for (inputs, _, _), share in zip(parts, shares, strict=True) for each in inputs]
        weights = self.training.weights
        for number, (arguments, share) in enumerate(passes):
            if number and processes.anywhere(stop()):
                return None
            with processes.gradients_kept_local(self.model, number + 1 < len(passes)):
                terms = self.model(*arguments)
                terms = {name: value * share.get(name, 1.0) for name, value in terms.items()}
                terms["loss"] = sum(weight * terms[name] for name, weight in weights.items() if name in terms)
                # Both engines average gradients over the processes; shares add up to one over all of them.
                (terms["loss"] * processes.count()).backward()
            sums |= {name: sums.get(name, 0.0) + value.detach() for name, value in terms.items()}
        return sums, sum(tokens for _, tokens, _ in parts)

    def _part(self, number: int) -> tuple[Sequence[Arguments], int, dict[str, Tensor]]:
        """Arguments of each pass, tokens and counts of one of this process's parts of the joint batch."""
        parts = processes.count() * self.training.accumulate
        batch = self.data.part(self.done, processes.rank() + number * processes.count(), parts)
        present = batch is not None
        # A process without rows still takes part in every exchange, with a row that counts for nothing.
        batch = batch or self.data.part(self.done, 0, parts)
        assert batch is not None
        # Numbers are read before the batch moves, or stay: a GPU would have to finish its work first.
        tokens = sum(int(value.sum()) for name, value in batch.items() if name.endswith("valid"))
        batch = {
            name: value.to(self.device, non_blocking=True) if value.dim() else value for name, value in batch.items()
        }
        passes, counts = self.training.inputs(batch)
        return passes, tokens * present, {name: value * present for name, value in counts.items()}

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MAX_BAD_STEPS:
            what = f"{self._skipped_in_a_row} steps in a row without a finite loss and gradient"
            raise checkpoints.diverged(self.out, what)
        if processes.rank() == 0:
            count = f"{self._skipped_in_a_row} of {MAX_BAD_STEPS} in a row"
            logger.warning(f"step {self.done}: loss or gradient not finite, skipped ({count})")

    def line(self) -> Line:
        """The means of every term since the last line, for the log; starts new sums."""
        sums, tokens = self._joint_sums()
        now = time.perf_counter()
        line: Line = {"step": self.done}
        line |= {name: value / self._counted[name] for name, value in sums.items()}
        line["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        line["tokens_per_second"] = tokens / max(now - self._clock, 1e-9)
        line["skipped_steps"] = self.skipped
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

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a checkpoint with what `restore` needs and `state`; every process has to call this."""
        sums, tokens = self._joint_sums()
        own: dict[str, Any] = {"step": self.done, "steps": self.steps, "skipped": self.skipped}
        own |= {"sums": sums, "counted": self._counted, "tokens": tokens}
        checkpoints.save(self.out, self.done, self.inner, self.optimizer, own | dict(state))
        self.saved, self.saved_step = time.monotonic(), self.done

    def restore(self, folder: Path, state: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was written; the weights are in the model already."""
        checkpoints.load_optimizer(folder, self.inner, self.optimizer)
        self.done, self.skipped, self._counted = state["step"], state["skipped"], state["counted"]
        self.saved_step = self.done
        self._set_rates(self.done - 1)
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
    whole = processes.total(table.sum(0)).clamp(min=1)
    table = table.to(whole.device) / whole
    return [dict(zip(names, row, strict=True)) for row in table]
