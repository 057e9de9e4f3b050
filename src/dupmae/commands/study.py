"""The command that runs a grid of pre-trainings and fine-tunings: study."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, recipe_word, written
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.settings import Study


def study(settings: Study, file: Path | None) -> Outcome:
    """The cells of a study that are not finished, and what all of them show."""
    check_folder(settings.out)
    from dupmae.study.runner import study as run

    done = run(settings, file)
    after = command_line("study", recipe_word(file), "--data", settings.data, "--out", settings.out)
    told = {
        "study.json": f"{done.finished} of {done.planned} runs: the same command does the rest",
        "README.md": "what they show, with plots",
    }
    return written({**asdict(done), "record": str(done.record)}, settings.out, told, after)


COMMANDS = (
    Command(
        "study",
        "a grid of pre-trainings and fine-tunings to tables and plots",
        study,
        "Study",
        ("data", "out"),
        words="recipe",
        takes_file=True,
    ),
)
