"""What all commands share: how one is described, and how one says what it wrote and what comes next."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The result of a command for machines, and the same for people."""

    result: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Command:
    """One command: its name, what it does, and how its settings are given.

    Attributes:
        summary: a line for the list of commands.
        run: called with the checked settings, or with the parsed options where there is no settings class.
        settings: name of the settings class in `dupmae.settings`, by name so that a list of commands needs no class.
        flags: settings that have a flag of their own.
        switches: settings that have a flag without a value, and what the flag sets.
        words: the setting that words without `=` are for; `recipe` is the file of settings itself.
        takes_file: whether `run` is called with that file, or None, too.
        arguments: adds the arguments of a command that has no settings class.
        example: a line below the help of such a command.
        variants: what the command is when one of these settings is given: other settings, another `run`.
    """

    name: str
    summary: str
    run: Callable[..., Outcome]
    settings: str = ""
    flags: tuple[str, ...] = ()
    switches: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    takes_file: bool = False
    arguments: Callable[[argparse.ArgumentParser], None] | None = None
    example: str = ""
    variants: dict[str, Command] = field(default_factory=dict)


def written(
    result: Mapping[str, Any], out: Path, told: Mapping[str, str], after: str, rows: Sequence[str] = ()
) -> Outcome:
    """The outcome of a command that wrote something.

    Args:
        result: for machines; the next command is put in, too.
        out: what was written, and `told` the names in it with what is to be said of each.
        after: the next command.
        rows: lines to come first.
    """
    lines = [*rows, ""] if rows else []
    return Outcome({**result, "next": after}, "\n".join([*lines, wrote(out, told, after)]))


def wrote(out: Path, told: Mapping[str, str], after: str) -> str:
    """A line for each thing written, and one for the next command."""
    lines = [f"wrote {out / name}" + (f": {note}" if note else "") for name, note in told.items()]
    return "\n".join([*lines, f"next: {after}"])


def command_line(*words: object) -> str:
    """A command of this program as one would type it."""
    return shlex.join(["dupmae", *map(str, words)])


def index_line(retriever: Path, corpus: object) -> str:
    """The command that puts a corpus into an index beside a trained retriever."""
    return command_line("index", "--retriever", retriever, "--data", corpus, "--out", retriever.with_name("index"))


def recipe_word(file: Path | None) -> str:
    """How a recipe is named on the command line: by its name alone when it comes with the package."""
    from dupmae.settings.loading import RECIPES

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
