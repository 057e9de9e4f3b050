"""The files of a report, each whole or not at all: report.json, report.md, report.png, report.html."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dupmae.evaluation.benchmarks.suite_results import write
from dupmae.files import write_json, write_text
from dupmae.report import pages, wording
from dupmae.report.comparison import BM25, Comparison
from dupmae.report.context import Context
from dupmae.report.overview import Overview
from dupmae.report.pages import PAGE
from dupmae.report.results import Result, as_written
from dupmae.report.tables import markdown, markdown_list

DATA, MARKDOWN, PICTURE = "report.json", "report.md", "report.png"
# More panels side by side would be too small to read.
PICTURED = 3


def write_comparison(out: Path, comparison: Comparison, context: Context, bm25: Result | None) -> dict[str, str]:
    """Write the report of a comparison, and BM25's own result; returns what each file holds.

    Raises:
        DupmaeError: when matplotlib is not installed (all that needs no charts is there by then), or a file cannot
            be written.
    """
    write_json(out / DATA, comparison.as_dict() | context.as_dict())
    tables = [markdown(table) for table in (wording.systems_table(comparison), wording.pairs_table(comparison))]
    write_text(out / MARKDOWN, "\n\n".join([*tables, markdown_list(wording.notes(comparison))]) + "\n")
    told = {DATA: "everything, with the values of every query", MARKDOWN: "both tables"}
    if bm25 is not None:
        write(bm25.file.parent, as_written(bm25), bm25.values or {}, bm25.rankings(), BM25)
        told[str(bm25.file.relative_to(out))] = "can be compared again"
    pages.score_bars(comparison, comparison.metrics[:PICTURED]).write(out / PICTURE)
    write_text(out / PAGE, pages.comparison_page(comparison, context))
    return {PAGE: "the report", **told, PICTURE: "bars of the metrics"}


def write_overview(out: Path, overview: Overview, context: Context) -> dict[str, str]:
    """Write the report of several data sets, and that of each set in a folder; returns what is where.

    Raises:
        DupmaeError: when matplotlib is not installed or a file cannot be written.
    """
    write_json(out / DATA, overview.as_dict() | context.as_dict())
    write_text(out / MARKDOWN, f"{markdown(overview.table())}\n\n{markdown_list(overview.notes())}\n")
    for name, comparison in overview.sets.items():
        write_comparison(out / name, comparison, replace(context, curves={}, stages={}), overview.bm25.get(name))
    pages.overview_chart(overview).write(out / PICTURE)
    write_text(out / PAGE, pages.overview_page(overview, context))
    told = {PAGE: "the report", DATA: "everything", MARKDOWN: "the table", PICTURE: "every system on every set"}
    return told | {f"{next(iter(overview.sets))}/": "each set by itself"}
