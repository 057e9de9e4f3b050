"""The command `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, followed, written

if TYPE_CHECKING:
    from dupmae.settings import Compare
    from dupmae.stages.compare import Compared


def compare(settings: Compare, done: Compared) -> Outcome:
    """Several systems on the same queries, of one data set or of several."""
    inputs: list[object] = (
        list(settings.inputs)
        if isinstance(settings.inputs, list)
        else [f"inputs.{name}={path}" for name, path in settings.inputs.items()]
    )
    if settings.out is None:
        return followed(done.report, f"{done.text}\n", command_line("compare", *inputs, "--out", "OUT"))
    again = () if "bm25" in done.report.get("systems", {}) else ("--bm25",)
    after = command_line("compare", *inputs, "MORE", *again, "--out", settings.out)
    return written(done.report, settings.out, done.written, after, [done.text])


COMPARE = Command(
    "compare",
    "several results on the same queries, with tests of their differences",
    "compare",
    compare,
    words=("inputs",),
    example="measured/metrics.json other/metrics.json --bm25",
)
