"""The commands that run several stages: quickstart and run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae.commands.base import Command, Outcome, command_line, recipe_word, written

if TYPE_CHECKING:
    from dupmae.settings import Chain, Quickstart
    from dupmae.stages.runner import Ran


def quickstart(settings: Quickstart, report: dict[str, Any]) -> Outcome:
    """The whole line on the documentation of the installed packages."""
    table = (settings.out / "report" / "report.md").read_text(encoding="utf-8")
    names = ("report/report.html", "report/report.json", "pretrain/encoder", "retriever", "index")
    after = command_line("search", settings.out, "read a csv file in chunks")
    return written(report, settings.out, dict.fromkeys(names, ""), after, [table.rstrip()])


def run(settings: Chain, ran: list[Ran], recipe: Path | None) -> Outcome:
    """Several stages, one after another."""
    rows = []
    for stage in ran:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in (stage.entry.metrics or {}).items())
        took = "finished before" if stage.before else f"{stage.entry.seconds:,.1f} s"
        rows.append(f"{stage.name:<16} {took:>15}  {metrics}".rstrip())
    after = command_line("run", recipe_word(recipe), "--out", settings.out)
    index = next((stage.out for stage in ran if stage.kind == "index"), None)
    if index is not None:
        after = command_line("search", index, "what you look for")
    result = {"stages": [stage.as_dict() for stage in ran]}
    files = {"chain.json": "what is finished: the same command runs the rest, or what has changed"}
    return written(result, settings.out, files, after, rows)


QUICKSTART = Command(
    "quickstart", "from the documentation of the installed packages to a measured retriever", "quickstart", quickstart
)
RUN = Command(
    "run",
    "several stages, one after another, from one recipe",
    "run",
    run,
    words=("recipe",),
    example="adapt values.data=texts.jsonl --out runs/adapt",
)
