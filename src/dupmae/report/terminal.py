"""The comparison for the terminal."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dupmae.report.comparison import Comparison
from dupmae.report.tables import DIFFERENCE_COLUMNS, Cell, difference_cells, metric_name, notes, outcome, rows

# In a file or a pipe no width is known: wide enough that no table is folded.
WIDTH = 160


def terminal(comparison: Comparison) -> str:
    """Both tables, the outcome and the notes; in colours where standard output is a terminal."""
    told = ["* highest of its column.", *notes(comparison)]
    return printed(Group(_systems(comparison), _pairs(comparison)), outcome(comparison), told)


def printed(tables: RenderableType, said: Sequence[str], told: Sequence[str]) -> str:
    """Tables, what they say in sentences, and notes, as standard output can show them."""
    shown = sys.stdout.isatty()
    width = shutil.get_terminal_size((WIDTH, 24)).columns if shown else WIDTH
    text = io.StringIO()
    console = Console(file=text, force_terminal=shown, width=width)
    console.print(tables)
    for line in said:
        console.print(Text(line))
    console.print()
    for line in told:
        console.print(Text(line, style="dim"))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _systems(comparison: Comparison) -> Table:
    table = Table("", "System", box=box.SIMPLE_HEAD, pad_edge=False)
    for metric in comparison.metrics:
        table.add_column(metric_name(metric), no_wrap=True)
    lines = rows(comparison)
    for place, row in enumerate(lines):
        if row.source is None:
            ends = place + 1 < len(lines) and lines[place + 1].source is not None
            table.add_row(row.letter, Text(row.name), *map(cell, row.cells), end_section=ends)
        else:
            name = Text(f"{row.name}, quoted [{row.source}]")
            table.add_row("", name, *map(cell, row.cells), style="dim")
    return table


def cell(cell: Cell) -> Text:
    """A value with its marks."""
    # The place of the mark is kept, so that letters stay below each other.
    text = Text(cell.text, style="bold" if cell.best else "")
    return text.append(("*" if cell.best else " ") + (f" {cell.marks}" if cell.marks else ""))


def _pairs(comparison: Comparison) -> Table:
    title = Text(f"{metric_name(comparison.metric)}, {comparison.test}")
    table = Table("Pair", box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for column in DIFFERENCE_COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    for pair in comparison.differences:
        style = "bold" if pair.significant else ""
        table.add_row(Text(f"{pair.system} against {pair.other}"), *difference_cells(pair), style=style)
    return table
