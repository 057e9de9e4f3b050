"""An overview of several data sets in every format; each set has a folder with its own comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from dupmae.files import new_file, write_json, write_text
from dupmae.report import markup, terminal
from dupmae.report import run_page as page
from dupmae.report.charts import DPI
from dupmae.report.comparison_page import cell, table
from dupmae.report.drawing import PAGE as PAGE_COLORS
from dupmae.report.drawing import PRINT, Palette, bare, new_figure, style, svg
from dupmae.report.overview import Overview
from dupmae.report.overview_tables import AVERAGE, head, notes, outcome, rows
from dupmae.report.run_page import escaped
from dupmae.report.tables import metric_name
from dupmae.report.writing import DATA, LATEX, MARKDOWN, PAGE, write_comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE = "sets.png"
# Letters of values that are closer share a label.
CLOSE = 0.01


def shown(overview: Overview) -> str:
    """For the terminal."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in head(overview):
        made.add_column(Text(column))
    lines = rows(overview)
    for name, cells in lines:
        made.add_row(Text(name), *map(terminal.cell, cells), end_section=name == lines[-2][0])
    return terminal.printed(made, outcome(overview), ["* highest of its row.", *notes(overview)])


def markdown(overview: Overview) -> str:
    """The table and the notes."""
    columns = list(map(markup.markdown_text, head(overview)))
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    lines += [[markup.markdown_text(name), *map(markup.markdown_cell, cells)] for name, cells in rows(overview)]
    return f"{markup.markdown_table(lines)}\n\n{markup.markdown_notes(notes(overview))}\n"


def latex(overview: Overview) -> str:
    """The table as a LaTeX tabular; needs the package booktabs."""
    columns = list(map(markup.latex_text, head(overview)))
    body = []
    for name, cells in rows(overview):
        body += [r"\midrule"] if name == AVERAGE else []
        body.append(markup.latex_line([markup.latex_text(name), *map(markup.latex_cell, cells)]))
    made = markup.tabular("l" * len(columns), columns, body)
    return "\n".join([markup.NEEDS, *(f"% {line}" for line in notes(overview)), made, ""])


def overview_page(overview: Overview) -> str:
    """The overview as a page, with a link to the comparison of each set.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    lines = "".join(f"<p>{escaped(line)}</p>" for line in outcome(overview))
    body = []
    for name, cells in rows(overview):
        # Averages have no page of their own.
        linked = name in overview.sets
        title = f'<a href="{escaped(name)}/{PAGE}">{escaped(name)}</a>' if linked else escaped(name)
        mark = ' class="ours"' if name == AVERAGE else ""
        body.append(f'<tr{mark}><th scope="row">{title}</th>{"".join(map(cell, cells))}</tr>')
    told = "".join(f'<p class="note">{escaped(line)}</p>\n' for line in ["Highest of a row in bold.", *notes(overview)])
    with style():
        chart = svg(_chart(overview, PAGE_COLORS), f"{metric_name(overview.metric)} of every system on every set")
    tables = page.section("Data sets", table("systems sets", head(overview), body) + told)
    title = f"Comparison on {len(overview.sets)} data sets"
    top = f'<header>\n<h1>{escaped(title)}</h1>\n<div class="outcome">{lines}</div>\n</header>\n'
    drawn = page.section("Every set", f'<figure class="wide">{chart}</figure>')
    return page.document(title, top + tables + drawn)


def write_overview(out: Path, overview: Overview) -> dict[str, str]:
    """Write the overview, and the comparison of each set in a folder; returns what is where.

    Raises:
        DupmaeError: when matplotlib is not installed or a file cannot be written.
    """
    write_json(out / DATA, overview.as_dict())
    write_text(out / LATEX, latex(overview))
    write_text(out / MARKDOWN, markdown(overview))
    for name, comparison in overview.sets.items():
        write_comparison(out / name, comparison, overview.bm25.get(name))
    with style(), new_file(out / PICTURE) as temporary:
        _chart(overview, PRINT).savefig(temporary, format="png", dpi=DPI, facecolor="white")
    write_text(out / PAGE, overview_page(overview))
    told = {PAGE: "the report", DATA: "everything", LATEX: "for a paper", MARKDOWN: "for a page"}
    return told | {PICTURE: "every system on every set", f"{next(iter(overview.sets))}/": "each set by itself"}


def _chart(overview: Overview, colors: Palette) -> Figure:
    """Systems by their letters, one line a set; the papers' systems as grey points."""
    names = list(overview.sets)
    figure, (axes,) = new_figure(8, 0.8 + 0.32 * len(names))
    papers = [overview.quoted_values(label) for label in overview.quoted]
    values = {letter: overview.values(system) for letter, system in overview.systems.items()}
    for place, name in enumerate(names):
        quoted = [found[name] for found in papers if name in found]
        axes.plot(quoted, [place] * len(quoted), "o", color=colors.other, markersize=5)
        measured = {letter: found[name] for letter, found in values.items()}
        axes.plot(list(measured.values()), [place] * len(measured), "o", color=colors.hybrid, markersize=5)
        for value, letters in _labels(measured):
            axes.annotate(letters, (value, place), (0, 4), textcoords="offset points", ha="center", color=colors.ink)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.margins(x=0.06)
    axes.grid(color=colors.line, linewidth=0.8)
    bare(axes, colors)
    axes.set_axisbelow(True)
    said = ", ".join(f"{letter} {name}" for letter, name in overview.systems.items())
    title = f"{metric_name(overview.metric)}: {said}" + ("; grey: quoted" if papers else "")
    axes.set_title(title, loc="left", color=colors.ink, fontsize=9)
    return figure


def _labels(measured: dict[str, float]) -> list[tuple[float, str]]:
    """Where letters are put: those of almost equal values together, at the first of them."""
    labels: list[tuple[float, str]] = []
    for letter, value in sorted(measured.items(), key=lambda pair: pair[1]):
        if labels and value - labels[-1][0] < CLOSE:
            labels[-1] = (labels[-1][0], labels[-1][1] + letter)
        else:
            labels.append((value, letter))
    return labels
