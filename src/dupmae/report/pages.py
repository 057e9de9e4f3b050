"""Pages: one file each, without scripts, that load nothing; readable on a phone, light and dark.

The templates escape whatever they are given, so that no text of a document becomes part of the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dupmae.report import charts, wording
from dupmae.report.charts import Chart, Gap, Line
from dupmae.report.comparison import Comparison
from dupmae.report.context import Context
from dupmae.report.overview import Overview
from dupmae.report.tables import Table
from dupmae.report.text import NOTHING, bytes_text, metric_name, p_relation, plain, seconds_text, snippet
from dupmae.training.log import Curve

PAGE = "report.html"


@cache
def _templates() -> Environment:
    made = Environment(
        loader=PackageLoader("dupmae.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    made.filters["snippet"] = snippet
    return made


def page(template: str, title: str, outcome: Sequence[str], tiles: Sequence[tuple[str, str]], **values: Any) -> str:
    """A page from one of the templates.

    Args:
        outcome: sentences below the title.
        tiles: names and figures side by side below them.
        values: what the template's sections show.
    """
    return _templates().get_template(f"{template}.html").render(title=title, outcome=outcome, tiles=tiles, **values)


def comparison_page(comparison: Comparison, context: Context) -> str:
    """The report of a comparison.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    counts = {"queries": comparison.queries, "passages": comparison.corpus, "systems": len(comparison.systems)}
    return page(
        "comparison",
        f"Comparison on {comparison.data}",
        wording.outcome(comparison),
        [(name, f"{count:,}") for name, count in counts.items()],
        comparison=comparison,
        metric=metric_name(comparison.metric),
        systems=wording.systems_table(comparison),
        notes=wording.notes(comparison),
        bars=[score_bars(comparison, [metric]) for metric in comparison.metrics],
        pairs=wording.pairs_table(comparison),
        gaps=_gaps(comparison),
        query_gaps=list(_query_gaps(comparison)),
        moved=[
            (f"{comparison.system(system).label} against {comparison.system(other).label}", list(moves))
            for (system, other), moves in groupby(comparison.moved, key=lambda move: (move.system, move.other))
        ],
        **around(context),
    )


def overview_page(overview: Overview, context: Context) -> str:
    """The report of several data sets, with a link to that of each.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    return page(
        "overview",
        f"Comparison on {len(overview.sets)} data sets",
        overview.outcome(),
        [],
        table=overview.table(link=PAGE),
        notes=overview.notes(),
        chart=overview_chart(overview),
        **around(context),
    )


def overview_chart(overview: Overview) -> Chart:
    """Every system on every set."""
    values: dict[str, dict[str, float]] = {name: {} for name in overview.sets}
    for letter, system in overview.systems.items():
        for name, value in overview.values(system.name).items():
            values[name][letter] = value
    legend = ", ".join(f"{letter} {system.label}" for letter, system in overview.systems.items())
    return charts.sets(values, f"{metric_name(overview.metric)}: {legend}")


def around(context: Context) -> dict[str, Any]:
    """What the sections that every report shares are filled with."""
    drawn = {
        name: [charts.curve(line_of(curve)) for curve in found if curve.group != "speed"]
        for name, found in context.curves.items()
    }
    return {
        "curves": drawn,
        "searches": context.searches,
        "stages": _stages_table(context),
        "settings": _settings(context),
    }


def score_bars(comparison: Comparison, metrics: Sequence[str], *, note: str = "") -> Chart:
    """Bars of all systems for some metrics; the baseline stands out."""
    labels = {system.name: system.label for system in comparison.systems}
    values = {
        metric_name(metric): {system.label: system.metrics[metric] for system in comparison.systems}
        for metric in metrics
    }
    return charts.bars(values, labels.get(comparison.baseline or ""), note=note)


def _gaps(comparison: Comparison) -> Chart:
    pairs = [
        Gap(
            _pair(comparison, pair.system, pair.other),
            pair.mean,
            pair.low,
            pair.high,
            pair.significant,
            f"{pair.mean:+.3f}  {p_relation(pair.corrected)}",
            (pair.wins, pair.ties, pair.losses),
        )
        for pair in comparison.differences
    ]
    return charts.gaps(pairs, metric_name(comparison.metric))


def _query_gaps(comparison: Comparison) -> Iterable[Chart]:
    for pair in comparison.differences:
        ours, theirs = comparison.values[pair.system], comparison.values[pair.other]
        by_query = [value - theirs[query] for query, value in ours.items()]
        yield charts.query_gaps(comparison.system(pair.system).label, comparison.system(pair.other).label, by_query)


def _pair(comparison: Comparison, *names: str) -> str:
    return " − ".join(charts.short(comparison.system(name).label) for name in names)


def line_of(curve: Curve) -> Line:
    """A curve of a log as it is drawn."""
    return Line(curve.title, curve.steps, curve.values)


def _stages_table(context: Context) -> Table | None:
    if not context.stages:
        return None
    rows = [[name, *_spent(stage["seconds"], stage.get("peak_memory_bytes"))] for name, stage in context.stages.items()]
    whole = context.as_dict()
    rows.append(["total", *_spent(whole["seconds"]["total"], whole["peak_memory_bytes"])])
    return Table(["Stage", "Time", "Peak memory"], rows, strong=frozenset([len(rows) - 1]))


def _spent(seconds: float, peak: float | None) -> tuple[str, str]:
    return seconds_text(seconds), NOTHING if peak is None else bytes_text(peak)


def _settings(context: Context) -> dict[str, list[tuple[str, object]]]:
    """Settings of each stage, then versions."""
    whole = context.as_dict()
    groups = {stage: list(dotted(settings)) for stage, settings in whole["settings"].items()}
    return groups | {"versions": list(dotted(whole["versions"] | whole["machine"]))}


def dotted(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    """Nested settings as dotted names with their values, the way they are overridden on the command line."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
