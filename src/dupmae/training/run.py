"""Running a plan to its end: resume, log, save, stop when asked, and budgets in minutes."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn

from dupmae import console
from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import LOG, cache_folder, read_json, remove_leftovers, write_json, write_text
from dupmae.training import checkpoints, processes
from dupmae.training.checkpoints import Checkpoint
from dupmae.training.loop import Line, Loop, Plan, Steps
from dupmae.training.monitor import note
from dupmae.training.stopping import StopSignals

SAVE_SECONDS = 600.0
# An even number after the first: runs whose every second step is a heavier one are measured at their mean.
MEASURED_STEPS = 5
# Settings that are compared since checkpoints were first written: older ones do not have them.
LATER = {"dtype", "dropout", "weight_decay", "data"}
Lines = list[Line]


def parameter_groups(
    model: nn.Module, new: list[nn.Parameter], *, rate: float, new_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split parameters four ways: loaded or new, decayed or not (vectors and scalars are not decayed)."""
    fresh = {id(parameter) for parameter in new}
    groups = []
    for is_new in (False, True):
        for decayed in (True, False):
            chosen = [p for p in model.parameters() if (id(p) in fresh) is is_new and (p.ndim > 1) is decayed]
            if chosen:
                decay = weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": new_rate if is_new else rate, "weight_decay": decay})
    return groups


def train(model: nn.Module, data: Callable[[int], Steps], plan: Plan, *, steps: int) -> Lines:
    """Run the loop to step `steps` and return the log lines.

    Args:
        data: makes the joint batches for a number of steps.

    Raises:
        DupmaeError: when training diverges, or `out` holds another run's checkpoints.
        SystemExit: with code 143 after SIGTERM and 130 after Ctrl-C, when a checkpoint is written.
    """
    folder, state = _start(plan, model)
    loop = Loop(model, data(steps), plan, steps)
    lines: Lines = []
    followed = state.get("followed", True)
    if folder is not None:
        loop.restore(folder, state)
    if processes.rank() == 0:
        lines = _kept_lines(plan.out / LOG, loop.done if followed else loop.done - 1)
    # More steps than were planned at first lengthen a run that has ended.
    if not state.get("ended", False) or steps > state["steps"]:
        _run(loop, lines, followed)
    if loop.diverging:
        raise DupmaeError("training diverged: no finite loss at the end", where=plan.out, fix="lower learning_rate")
    weights = () if plan.checkpoints else checkpoints.weights_of(model)
    bad = next((name for name, value in weights if not value.isfinite().all()), None)
    if bad is not None:
        raise DupmaeError(f"training diverged: {bad} is not finite", where=plan.out, fix="lower learning_rate")
    return lines


def _run(loop: Loop, lines: Lines, followed: bool) -> None:
    """All steps that are left, with what happens between them; `followed` as for `Loop.save`."""
    plan, due_save, ended = loop.plan, False, False
    with console.progress(plan.title, loop.steps, "steps") as bar, StopSignals(plan.checkpoints) as signals:
        bar.advance(loop.done)
        if plan.watcher is not None:
            plan.watcher.begin(loop.done, loop.steps, lines)
        if not followed:
            ended = due_save = _follow(loop, lines, bar)
        while True:
            # Weights that give no finite loss must not push out those that did.
            if due_save and plan.checkpoints and not loop.diverging:
                loop.save(ended=ended)
                due_save = False
            if ended or loop.done == loop.steps:
                return
            before = loop.done
            stop, old = loop.step(
                lambda: (signals.asked, plan.save_every is None and time.monotonic() - loop.saved > SAVE_SECONDS)
            )
            if stop:
                _leave(loop, signals.exit_code, followed=loop.done == before)
            bar.advance()
            ended = _follow(loop, lines, bar)
            due_save |= ended or old or (plan.save_every is not None and loop.done % plan.save_every == 0)


def _follow(loop: Loop, lines: Lines, bar: Any) -> bool:
    """What is due after a step: what the watcher does, and a log line; returns whether the run ends here."""
    plan = loop.plan
    due_line = plan.watcher is not None and plan.watcher.after_step(loop.done)
    ended = loop.done == loop.steps or (plan.watcher is not None and plan.watcher.ended)
    if loop.has_news and (loop.done == 1 or loop.done % plan.log_every == 0 or ended or due_line):
        bar.describe(note(_log(loop, lines)))
    return ended


def _log(loop: Loop, lines: Lines) -> Line:
    """Write a log line; every process comes here together."""
    line = loop.line()
    if loop.plan.watcher is not None:
        loop.plan.watcher.complete(line)
    if processes.rank() == 0:
        lines.append(line)
        with (loop.plan.out / LOG).open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
    return line


def _leave(loop: Loop, exit_code: int, *, followed: bool) -> NoReturn:
    """Save at once and end: what is due after the step may take long, and is done when the run is resumed."""
    if loop.done > loop.saved_step and not loop.diverging:
        loop.save(followed=followed)
    if processes.rank() == 0:
        kept = "checkpoint saved" if loop.done == loop.saved_step else "the checkpoint before it stays"
        told = f"{kept}: --resume goes on from it" if loop.saved_step else "before the first checkpoint"
        logger.warning(f"stopped at step {loop.done:,} of {loop.steps:,}, {told}")
    raise SystemExit(exit_code)


def _start(plan: Plan, model: nn.Module) -> tuple[Path | None, dict[str, Any]]:
    """Where the run goes on: the folder and state of a checkpoint, its weights in process 0's model."""
    found: Checkpoint | None = None
    if processes.rank() == 0:
        plan.out.mkdir(parents=True, exist_ok=True)
        if plan.resume:
            found = checkpoints.latest(plan.out)
            told = (
                "nothing to resume from, starting at the beginning"
                if found is None
                else f"resuming from {found.folder}"
            )
            logger.info(f"{plan.out}: {told}" if found is None else told)
        elif checkpoints.listed(plan.out):
            fix = "resume=true, or another out"
            raise DupmaeError("holds checkpoints of an earlier run", where=plan.out, fix=fix)
        remove_leftovers(plan.out)
        if found is not None:
            _check_same(plan, found)
            checkpoints.load_model(found, model)
            # The run may have been killed before it deleted those that this one replaced.
            checkpoints.prune(plan.out, found.step)
    return processes.agreed((found.folder, found.state) if found is not None else (None, {}))


def _check_same(plan: Plan, found: Checkpoint) -> None:
    first = found.state["settings"]
    for name, value in json.loads(json.dumps(dict(plan.same))).items():
        if name in LATER and name not in first:
            continue
        if first.get(name) != value:
            problem = f"{name} is {value}, the run was started with {first.get(name)}"
            raise DupmaeError(problem, where=found.folder, fix="resume with the settings of the first run")


def _kept_lines(path: Path, done: int) -> Lines:
    """Start the log anew, or keep the lines up to the checkpoint that the run resumes from."""
    kept = checkpoints.read_lines(path, done) if done else []
    write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
    return kept


def steps_within(
    minutes: float, model: nn.Module, data: Callable[[int], Steps], plan: Plan, settings: Mapping[str, Any]
) -> int:
    """How many steps fit into `minutes`, by the speed of a few steps on a throw-away copy.

    The number is kept in the run's folder, so that a resumed run ends where the first one would have. The speed is
    remembered per settings and machine under the cache folder, so the same command does the same number of steps.
    """
    kept = plan.out / "run.json"
    steps: int | None = None
    if plan.resume and processes.rank() == 0 and kept.exists():
        known = read_json(kept)
        steps = known["steps"] if known["minutes"] == minutes else None
    steps = processes.agreed(steps)
    if steps is None:
        seconds = _known_seconds(model, data, plan, settings)
        steps = processes.agreed(max(1, int(minutes * 60 / seconds)))
    if plan.checkpoints and processes.rank() == 0:
        write_json(kept, {"minutes": minutes, "steps": steps})
    return steps


def _known_seconds(model: nn.Module, data: Callable[[int], Steps], plan: Plan, settings: Mapping[str, Any]) -> float:
    described = json.dumps([settings, torch.get_num_threads(), processes.count(), torch.__version__], default=str)
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    file = cache_folder() / "speed.json"
    known: dict[str, float] = processes.agreed(read_json(file) if processes.rank() == 0 and file.exists() else {})
    if key not in known:
        known[key] = _seconds_per_step(model, data, plan)
        if processes.rank() == 0:
            write_json(file, known)
    return known[key]


def _seconds_per_step(model: nn.Module, data: Callable[[int], Steps], plan: Plan) -> float:
    """Mean seconds of a step on a copy of the model, after one step to warm up."""
    loop = Loop(copy.deepcopy(model), data(MEASURED_STEPS), plan, MEASURED_STEPS)
    loop.step()
    start = time.perf_counter()
    for _ in range(1, MEASURED_STEPS):
        loop.step()
    return (time.perf_counter() - start) / (MEASURED_STEPS - 1)
