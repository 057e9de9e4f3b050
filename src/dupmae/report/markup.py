"""The comparison for papers and pages: LaTeX (booktabs) and Markdown."""

from __future__ import annotations

import re

from dupmae.report.comparison import Comparison
from dupmae.report.tables import DIFFERENCE_COLUMNS, Cell, difference_cells, metric_name, notes, rows

NEEDS = r"% needs \usepackage{booktabs}"
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$"}
# Outside of mathematics the old encoding of fonts prints these as other signs.
_LATEX |= {sign: f"${sign}$" for sign in "<>|"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def markdown(comparison: Comparison) -> str:
    """Both tables and the notes; the highest value in bold, quoted lines in italics."""
    head = ["", "System", *map(metric_name, comparison.metrics)]
    lines = [head, ["---", "---", *["---:"] * len(comparison.metrics)]]
    for row in rows(comparison):
        name = markdown_text(row.name) if row.source is None else f"*{markdown_text(row.name)}, quoted [{row.source}]*"
        lines.append([row.letter, name, *map(markdown_cell, row.cells)])
    pairs = [["Pair", *DIFFERENCE_COLUMNS], ["---", *["---:"] * len(DIFFERENCE_COLUMNS)]]
    for pair in comparison.differences:
        pairs.append([markdown_text(f"{pair.system} against {pair.other}"), *difference_cells(pair)])
    told = f"Differences on {metric_name(comparison.metric)}, {comparison.test}:"
    parts = [markdown_table(lines), told, markdown_table(pairs), markdown_notes(notes(comparison))]
    return "\n\n".join(parts) + "\n"


def markdown_table(lines: list[list[str]]) -> str:
    """A table out of its cells, head and rule included."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_notes(lines: list[str]) -> str:
    """Notes as a list."""
    return "\n".join(f"- {line.replace('<', '&lt;')}" for line in lines)


def markdown_text(text: str) -> str:
    """A name as text of a table: what Markdown would read as markup is escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def markdown_cell(cell: Cell) -> str:
    """A value with its marks."""
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} <sup>{cell.marks}</sup>" if cell.marks else text


def latex(comparison: Comparison) -> str:
    """Both tables as LaTeX tabulars; needs the package booktabs. The notes stand before them as comments."""
    columns = len(comparison.metrics) + 2
    head = ["", "System", *(latex_text(metric_name(metric)) for metric in comparison.metrics)]
    body, quoting = [], False
    for row in rows(comparison):
        if row.source is not None and not quoting:
            quoting = True
            body += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\emph{{Quoted, not measured here}}}} \\"]
        name = latex_text(row.name) if row.source is None else f"{latex_text(row.name)} [{row.source}]"
        body.append(latex_line([row.letter, name, *map(latex_cell, row.cells)]))
    told = [rf"% {line}" for line in notes(comparison)]
    systems = tabular("ll" + "l" * len(comparison.metrics), head, body)
    pairs = [
        latex_line([latex_text(f"{pair.system} against {pair.other}"), *map(_latex_number, difference_cells(pair))])
        for pair in comparison.differences
    ]
    heads = ["Pair", *map(latex_text, DIFFERENCE_COLUMNS)]
    return "\n".join([NEEDS, *told, systems, "", tabular("lrrrrr", heads, pairs), ""])


def tabular(columns: str, head: list[str], body: list[str]) -> str:
    """A table of rows, between the rules of booktabs."""
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", latex_line(head), r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def latex_line(cells: list[str]) -> str:
    """A row."""
    return " & ".join(cells) + r" \\"


def latex_cell(cell: Cell) -> str:
    """A value with its marks."""
    text = rf"\textbf{{{cell.text}}}" if cell.best else latex_text(cell.text)
    return f"{text}$^{{{cell.marks}}}$" if cell.marks else text


def _latex_number(text: str) -> str:
    """Signs of numbers in mathematics: a hyphen is no minus."""
    return re.sub(r"([+-])(?=\d)", r"$\1$", latex_text(text))


def latex_text(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(_LATEX.get(sign, sign) for sign in text)
