"""The commands that run several stages: quickstart and run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, command_line, recipe_word, written, wrote
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.settings import Chain, Quickstart


def quickstart(settings: Quickstart) -> Outcome:
    """The whole line on the documentation of the installed packages."""
    check_folder(settings.out)
    from dupmae.report.run_report import format_table
    from dupmae.stages.quickstart import quickstart as run

    report = run(settings)
    ask = command_line("search", settings.out, "read a csv file in chunks")
    names = ("report.html", "report.json", "pretraining/encoder", "retriever", "index")
    told = {name: "" for name in names if (settings.out / name).exists()}
    return Outcome(report, f"{format_table(report)}\n\n{wrote(settings.out, told, ask)}")


def run(settings: Chain, file: Path | None) -> Outcome:
    """Several stages, one after another."""
    from dupmae.stages.chain import chain

    ran = chain(settings, file)
    rows = []
    for stage in ran:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in (stage.metrics or {}).items())
        took = "finished before" if stage.before else f"{stage.seconds:,.1f} s"
        rows.append(f"{stage.name:<16} {took:>15}  {metrics}".rstrip())
    after = command_line("run", recipe_word(file), "--out", settings.out)
    index = next((stage.out for stage in ran if stage.kind == "index"), None)
    if index is not None:
        after = command_line("search", index, "what you look for")
    result = {"stages": [{**asdict(stage), "out": str(stage.out)} for stage in ran]}
    told = {"chain.json": "what is finished: the same command runs the rest, or what has changed"}
    return written(result, settings.out, told, after, rows)


QUICKSTART = Command(
    "quickstart",
    "from the documentation of the installed packages to a measured retriever",
    quickstart,
    "Quickstart",
    ("out", "minutes", "seed"),
    {"from_scratch": {}},
)
RUN = Command(
    "run",
    "several stages, one after another, from one recipe",
    run,
    "Chain",
    ("out",),
    words="recipe",
    takes_file=True,
)
