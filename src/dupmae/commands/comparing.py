"""The command `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, check_folder, command_line, wrote

if TYPE_CHECKING:
    from dupmae import recipe


def compare(settings: recipe.Compare) -> Outcome:
    """Several systems on the same queries."""
    if settings.out is not None:
        check_folder(settings.out, replaced=False)
    from dupmae.comparison.comparing import compare as run
    from dupmae.comparison.terminal import terminal
    from dupmae.comparison.writing import write_comparison

    comparison, bm25 = run(settings)
    result, text = comparison.as_dict(), terminal(comparison)
    if settings.out is None:
        after = command_line("compare", *settings.inputs, "--out", "OUT")
        return Outcome({**result, "next": after}, f"{text}\n\nnext: {after}")
    told = write_comparison(settings.out, comparison, bm25)
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
