"""The plots of a study: for every axis, each level's average and what its seeds spread over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dupmae.evaluation.drawing import PRINT, bare, style
from dupmae.files import new_file
from dupmae.study.statistics import Row


def level_plot(
    path: Path, title: str, rows: Mapping[str, Row], lines: Sequence[tuple[str, float]], tests: Sequence[str]
) -> None:
    """Write a panel for the average and one for each collection as PNG.

    Args:
        rows: levels by name, the first on top.
        lines: averages to be drawn across, such as the cell without pre-training.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with style(), new_file(path) as temporary:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(2.2 + 2.1 * (1 + len(tests)), 0.9 + 0.3 * len(rows)), layout="constrained")
        panels = list(figure.subplots(1, 1 + len(tests), squeeze=False, sharey="row")[0])
        for place, row in enumerate(rows.values()):
            values = [row.average, *(row.sets[test] for test in tests)]
            for axes, value, spread in zip(panels, values, [row.spread, *[None] * len(tests)], strict=True):
                axes.errorbar(value, place, xerr=spread, fmt="o", color=PRINT.hybrid, capsize=3, markersize=5)
        for (name, value), dashes in zip(lines, (":", "--", "-."), strict=False):
            panels[0].axvline(value, color=PRINT.quiet, linewidth=1, linestyle=dashes, label=name)
        for axes, test in zip(panels, ("average", *tests), strict=True):
            axes.set_title(test, loc="left", fontsize=10, fontweight="bold", color=PRINT.ink)
            axes.grid(axis="x", color=PRINT.line, linewidth=0.8)
            axes.margins(x=0.12)
            axes.locator_params(axis="x", nbins=4)
            bare(axes, PRINT)
            axes.set_axisbelow(True)
        panels[0].set_yticks(range(len(rows)), list(rows))
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        figure.supxlabel(f"nDCG@10; {title}", fontsize=8, color=PRINT.quiet, x=0.99, ha="right")
        if lines:
            figure.legend(loc="outside upper right", fontsize=7, frameon=False, ncols=len(lines))
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")
