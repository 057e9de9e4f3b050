"""The command `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, wrote
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.settings import Compare


def compare(settings: Compare) -> Outcome:
    """Several systems on the same queries, of one data set or of several."""
    if settings.out is not None:
        check_folder(settings.out)
    from dupmae.stages.compare import compared

    found = compared(settings)
    inputs: list[object] = (
        list(settings.inputs)
        if isinstance(settings.inputs, list)
        else [f"inputs.{name}={path}" for name, path in settings.inputs.items()]
    )
    if settings.out is None:
        after = command_line("compare", *inputs, "--out", "OUT")
        return Outcome({**found.report, "next": after}, f"{found.text}\n\nnext: {after}")
    again = () if "bm25" in found.report.get("systems", {}) else ("--bm25",)
    after = command_line("compare", *inputs, "MORE", *again, "--out", settings.out)
    return Outcome({**found.report, "next": after}, f"{found.text}\n\n{wrote(settings.out, found.written, after)}")


COMMANDS = (
    Command(
        "compare",
        "several results on the same queries, with tests of their differences",
        compare,
        "Compare",
        ("out", "data", "metric", "baseline"),
        {"bm25": True},
        words="inputs",
    ),
)
