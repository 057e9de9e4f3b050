"""Running a training to its end: resume, log, save, stop when asked, and budgets in epochs and minutes."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, Protocol

import torch

from dupmae import console
from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import LOG, cache_folder, read_side_file, remove_leftovers, write_json, write_text
from dupmae.retriever.backbones import device, name_of, resolve_dtype
from dupmae.settings import TrainingOptions, marked
from dupmae.training import checkpoints, processes
from dupmae.training.checkpoints import Checkpoint
from dupmae.training.log import is_number, note
from dupmae.training.loop import Line, Loop, Steps, Training
from dupmae.training.stopping import StopSignals

SAVE_SECONDS = 600.0
# An even number after the first: runs whose every second step is a heavier one are measured at their mean.
MEASURED_STEPS = 5
BUDGET, EVENTS = "run.json", "tensorboard"
# Settings without an effect on the speed of a step; paths have none, too.
WITHOUT_EFFECT = {"model", "minutes", "epochs", "seed", "resume", "save_every", "log_every", "learning_rate"}
Lines = list[Line]


class Batches(Steps, Protocol):
    """The batches of a run, and how many go through the data once."""

    @property
    def per_epoch(self) -> float:
        """Steps of an epoch."""
        ...


class Watcher:
    """Looks on while a run goes, in every process; this one sees nothing.

    Attributes:
        ended: whether the run is to end here; the same in every process.
    """

    ended = False

    def begin(self, done: int, steps: int, lines: Lines) -> None:
        """Called once: the steps done before, all that are planned, and in process 0 the log lines of the former."""

    def after_step(self, done: int) -> bool:
        """Called after each step; returns whether a log line is due, whatever the settings say."""
        return False

    def complete(self, line: Line) -> None:
        """Add figures to a log line before it is written."""


@dataclass
class Run:
    """One run of a training: where it writes, and what it is compared by when it is resumed.

    Attributes:
        training: what is optimised.
        data: makes the joint batches for a number of steps.
        options: seed, rates, and when to save and to log.
        out: folder for checkpoints, run.json and log.jsonl.
        title: what the progress bar says.
        facts: what a resumed run has to share with the first one beside the settings that are marked so.
        watcher: looks on between steps.
    """

    training: Training
    data: Callable[[int], Batches]
    options: TrainingOptions
    out: Path
    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    watcher: Watcher = field(default_factory=Watcher)

    @property
    def same(self) -> dict[str, Any]:
        """What a resumed run has to share with the first one."""
        dtype = name_of(resolve_dtype(self.options.dtype))
        return {**dict(marked(self.options)), "dtype": dtype, **self.facts}

    @property
    def saves(self) -> bool:
        """Whether there are checkpoints."""
        return self.options.save_every != 0

    def steps(self) -> int:
        """How many steps the settings ask for: so many, so many epochs, or what fits into the minutes."""
        options = self.options
        if options.steps is not None:
            return options.steps
        if options.epochs is not None:
            return math.ceil(options.epochs * self.data(1).per_epoch)
        assert options.minutes is not None
        return self._steps_within(options.minutes)

    def _steps_within(self, minutes: float) -> int:
        """How many steps fit into `minutes`, by the speed of a few steps on a throw-away copy.

        The number is kept in the run's folder, so that a resumed run ends where the first one would have.
        """
        kept = self.out / BUDGET
        steps: int | None = None
        if self.options.resume and processes.rank() == 0:
            known = read_side_file(kept)
            before = known.get("steps")
            steps = before if known.get("minutes") == minutes and isinstance(before, int) and before > 0 else None
        steps = processes.agreed(steps)
        if steps is None:
            steps = processes.agreed(max(1, int(minutes * 60 / self._seconds_per_step())))
        if self.saves and processes.rank() == 0:
            write_json(kept, {"minutes": minutes, "steps": steps})
        return steps

    def _seconds_per_step(self) -> float:
        """The speed, remembered by settings, model and machine: a command does the same number of steps each time."""
        values = self.options.model_dump(exclude=WITHOUT_EFFECT)
        described = {name: value for name, value in values.items() if not isinstance(value, Path | list)}
        shapes = [(name, list(parameter.shape)) for name, parameter in self.training.model.named_parameters()]
        machine = [torch.get_num_threads(), processes.count(), torch.__version__, device().type]
        key = hashlib.sha256(json.dumps([described, shapes, machine], default=str).encode()).hexdigest()[:16]
        file = cache_folder() / "speed.json"
        known: dict[str, Any] = processes.agreed(read_side_file(file) if processes.rank() == 0 else {})
        if not (is_number(known.get(key)) and known[key] > 0):
            known[key] = self._measured()
            if processes.rank() == 0:
                write_json(file, known)
        return float(known[key])

    def _measured(self) -> float:
        """Mean seconds of a step on a copy of the model, after one step to warm up."""
        training = copy.deepcopy(self.training)
        loop = Loop(training, self.data(MEASURED_STEPS), self.options, MEASURED_STEPS, self.out)
        loop.step()
        start = time.perf_counter()
        for _ in range(1, MEASURED_STEPS):
            loop.step()
        return (time.perf_counter() - start) / (MEASURED_STEPS - 1)

    def train(self, steps: int) -> Lines:
        """Go on to step `steps` and return the log lines.

        Raises:
            DupmaeError: when training diverges, or `out` holds another run's checkpoints.
            SystemExit: with code 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint is written.
        """
        folder, state = self._start()
        loop = Loop(self.training, self.data(steps), self.options, steps, self.out)
        if folder is not None:
            loop.restore(folder, state)
        followed = state.get("followed", True)
        log = _Log(self.out, loop.done if followed else loop.done - 1, events=self.options.tensorboard)
        # More steps than were planned at first lengthen a run that has ended.
        if not state.get("ended", False) or steps > state["steps"]:
            self._go_on(loop, log, followed)
        log.close()
        if loop.diverging:
            raise checkpoints.diverged(self.out, "no finite loss at the end")
        if not self.saves:
            weights = checkpoints.weights_of(self.training.model)
            bad = next((name for name, value in weights if not value.isfinite().all()), None)
            if bad is not None:
                raise checkpoints.diverged(self.out, f"{bad} is not finite")
        return log.lines

    def _start(self) -> tuple[Path | None, dict[str, Any]]:
        """Where the run goes on: the folder and state of a checkpoint, its weights in process 0's model."""
        checkpoint: Checkpoint | None = None
        if processes.rank() == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            if self.options.resume:
                checkpoint = checkpoints.latest(self.out)
                nothing = f"{self.out}: nothing to resume from, starting at the beginning"
                logger.info(nothing if checkpoint is None else f"resuming from {checkpoint.folder}")
            elif checkpoints.listed(self.out):
                fix = "resume=true, or another out"
                raise DupmaeError("holds checkpoints of an earlier run", where=self.out, fix=fix)
            remove_leftovers(self.out)
            if checkpoint is not None:
                check_same(self.same, checkpoint.state["settings"], checkpoint.folder)
                checkpoints.load_model(checkpoint, self.training.model)
                # The run may have been killed before it deleted those that this one replaced.
                checkpoints.prune(self.out, checkpoint.step)
        return processes.agreed((None, {}) if checkpoint is None else (checkpoint.folder, checkpoint.state))

    def _go_on(self, loop: Loop, log: _Log, followed: bool) -> None:
        """All steps that are left, with what happens between them.

        Args:
            followed: whether what is due after the last step was done, the log line and what the watcher does.
        """
        every, due_save, ended = self.options.save_every, False, False
        with console.progress(self.title, loop.steps, "steps") as bar, StopSignals(self.saves) as signals:
            bar.advance(loop.done)
            self.watcher.begin(loop.done, loop.steps, log.lines)
            if not followed:
                ended = due_save = self._follow(loop, log, bar)
            while True:
                # Weights that give no finite loss must not push out those that did.
                if due_save and self.saves and not loop.diverging:
                    self._save(loop, ended=ended)
                    due_save = False
                if ended or loop.done == loop.steps:
                    return
                before = loop.done
                stop, old = loop.step(
                    lambda: (signals.asked, every is None and time.monotonic() - loop.saved > SAVE_SECONDS)
                )
                if stop:
                    self._leave(loop, signals.exit_code, followed=loop.done == before)
                bar.advance()
                ended = self._follow(loop, log, bar)
                due_save |= ended or old or bool(every and loop.done % every == 0)

    def _follow(self, loop: Loop, log: _Log, bar: console.Bar) -> bool:
        """What is due after a step: what the watcher does, and a log line; returns whether the run ends here."""
        due_line = self.watcher.after_step(loop.done)
        ended = loop.done == loop.steps or self.watcher.ended
        if loop.has_news and (loop.done == 1 or loop.done % self.options.log_every == 0 or ended or due_line):
            line = loop.line()
            self.watcher.complete(line)
            log.add(line)
            bar.describe(note(line))
        return ended

    def _save(self, loop: Loop, *, ended: bool = False, followed: bool = True) -> None:
        loop.save({"ended": ended, "followed": followed, "settings": self.same})

    def _leave(self, loop: Loop, exit_code: int, *, followed: bool) -> NoReturn:
        """Save at once and end: what is due after the step may take long, and is done when the run is resumed."""
        if loop.done > loop.saved_step and not loop.diverging:
            self._save(loop, followed=followed)
        if processes.rank() == 0:
            kept = "checkpoint saved" if loop.done == loop.saved_step else "the checkpoint before it stays"
            outcome = f"{kept}: --resume goes on from it" if loop.saved_step else "before the first checkpoint"
            logger.warning(f"stopped at step {loop.done:,} of {loop.steps:,}, {outcome}")
        raise SystemExit(exit_code)


def check_options(options: TrainingOptions, stage: str, *other_budgets: object) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        DupmaeError: when nothing says how long the run is, or TensorBoard is wanted and not there.
    """
    if all(given is None for given in (options.steps, options.epochs, options.minutes, *other_budgets)):
        raise DupmaeError("neither steps nor minutes nor epochs is given", where=stage, fix="set one, e.g. minutes=5")
    if options.tensorboard and find_spec("tensorboard") is None:
        raise DupmaeError("needs the package tensorboard", where="tensorboard", fix='pip install "dupmae[tensorboard]"')


def check_same(own: Mapping[str, Any], first: Mapping[str, Any], where: Path) -> None:
    """Compare what a resumed run has to share with what the first one had.

    Raises:
        DupmaeError: naming the first setting that differs.
    """
    own = json.loads(json.dumps(own))
    for name in {**own, **first}:
        if own.get(name) != first.get(name):
            problem = f"{name} is {own.get(name)}, the run was started with {first.get(name)}"
            raise DupmaeError(problem, where=where, fix="resume with the settings of the first run")


class _Log:
    """The lines of a run, in log.jsonl and on request in TensorBoard's files; process 0 alone has and writes them.

    Args:
        done: the steps whose lines are kept from an earlier part of the run; 0: the log starts anew.
    """

    def __init__(self, out: Path, done: int, *, events: bool) -> None:
        self.lines: Lines = []
        self._file = out / LOG
        self._events: Any = None
        if processes.rank() == 0:
            self.lines = checkpoints.read_lines(self._file, done) if done else []
            write_text(self._file, "".join(json.dumps(line) + "\n" for line in self.lines))
            if events:
                from torch.utils.tensorboard import SummaryWriter

                # What an earlier part of the run wrote beyond its checkpoint is hidden.
                self._events = SummaryWriter(str(out / EVENTS), purge_step=done + 1)

    def add(self, line: Line) -> None:
        """Write a line at once."""
        if processes.rank() == 0:
            self.lines.append(line)
            with self._file.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(line) + "\n")
        if self._events is not None:
            for name, value in line.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(line["step"]))
            self._events.flush()

    def close(self) -> None:
        """Close TensorBoard's files."""
        if self._events is not None:
            self._events.close()
