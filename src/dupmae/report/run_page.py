"""The report as one HTML page: no script, no request to anywhere, readable on a phone, light and dark.

Every text that comes from the data passes through `escaped`, which escapes it: documents may hold anything.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dupmae.report import run_charts as figures
from dupmae.report import summary
from dupmae.report.style import STYLE
from dupmae.report.summary import METRICS, Report
from dupmae.training.log import curves

_SNIPPET = 260
_WORDS = 8
_DATASET = {
    "documents": "documents",
    "corpus_documents": "documents searched",
    "train_queries": "training queries",
    "dev_queries": "development queries",
    "test_queries": "test queries",
}


def page(report: Report, logs: Mapping[str, Sequence[Mapping[str, Any]]], examples: Sequence[Mapping[str, Any]]) -> str:
    """The whole page; see `write_report` for the arguments.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    sections = [
        _header(report),
        section("Systems", _table(report) + _notes(report) + _bars(report)),
        section("Training", "".join(_stage(name, lines) for name, lines in logs.items())),
        section("Searches", "".join(map(_example, examples))),
        section("Time and memory", _time(report)),
        section("Settings and versions", _settings(report)),
    ]
    return document("DupMAE report", "".join(sections))


def document(title: str, body: str) -> str:
    """A page that asks for nothing from elsewhere, around what stands in its one column."""
    head = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Not even a document that slipped through could load something.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "style-src 'unsafe-inline'; img-src data:\">\n"
        f'<link rel="icon" href="data:,">\n<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n'
    )
    text = f"{head}<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    # Texts read out of source code can hold lone surrogates, which UTF-8 cannot.
    return text.encode("utf-8", "replace").decode("utf-8")


def escaped(value: object) -> str:
    """A value as text of a page."""
    return html.escape(str(value))


def section(title: str, body: str) -> str:
    """A part of a page under its heading; nothing when there is nothing in it."""
    return f"<section>\n<h2>{escaped(title)}</h2>\n{body}\n</section>\n" if body else ""


def _header(report: Report) -> str:
    lines = "".join(f"<p>{escaped(line)}</p>" for line in summary.outcome(report))
    counts = [(_DATASET.get(key, key), f"{count:,}") for key, count in report["dataset"].items()]
    return f'<header>\n<h1>DupMAE report</h1>\n<div class="outcome">{lines}</div>\n{tiles(counts)}</header>\n'


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    """Names and figures side by side."""
    boxes = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in pairs)
    return f'<dl class="tiles">{boxes}</dl>\n'


def _table(report: Report) -> str:
    head = "".join(f'<th scope="col">{escaped(column)}</th>' for column in summary.COLUMNS)
    body = []
    for name, (label, *cells) in zip(report["systems"], summary.table_rows(report), strict=True):
        values = "".join(f"<td>{'<b>' * c.best}{escaped(c.text)}{'</b>' * c.best}</td>" for c in cells)
        mark = ' class="ours"' if name == summary.HYBRID else ""
        body.append(f'<tr{mark}><th scope="row">{escaped(label.text)}</th>{values}</tr>')
    return (
        f'<div class="scroll" tabindex="0"><table class="systems"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>\n"
    )


def _notes(report: Report) -> str:
    notes = ["Best of a column in bold.", *summary.table_notes(report)]
    return f'<p class="note">{escaped(" ".join(notes))}</p>\n'


def _bars(report: Report) -> str:
    charts = "".join(f"<figure>{figures.metric_bars(report, metric)}</figure>" for metric in METRICS)
    return f'<div class="charts bars">{charts}</div>\n'


def _stage(name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    """The curves of one stage: every loss term first, accuracies after them."""
    drawn = [figures.curve(c.title, c.steps, c.values) for c in curves(lines) if c.group != "speed"]
    charts = [f"<figure>{chart}</figure>" for chart in drawn]
    return f'<h3>{escaped(name)}</h3>\n<div class="charts">{"".join(charts)}</div>\n' if charts else ""


def _example(example: Mapping[str, Any]) -> str:
    expected, results, rank = example["expected"], example["results"], example["rank"]
    where = f"rank {rank}" if rank is not None else "not found"
    top = max((result["score"] for result in results), default=0.0)
    items = "".join(_result(result, expected["id"], top) for result in results)
    return (
        f'<article>\n<h3 class="query">{escaped(example["query"])}</h3>\n'
        f'<p class="answer">Right answer: <span class="title">{escaped(expected["title"])}</span> '
        f'<span class="rank{" first" * (rank == 1)}">{where}</span></p>\n'
        f"<ol>{items or '<li>no result</li>'}</ol>\n</article>\n"
    )


def _result(result: Mapping[str, Any], expected: str, top: float) -> str:
    text = " ".join(str(result["text"]).split())
    snippet = text if len(text) <= _SNIPPET else text[:_SNIPPET].rsplit(" ", 1)[0] + " …"
    words = "".join(
        f"<li>{escaped(word)} <small>{contribution:.2f}</small></li>" for word, contribution in result["words"][:_WORDS]
    )
    mark = ' <span class="rank first">right answer</span>' if result["id"] == expected else ""
    return (
        f'<li><div class="title">{escaped(result["title"])}{mark}</div>{_shares(result, top)}'
        f'<p class="snippet">{escaped(snippet)}</p>' + (f'<ul class="words">{words}</ul>' if words else "") + "</li>"
    )


def _shares(result: Mapping[str, Any], top: float) -> str:
    """The score as a bar of its dense and its sparse part; a negative part has no length."""
    parts = "".join(
        f'<i class="{part}" style="width:{100 * max(0.0, result[part]) / top:.1f}%"></i>'
        for part in ("dense", "sparse")
        if top > 0
    )
    return (
        f'<div class="score"><div class="bar" aria-hidden="true">{parts}</div><span>{result["score"]:.2f} = '
        f'<span class="key dense">dense {result["dense"]:.2f}</span> + '
        f'<span class="key sparse">sparse {result["sparse"]:.2f}</span></span></div>'
    )


def _time(report: Report) -> str:
    seconds = report["seconds"]
    rows = [(stage, summary.seconds_text(spent)) for stage, spent in seconds.items()]
    memory = [("peak memory", summary.bytes_text(report["peak_memory_bytes"]))]
    return _pairs(rows) + tiles(memory)


def _pairs(rows: Iterable[tuple[str, object]]) -> str:
    body = "".join(f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows)
    return f'<div class="scroll" tabindex="0"><table class="pairs"><tbody>{body}</tbody></table></div>\n'


def _settings(report: Report) -> str:
    groups: dict[str, list[tuple[str, object]]] = {}
    for key, value in _flat(report["settings"]):
        group, _, rest = key.partition(".")
        groups.setdefault(group if rest else "run", []).append((rest or key, value))
    groups["versions"] = list(report["versions"].items())
    return "".join(
        f"<details><summary>{escaped(group)}</summary>{_pairs(rows)}</details>\n" for group, rows in groups.items()
    )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Nested settings as dotted keys, the way they are overridden on the command line."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
