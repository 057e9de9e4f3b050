"""The comparison as one HTML page: no script, no request to anywhere, readable on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Iterable

from dupmae.report import charts, tables
from dupmae.report import run_page as page
from dupmae.report.comparison import Comparison
from dupmae.report.differences import Difference
from dupmae.report.moving import Found, Moved
from dupmae.report.run_page import escaped

_SNIPPET = 260


def compare_page(comparison: Comparison) -> str:
    """The whole page.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    systems = _systems(comparison) + _bars(comparison)
    return page.document(
        f"Comparison on {comparison.data}",
        "".join(
            [
                _header(comparison),
                page.section("Systems", systems),
                page.section("Differences", _differences(comparison)),
                page.section("Queries that moved most", _moved(comparison)),
            ]
        ),
    )


def _header(comparison: Comparison) -> str:
    lines = "".join(f"<p>{escaped(line)}</p>" for line in tables.outcome(comparison))
    counts = {"queries": comparison.queries, "passages": comparison.corpus, "systems": len(comparison.systems)}
    tiles = page.tiles((name, f"{count:,}") for name, count in counts.items())
    title = escaped(f"Comparison on {comparison.data}")
    return f'<header>\n<h1>{title}</h1>\n<div class="outcome">{lines}</div>\n{tiles}</header>\n'


def _systems(comparison: Comparison) -> str:
    head = ["", "System", *map(tables.metric_name, comparison.metrics)]
    body = []
    for row in tables.rows(comparison):
        cells = "".join(map(cell, row.cells))
        mark = "" if row.source is None else f' <span class="rank">quoted [{row.source}]</span>'
        style = "" if row.source is None else ' class="quoted"'
        body.append(f'<tr{style}><th>{row.letter}</th><th scope="row">{escaped(row.name)}{mark}</th>{cells}</tr>')
    notes = "".join(
        f'<p class="note">{escaped(line)}</p>\n' for line in ["Highest of a column in bold.", *tables.notes(comparison)]
    )
    return table("systems lettered", head, body) + notes


def cell(cell: tables.Cell) -> str:
    """A value with its marks."""
    value = f"{'<b>' * cell.best}{escaped(cell.text)}{'</b>' * cell.best}"
    return f"<td>{value}{f'<sup>{cell.marks}</sup>' if cell.marks else ''}</td>"


def table(kind: str, head: Iterable[str], body: Iterable[str]) -> str:
    """A table that scrolls where the page is narrow; the head is text, the body are rows of HTML."""
    columns = "".join(f'<th scope="col">{escaped(column)}</th>' for column in head)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>\n"
    )


def _bars(comparison: Comparison) -> str:
    drawn = "".join(f"<figure>{charts.score_bars(comparison, metric)}</figure>" for metric in comparison.metrics)
    return f'<div class="charts bars">{drawn}</div>\n'


def _differences(comparison: Comparison) -> str:
    head = ["Pair", *tables.DIFFERENCE_COLUMNS]
    body = [
        f'<tr><th scope="row">{escaped(pair.system)} against {escaped(pair.other)}</th>'
        + "".join(f"<td>{escaped(cell)}</td>" for cell in tables.difference_cells(pair))
        + "</tr>"
        for pair in comparison.differences
    ]
    note = f"{tables.metric_name(comparison.metric)}, {comparison.test}; the interval is Student's."
    spread = "".join(f"<figure>{charts.query_chart(comparison, pair)}</figure>" for pair in comparison.differences)
    return (
        table("systems", head, body)
        + f'<p class="note">{escaped(note)}</p>\n<figure class="wide">{charts.difference_chart(comparison)}</figure>\n'
        + f'<h3>On every query</h3>\n<div class="charts">{spread}</div>\n'
    )


def _moved(comparison: Comparison) -> str:
    """The queries of each pair, those of the first pair open."""
    parts = []
    for place, pair in enumerate(comparison.differences):
        found = [move for move in comparison.moved if (move.system, move.other) == (pair.system, pair.other)]
        if found:
            articles = "".join(_article(comparison, pair, move) for move in found)
            title = f"{escaped(pair.system)} against {escaped(pair.other)}"
            parts.append(f"<details{' open' * (place == 0)}><summary>{title}</summary>\n{articles}</details>\n")
    return "".join(parts)


def _article(comparison: Comparison, pair: Difference, move: Moved) -> str:
    right = "".join(f"<li>{_passage(comparison, name)}</li>" for name in move.relevant)
    first = "gain" if move.difference > 0 else "loss"
    return (
        f'<article>\n<h3 class="query">{escaped(move.text)}</h3>\n'
        f'<p class="answer"><span class="rank {first}">{move.difference:+.3f}</span> '
        f"{tables.metric_name(comparison.metric)}, query {escaped(move.query)}</p>\n"
        f'<h4>Right answer</h4><ul class="texts">{right}</ul>\n'
        + "".join(_found(comparison, name, move.found[name], move.relevant) for name in (pair.system, pair.other))
        + "</article>\n"
    )


def _found(comparison: Comparison, system: str, found: Found, relevant: list[str]) -> str:
    where = "right answer not ranked" if found.rank is None else f"right answer at rank {found.rank:,}"
    head = (
        f'<h4>{escaped(system)} <span class="rank{" first" * (found.rank == 1)}">{where}</span> '
        f"<small>{found.value:.3f}</small></h4>"
    )
    if found.top is None or found.top in relevant:
        return head
    return f'{head}<ul class="texts"><li>put first: {_passage(comparison, found.top)}</li></ul>'


def _passage(comparison: Comparison, name: str) -> str:
    passage = comparison.passages.get(name)
    if passage is None:
        return escaped(name)
    text = " ".join(passage.text.split())
    snippet = text if len(text) <= _SNIPPET else text[:_SNIPPET].rsplit(" ", 1)[0] + " …"
    return f'<span class="title">{escaped(passage.title or name)}</span> {escaped(snippet)}'
