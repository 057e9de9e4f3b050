"""Charts of a comparison: bars of each metric, the differences with their intervals, and their spread over queries.

Each is drawn in the page's colours as SVG, and for print as PNG.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.files import new_file
from dupmae.report.comparison import Comparison
from dupmae.report.differences import Difference
from dupmae.report.drawing import PAGE, PRINT, Palette, bare, new_figure, style, svg
from dupmae.report.summary import p_text
from dupmae.report.tables import metric_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHEET_COLUMNS = 3
DPI = 160
# Longer names would leave no room for the bars.
LONGEST = 30


def score_bars(comparison: Comparison, metric: str) -> str:
    """Bars of all systems and quoted lines for one metric, as SVG.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    with style():
        figure, (axes,) = new_figure(3.8, _bars_height(comparison, [metric]))
        _draw_bars(axes, comparison, metric, PAGE)
        return svg(figure, f"{metric_name(metric)} of every system")


def difference_chart(comparison: Comparison) -> str:
    """Mean difference of every pair with its interval, and on how many queries it is better or worse, as SVG."""
    with style():
        return svg(_differences(comparison, PAGE), "Differences of all pairs with their confidence intervals")


def query_chart(comparison: Comparison, pair: Difference) -> str:
    """The difference of one pair on every query, from the largest gain to the largest loss, as SVG."""
    with style():
        figure, (axes,) = new_figure(3.4, 2.0)
        _draw_queries(axes, comparison, pair, PAGE)
        return svg(figure, f"{pair.system} minus {pair.other} on every query")


def write_pictures(folder: Path, comparison: Comparison) -> dict[str, str]:
    """Write the charts for print; returns what each file in the folder shows.

    Raises:
        DupmaeError: when matplotlib is not installed or a file cannot be written.
    """
    with style():
        shown = {
            "scores.png": (_scores(comparison), "bars of all metrics"),
            "differences.png": (_differences(comparison, PRINT), "differences with 95% intervals"),
            "queries.png": (_queries(comparison), "the difference on every query"),
        }
        for name, (figure, _) in shown.items():
            with new_file(folder / name) as temporary:
                figure.savefig(temporary, format="png", dpi=DPI, facecolor="white")
    return {name: told for name, (_, told) in shown.items()}


def _scores(comparison: Comparison) -> Figure:
    width = 1.6 + 2.1 * len(comparison.metrics)
    height = _bars_height(comparison, comparison.metrics)
    figure, panels = new_figure(width, height, panels=len(comparison.metrics))
    for axes, metric in zip(panels, comparison.metrics, strict=True):
        _draw_bars(axes, comparison, metric, PRINT)
    return figure


def _bars_height(comparison: Comparison, metrics: Sequence[str]) -> float:
    return 0.6 + 0.27 * len(_bars(comparison, metrics))


def _bars(comparison: Comparison, metrics: Sequence[str]) -> list[tuple[str, dict[str, float], bool]]:
    """Label, values and whether it was measured here, of all that have one of the metrics."""
    measured = [(_short(system.name), system.metrics, True) for system in comparison.systems]
    return measured + [
        (f"{textwrap.shorten(line.label, LONGEST, placeholder=' …')}, quoted", line.metrics, False)
        for line in comparison.quoted
        if line.metrics.keys() & set(metrics)
    ]


def _draw_bars(axes: Axes, comparison: Comparison, metric: str, colors: Palette) -> None:
    """Horizontal bars from zero; quoted ones are grey and below the measured ones."""
    # Panels beside each other share their rows, so a line that lacks this metric keeps its place.
    metrics = [metric] if colors is PAGE else comparison.metrics
    bars = _bars(comparison, metrics)
    best = max(system.metrics[metric] for system in comparison.systems)
    longest = max(values.get(metric, 0.0) for _, values, _ in bars)
    for place, (_, values, measured) in enumerate(bars):
        if metric not in values:
            continue
        value = values[metric]
        axes.barh(place, value, height=0.72, color=colors.hybrid if measured else colors.other)
        weight = "bold" if measured and value == best else "normal"
        axes.annotate(
            f"{value:.3f}", (value, place), (4, 0), textcoords="offset points", va="center", color=colors.ink,
            fontweight=weight,
        )  # fmt: skip
    axes.set_yticks(range(len(bars)), [label for label, _, _ in bars])
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlim(0, 1.22 * max(longest, 1e-6))
    axes.set_xticks([])
    axes.set_title(metric_name(metric), loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    bare(axes, colors)


def _differences(comparison: Comparison, colors: Palette) -> Figure:
    figure, (means, counts) = new_figure(9, 0.9 + 0.36 * len(comparison.differences), panels=2)
    name = metric_name(comparison.metric)
    _draw_means(means, comparison.differences, name, colors)
    _draw_counts(counts, comparison.differences, colors)
    return figure


def _draw_means(axes: Axes, pairs: Sequence[Difference], name: str, colors: Palette) -> None:
    axes.axvline(0, color=colors.quiet, linewidth=0.8)
    for place, pair in enumerate(pairs):
        color = colors.quiet if not pair.significant else colors.hybrid if pair.mean > 0 else colors.sparse
        axes.plot([pair.low, pair.high], [place, place], color=color, linewidth=2)
        axes.plot([pair.mean], [place], "o", color=color, markersize=5)
        p = p_text(pair.corrected)
        told = f"{pair.mean:+.3f}  p {p if p.startswith('<') else f'= {p}'}"
        axes.annotate(
            told, (pair.mean, place), (0, 5), textcoords="offset points", ha="center", fontsize=8, color=colors.ink
        )
    axes.set_yticks(range(len(pairs)), [_pair(pair) for pair in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.8)
    axes.margins(x=0.12)
    axes.locator_params(axis="x", nbins=5)
    axes.grid(axis="x", color=colors.line, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(f"Mean difference in {name}", loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    bare(axes, colors)


def _draw_counts(axes: Axes, pairs: Sequence[Difference], colors: Palette) -> None:
    """Queries better, equal and worse as parts of one bar."""
    for place, pair in enumerate(pairs):
        start = 0
        parts = (
            (pair.wins, colors.hybrid, "white"),
            (pair.ties, colors.other, colors.ink),
            (pair.losses, colors.sparse, "white"),
        )
        total = pair.wins + pair.ties + pair.losses
        for count, color, ink in parts:
            axes.barh(place, count, left=start, height=0.6, color=color)
            # A number in a part too narrow for it would cover its neighbour's.
            if count >= 0.06 * total:
                axes.text(start + count / 2, place, f"{count:,}", ha="center", va="center", fontsize=8, color=ink)
            start += count
    axes.set_xticks([])
    axes.set_title("Queries won, tied, lost", loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    bare(axes, colors)


def _queries(comparison: Comparison) -> Figure:
    from matplotlib.figure import Figure

    rows = -(-len(comparison.differences) // SHEET_COLUMNS)
    columns = min(SHEET_COLUMNS, len(comparison.differences))
    figure = Figure(figsize=(3.4 * columns, 2.2 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, pair in zip(panels, comparison.differences, strict=False):
        _draw_queries(axes, comparison, pair, PRINT)
    for axes in panels[len(comparison.differences) :]:
        axes.remove()
    return figure


def _draw_queries(axes: Axes, comparison: Comparison, pair: Difference, colors: Palette) -> None:
    ours, theirs = comparison.values[pair.system], comparison.values[pair.other]
    by_query = sorted((value - theirs[query] for query, value in ours.items()), reverse=True)
    places = range(len(by_query))
    for sign, color in ((1, colors.hybrid), (-1, colors.sparse)):
        heights = [max(0.0, sign * value) * sign for value in by_query]
        axes.fill_between(places, heights, step="mid", color=color, linewidth=0.8)
    axes.axhline(0, color=colors.quiet, linewidth=0.8)
    axes.set_ylim(-1.05, 1.05)
    axes.margins(x=0)
    axes.locator_params(axis="both", nbins=4)
    axes.grid(axis="y", color=colors.line, linewidth=0.8)
    bare(axes, colors)
    axes.set_axisbelow(True)
    axes.set_xlabel("queries, sorted", color=colors.quiet, loc="right", labelpad=1)
    axes.set_title(_pair(pair), loc="left", color=colors.ink, fontsize=10, fontweight="bold")


def _pair(pair: Difference) -> str:
    return f"{_short(pair.system)} − {_short(pair.other)}"


def _short(name: str) -> str:
    """A long name loses its beginning: paths differ in their ends."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
