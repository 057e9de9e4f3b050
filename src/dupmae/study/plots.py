"""The plots of a study: for every axis, each level's average and what its seeds spread over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dupmae.files import new_file
from dupmae.report.drawing import PRINT, bare, style
from dupmae.study.statistics import Row


def level_plot(path: Path, note: str, rows: Mapping[str, Row], baseline: Row | None, tests: Sequence[str]) -> None:
    """Write a panel for the average and one for each collection as PNG.

    Args:
        note: what the bars are.
        rows: levels by name, the first on top.
        baseline: a cell whose values are drawn across.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with style(), new_file(path) as temporary:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.2 + 2.2 * (1 + len(tests)), 0.9 + 0.3 * len(rows)))
        figure.set_layout_engine("constrained", wspace=0.06)
        panels = list(figure.subplots(1, 1 + len(tests), squeeze=False, sharey="row")[0])
        for place, row in enumerate(rows.values()):
            spreads = [row.spread, *[None] * len(tests)]
            for axes, value, spread in zip(panels, _values(row, tests), spreads, strict=True):
                axes.errorbar(value, place, xerr=spread, fmt="o", color=PRINT.hybrid, capsize=3, markersize=5)
        if baseline is not None:
            for axes, value in zip(panels, _values(baseline, tests), strict=True):
                axes.axvline(value, color=PRINT.quiet, linewidth=1, linestyle="--", zorder=1)
        for axes, name in zip(panels, ("average", *tests), strict=True):
            axes.set_title(name, loc="left", fontsize=10, fontweight="bold", color=PRINT.ink)
            axes.grid(axis="x", color=PRINT.line, linewidth=0.8)
            axes.margins(x=0.15)
            axes.locator_params(axis="x", nbins=4)
            bare(axes, PRINT)
            axes.set_facecolor("#f6f8fa")
            axes.set_axisbelow(True)
        panels[0].set_yticks(range(len(rows)), list(rows))
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.supxlabel(f"nDCG@10; {note}", fontsize=8, color=PRINT.quiet, x=0.99, ha="right")
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")


def _values(row: Row, tests: Sequence[str]) -> list[float]:
    return [row.average, *(row.sets[test] for test in tests)]
