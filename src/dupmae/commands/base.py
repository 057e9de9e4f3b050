"""What all commands share: how one is described, and how one says what it wrote and what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a command for machines, and the same for people."""

    result: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Command:
    """One command. Its settings are those of its stage, and every one of them is an option.

    Attributes:
        summary: a line for the list of commands.
        stage: its name in `dupmae.stages.STAGES`.
        outcome: says what was done, of the settings and of what the stage returns; where words name a recipe, of its
            file, too.
        words: the settings that words without `=` are for, in order; the last takes all that are left. `recipe` is
            the file of settings itself.
        example: such words, for the help.
        suite: what the command is when a suite is given.
    """

    name: str
    summary: str
    stage: str
    outcome: Callable[..., Outcome]
    words: tuple[str, ...] = ()
    example: str = ""
    suite: Command | None = None


def written(
    result: Mapping[str, Any], out: Path, files: Mapping[str, str], after: str, rows: Sequence[str] = ()
) -> Outcome:
    """The outcome of a command that wrote something.

    Args:
        result: for machines; the next command is put in, too.
        out: what was written, and `files` the names in it with what is to be said of each.
        after: the next command.
        rows: lines to come first.
    """
    lines = [*rows, ""] if rows else []
    lines += [f"wrote {out / name}" + (f": {note}" if note else "") for name, note in files.items()]
    return followed(result, "\n".join(lines), after)


def followed(result: Mapping[str, Any], text: str, after: str) -> Outcome:
    """An outcome that names the next command."""
    return Outcome({**result, "next": after}, f"{text}\nnext: {after}")


def command_line(*words: object) -> str:
    """A command of this program as one would type it."""
    return shlex.join(["dupmae", *map(str, words)])


def index_line(retriever: Path, corpus: object) -> str:
    """The command that puts a corpus into an index beside a trained retriever."""
    return command_line("index", "--retriever", retriever, "--data", corpus, "--out", retriever.with_name("index"))


def recipe_word(file: Path | None) -> str:
    """How a recipe is named on the command line: by its name alone when it comes with the package."""
    from dupmae.settings.recipes import RECIPES

    if file is None:
        return "RECIPE"
    return file.stem if file.parent == RECIPES else str(file)


def last(log: list[dict[str, float]]) -> dict[str, float]:
    """The newest line of a training log."""
    return log[-1] if log else {}


def losses(log: list[dict[str, float]]) -> str:
    """From where to where the loss went, to be put behind other words."""
    return f", loss {log[0]['loss']:.3f} to {log[-1]['loss']:.3f}" if log else ""


def metric_rows(metrics: Mapping[str, float]) -> list[str]:
    """A line for each metric."""
    return [f"{name:<13} {value:.4f}" for name, value in metrics.items()]
