"""The commands: each calls a stage with checked settings, and says what was written and what comes next.

`COMMANDS` lists them by name. A new one is an entry in the `COMMANDS` of one of the modules; a new module is named
here. Stages and settings are imported when a command is run, since they bring torch and pydantic with them.
"""

from __future__ import annotations

from dupmae.commands import comparing, export, finetuning, lines, pretraining, searching, studying, synthetic
from dupmae.commands.base import Command, Outcome

__all__ = ["COMMANDS", "Command", "Outcome"]

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        lines.QUICKSTART,
        *pretraining.COMMANDS,
        *synthetic.COMMANDS,
        *finetuning.COMMANDS,
        *searching.COMMANDS,
        *comparing.COMMANDS,
        *export.COMMANDS,
        lines.RUN,
        *studying.COMMANDS,
    )
}
