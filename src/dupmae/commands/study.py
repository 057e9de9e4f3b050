"""The command that runs a grid of pre-trainings and fine-tunings: study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, recipe_word, written

if TYPE_CHECKING:
    from dupmae.settings import Study
    from dupmae.study.runner import Done


def study(settings: Study, done: Done, recipe: Path | None) -> Outcome:
    """The cells of a study that are not finished, and what all of them show."""
    after = command_line("study", recipe_word(recipe), "--data", settings.data, "--out", settings.out)
    files = {
        "study.json": f"{done.finished} of {done.planned} runs: the same command does the rest",
        "README.md": "what they show, with plots",
    }
    return written({**asdict(done), "record": str(done.record)}, settings.out, files, after)


STUDY = Command(
    "study", "a grid of pre-trainings and fine-tunings to tables and plots", "study", study, words=("recipe",)
)
