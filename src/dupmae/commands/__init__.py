"""The commands: each calls a stage with checked settings, and says what was written and what comes next.

`COMMANDS` lists them by name. A new one is an entry in the `COMMANDS` of one of the modules; a new module is named
here. Stages and settings are imported when a command is run, since they bring torch and pydantic with them.
"""

from __future__ import annotations

from dupmae.commands import chain as lines
from dupmae.commands import compare as comparing
from dupmae.commands import export
from dupmae.commands import finetune as finetuning
from dupmae.commands import pretrain as pretraining
from dupmae.commands import search as searching
from dupmae.commands import study as studying
from dupmae.commands import synthesize as synthetic
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
