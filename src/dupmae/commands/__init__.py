"""The commands: each runs a stage with checked settings, and says what was written and what comes next.

`COMMANDS` lists them by name. Stages and settings are imported when a command is run, since they bring torch and
pydantic with them.
"""

from __future__ import annotations

from dupmae.commands import chain, compare, export, finetune, pretrain, search, study
from dupmae.commands.base import Command, Outcome

__all__ = ["COMMANDS", "Command", "Outcome"]

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        chain.QUICKSTART,
        *pretrain.COMMANDS,
        finetune.SYNTHESIZE,
        *finetune.COMMANDS,
        *search.COMMANDS,
        compare.COMPARE,
        export.EXPORT,
        chain.RUN,
        study.STUDY,
    )
}
