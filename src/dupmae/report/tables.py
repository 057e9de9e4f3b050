"""Tables: one structure, shown in the terminal, as Markdown, and by the templates as HTML."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from dupmae.report.text import one_line

# In a file or a pipe no width is known: wide enough that no table is folded.
WIDTH = 160


@dataclass(frozen=True)
class Cell:
    """One value of a table.

    Attributes:
        best: whether it is the highest of those it is held against.
        marks: letters of the systems that this one is significantly better than.
        link: address of a page on it, relative to the table's page.
    """

    text: str
    best: bool = False
    marks: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells below a head; a text alone is a cell without marks.

    Attributes:
        title: a line above the table.
        names: how many columns, from the first, hold names and not numbers.
        strong: positions of the rows that stand out.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    title: str = ""
    names: int = 1
    strong: frozenset[int] = frozenset()

    @property
    def cells(self) -> list[list[Cell]]:
        """Every entry as a cell."""
        return [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in self.rows]


def markdown(table: Table, *, escaped: bool = True) -> str:
    """The table as Markdown: the best in bold, marks raised.

    Args:
        escaped: whether signs that Markdown reads as markup stand for themselves.
    """
    write = _escaped if escaped else str
    lines = [list(map(write, table.head)), ["---" if i < table.names else "---:" for i in range(len(table.head))]]
    for row in table.cells:
        texts = [f"**{write(cell.text)}**" if cell.best else write(cell.text) for cell in row]
        lines.append(
            [f"{text} <sup>{cell.marks}</sup>" if cell.marks else text for text, cell in zip(texts, row, strict=True)]
        )
    title = [f"{write(table.title)}:", ""] if table.title else []
    return "\n".join([*title, *(f"| {' | '.join(line)} |" for line in lines)])


def _escaped(text: str) -> str:
    # A < is markup where a tag could begin.
    return re.sub(r"([\\`*_|\[\]]|<(?=[A-Za-z/!?]))", r"\\\1", one_line(text))


def markdown_list(lines: Sequence[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {_escaped(line)}" for line in lines)


def terminal(tables: Sequence[Table], sentences: Sequence[str], notes: Sequence[str]) -> str:
    """Tables, what they say in sentences, and notes, as standard output can show them.

    Colours and the window's width are those of a terminal; in a file or a pipe there are none.
    """
    shown = sys.stdout.isatty()
    width = shutil.get_terminal_size((WIDTH, 24)).columns if shown else WIDTH
    output = io.StringIO()
    console = Console(file=output, force_terminal=shown, width=width)
    for table in tables:
        console.print(_rich(table))
    for line in sentences:
        console.print(Text(one_line(line)))
    console.print()
    for line in notes:
        console.print(Text(one_line(line), style="dim"))
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def _rich(table: Table) -> RichTable:
    title = Text(one_line(table.title)) if table.title else None
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for place, column in enumerate(table.head):
        # Values with marks keep their digits below each other when they begin on the left.
        right = place >= table.names and not any(row[place].marks or row[place].best for row in table.cells)
        made.add_column(Text(one_line(column)), justify="right" if right else "left", no_wrap=place >= table.names)
    for place, row in enumerate(table.cells):
        made.add_row(*map(_rich_cell, row), style="bold" if place in table.strong else "")
    return made


def _rich_cell(cell: Cell) -> Text:
    text = Text(one_line(cell.text), style="bold" if cell.best else "")
    marks = ("*" if cell.best else " ") if cell.marks or cell.best else ""
    return text.append(marks + (f" {cell.marks}" if cell.marks else ""))
