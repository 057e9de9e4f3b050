"""The report of a run: report.json for machines, report.html for people, the picture for the README.

`write_report`, `write_picture`; `format_table` and `format_markdown` give the table of systems as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae.files import write_json, write_text
from dupmae.report import run_charts as figures
from dupmae.report.run_page import page
from dupmae.report.summary import Report, format_markdown, format_table

__all__ = ["format_markdown", "format_table", "write_picture", "write_report"]


def write_report(
    out: str | Path, report: Report, logs: dict[str, list[dict[str, Any]]], examples: list[dict[str, Any]]
) -> None:
    """Write report.json and then report.html, a single file that asks for nothing from elsewhere.

    Args:
        out: folder of the run.
        report: what becomes report.json: dataset, systems (with labels), p_values, seconds,
            peak_memory_bytes, settings, versions, fine_tuning.
        logs: stage -> log lines, each with `step` and the loss terms.
        examples: searches to show, each with query, expected, rank and results.

    Raises:
        DupmaeError: when matplotlib is not installed (report.json is there by then), or a file cannot be
            written.
    """
    write_json(Path(out) / "report.json", report)
    write_text(Path(out) / "report.html", page(report, logs, examples))


def write_picture(path: str | Path, report: Report) -> None:
    """Write the README's picture: bars of all systems for nDCG@10, MRR@10 and Recall@100, as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    figures.picture(path, report)
