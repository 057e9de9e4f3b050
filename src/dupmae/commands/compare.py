"""The command `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, check_folder, command_line, wrote

if TYPE_CHECKING:
    from dupmae.settings import Compare


def compare(settings: Compare) -> Outcome:
    """Several systems on the same queries, of one data set or of several."""
    if settings.out is not None:
        check_folder(settings.out, replaced=False)
    from dupmae.report.comparison import compare as compare_set
    from dupmae.report.overview import compare_sets, several_sets
    from dupmae.report.overview_writing import shown, write_overview
    from dupmae.report.terminal import terminal
    from dupmae.report.writing import write_comparison

    told: dict[str, str] = {}
    if several_sets(settings.inputs):
        overview = compare_sets(settings)
        result, text = overview.as_dict(), shown(overview)
        if settings.out is not None:
            told = write_overview(settings.out, overview)
    else:
        comparison, bm25 = compare_set(settings)
        result, text = comparison.as_dict(), terminal(comparison)
        if settings.out is not None:
            told = write_comparison(settings.out, comparison, bm25)
    if settings.out is None:
        after = command_line("compare", *settings.inputs, "--out", "OUT")
        return Outcome({**result, "next": after}, f"{text}\n\nnext: {after}")
    again = () if settings.bm25 else ("--bm25",)
    after = command_line("compare", *settings.inputs, "MORE", *again, "--out", settings.out)
    return Outcome({**result, "next": after}, f"{text}\n\n{wrote(settings.out, told, after)}")


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
