"""The command that makes training data: synthesize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, written
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.settings import Synthesize


def synthesize(settings: Synthesize) -> Outcome:
    """Text without labels to training pairs."""
    check_folder(settings.out, "a corpus")
    from dupmae.stages.synthesize import synthesize as run

    done = run(settings)
    pairs = sum(done.kinds.values())
    kinds = ", ".join(f"{count:,} by {kind}" for kind, count in done.kinds.items())
    told = f"{pairs:,} pairs, {kinds}; {done.without:,} texts gave none"
    retriever = settings.out.with_name("retriever")
    after = command_line("finetune", "--model", "ENCODER", "--data", settings.out, "--out", retriever, "epochs=1")
    result = {"out": str(settings.out), "pairs": pairs, "kinds": done.kinds, "without": done.without}
    return written(result, settings.out, {"": told}, after)


COMMANDS = (
    Command(
        "synthesize",
        "text without labels to training pairs",
        synthesize,
        "Synthesize",
        ("out", "pairs", "seed"),
        words="inputs",
    ),
)
