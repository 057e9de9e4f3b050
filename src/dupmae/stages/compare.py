"""`dupmae compare`: several systems on the same queries, of one data set or of several.

`compare` is the stage; `compared` gives what the command shows as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dupmae.report import charts, wording
from dupmae.report.comparison import compare as compare_set
from dupmae.report.context import read_context
from dupmae.report.overview import compare_sets, several_sets
from dupmae.report.tables import terminal
from dupmae.report.writing import write_comparison, write_overview
from dupmae.settings import Compare


@dataclass(frozen=True)
class Compared:
    """What a comparison has come to.

    Attributes:
        report: what report.json holds.
        text: tables, outcome and notes for the terminal.
        written: the files in `settings.out`, and what each of them holds.
    """

    report: dict[str, Any]
    text: str
    written: dict[str, str]


def compare(settings: Compare) -> dict[str, Any]:
    """Compare results of `dupmae evaluate` and write the report; returns what report.json holds.

    With `settings.out` this leaves report.html, report.json, report.md and report.png in that folder.

    Raises:
        DupmaeError: when results, logs, chain or index cannot be read or do not belong together, a setting names a
            system or metric that there is not, matplotlib is not installed, or a file cannot be written.
    """
    return compared(settings).report


def compared(settings: Compare) -> Compared:
    """The same with the tables as text and the files written.

    Raises:
        DupmaeError: as `compare`.
    """
    if settings.out is not None:
        charts.check()
    if several_sets(settings.inputs):
        overview = compare_sets(settings)
        context = read_context(settings, None)
        text = terminal([overview.table()], overview.outcome(), ["* highest of its row.", *overview.notes()])
        written = {} if settings.out is None else write_overview(settings.out, overview, context)
        return Compared(overview.as_dict() | context.as_dict(), text, written)
    comparison, judged, bm25 = compare_set(settings)
    context = read_context(settings, judged)
    tables = [wording.systems_table(comparison), wording.pairs_table(comparison)]
    text = terminal(tables, wording.outcome(comparison), ["* highest of its column.", *wording.notes(comparison)])
    written = {} if settings.out is None else write_comparison(settings.out, comparison, context, bm25)
    return Compared(comparison.as_dict() | context.as_dict(), text, written)
