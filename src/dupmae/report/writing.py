"""The files of a comparison, each whole or not at all."""

from __future__ import annotations

from pathlib import Path

from dupmae.evaluation.benchmarks.suite_results import write
from dupmae.files import write_json, write_text
from dupmae.report import charts
from dupmae.report.comparison import Comparison
from dupmae.report.comparison_page import compare_page
from dupmae.report.markup import latex, markdown
from dupmae.report.results import Result, as_written

PAGE, DATA, LATEX, MARKDOWN = "report.html", "comparison.json", "tables.tex", "tables.md"


def write_comparison(out: Path, comparison: Comparison, bm25: Result | None) -> dict[str, str]:
    """Write comparison.json, tables, pictures, the page, and BM25's own result; returns what each file holds.

    Raises:
        DupmaeError: when matplotlib is not installed (all that needs no charts is there by then), or a file cannot
            be written.
    """
    write_json(out / DATA, comparison.as_dict())
    write_text(out / LATEX, latex(comparison))
    write_text(out / MARKDOWN, markdown(comparison))
    told = {DATA: "everything, with the values of every query", LATEX: "for a paper", MARKDOWN: "for a page"}
    if bm25 is not None:
        write(bm25.file.parent, as_written(bm25), bm25.values or {}, bm25.rankings(), "bm25")
        told[str(bm25.file.relative_to(out))] = "can be compared again"
    told |= charts.write_pictures(out, comparison)
    write_text(out / PAGE, compare_page(comparison))
    return {PAGE: "the report", **told}
