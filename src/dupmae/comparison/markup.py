"""The comparison for papers and pages: LaTeX (booktabs) and Markdown."""

from __future__ import annotations

import re

from dupmae.comparison.comparing import Comparison
from dupmae.comparison.tables import (
    DIFFERENCE_COLUMNS,
    Cell,
    difference_cells,
    metric_name,
    notes,
    rows,
)

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$"}
# Outside of mathematics the old encoding of fonts prints these as other signs.
_LATEX |= {sign: f"${sign}$" for sign in "<>|"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def markdown(comparison: Comparison) -> str:
    """Both tables and the notes; the highest value in bold, quoted lines in italics."""
    head = ["", "System", *map(metric_name, comparison.metrics)]
    lines = [head, ["---", "---", *["---:"] * len(comparison.metrics)]]
    for row in rows(comparison):
        name = _markdown(row.name) if row.source is None else f"*{_markdown(row.name)}, quoted [{row.source}]*"
        lines.append([row.letter, name, *map(_markdown_cell, row.cells)])
    pairs = [["Pair", *DIFFERENCE_COLUMNS], ["---", *["---:"] * len(DIFFERENCE_COLUMNS)]]
    for pair in comparison.differences:
        pairs.append([_markdown(f"{pair.system} against {pair.other}"), *difference_cells(pair)])
    tables = ["\n".join(f"| {' | '.join(line)} |" for line in table) for table in (lines, pairs)]
    told = "\n".join(f"- {line.replace('<', '&lt;')}" for line in notes(comparison))
    name = metric_name(comparison.metric)
    return f"{tables[0]}\n\nDifferences on {name}, {comparison.test}:\n\n{tables[1]}\n\n{told}\n"


def _markdown(text: str) -> str:
    """A name as text of a table: what Markdown would read as markup is escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return f"{text} <sup>{cell.marks}</sup>" if cell.marks else text


def latex(comparison: Comparison) -> str:
    """Both tables as LaTeX tabulars; needs the package booktabs. The notes stand before them as comments."""
    columns = len(comparison.metrics) + 2
    head = ["", "System", *(_latex(metric_name(metric)) for metric in comparison.metrics)]
    body, quoting = [], False
    for row in rows(comparison):
        if row.source is not None and not quoting:
            quoting = True
            body += [r"\midrule", rf"\multicolumn{{{columns}}}{{l}}{{\emph{{Quoted, not measured here}}}} \\"]
        name = _latex(row.name) if row.source is None else f"{_latex(row.name)} [{row.source}]"
        body.append(_latex_line([row.letter, name, *map(_latex_cell, row.cells)]))
    told = [rf"% {line}" for line in notes(comparison)]
    systems = _tabular("ll" + "l" * len(comparison.metrics), head, body)
    pairs = [
        _latex_line([_latex(f"{pair.system} against {pair.other}"), *map(_latex_number, difference_cells(pair))])
        for pair in comparison.differences
    ]
    heads = ["Pair", *map(_latex, DIFFERENCE_COLUMNS)]
    return "\n".join([r"% needs \usepackage{booktabs}", *told, systems, "", _tabular("lrrrrr", heads, pairs), ""])


def _tabular(columns: str, head: list[str], body: list[str]) -> str:
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_line(head), r"\midrule", *body]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_line(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{cell.text}}}" if cell.best else _latex(cell.text)
    return f"{text}$^{{{cell.marks}}}$" if cell.marks else text


def _latex_number(text: str) -> str:
    """Signs of numbers in mathematics: a hyphen is no minus."""
    return re.sub(r"([+-])(?=\d)", r"$\1$", _latex(text))


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
