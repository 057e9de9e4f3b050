"""Charts of a report: bars of the metrics, curves of the training logs, and the picture for the README."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.files import new_file
from dupmae.report.drawing import PAGE, PRINT, Palette, bare, new_figure, style, svg
from dupmae.report.summary import HYBRID, METRICS, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHEET_COLUMNS = 3
# So few points are drawn as points too, or a single one would not be seen.
FEW_POINTS = 12


def _draw_bars(axes: Axes, report: Report, metric: str, colors: Palette) -> None:
    """Horizontal bars from zero, the first system on top, each with its value."""
    systems = report["systems"]
    for place, (name, system) in enumerate(systems.items()):
        color = colors.hybrid if name == HYBRID else colors.dupmae if name.startswith("dupmae") else colors.other
        value = system[metric]
        axes.barh(place, value, height=0.72, color=color)
        weight = "bold" if value == max(other[metric] for other in systems.values()) else "normal"
        axes.annotate(
            f"{value:.3f}", (value, place), (4, 0), textcoords="offset points", va="center", color=colors.ink,
            fontweight=weight,
        )  # fmt: skip
    axes.set_yticks(range(len(systems)), [system["label"] for system in systems.values()])
    axes.set_ylim(len(systems) - 0.5, -0.5)
    # Room for the label behind the longest bar.
    axes.set_xlim(0, 1.22 * max(max(system[metric] for system in systems.values()), 1e-6))
    axes.set_xticks([])
    axes.set_title(METRICS[metric], loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    bare(axes, colors)


def metric_bars(report: Report, metric: str) -> str:
    """Bars of all systems for one metric, as SVG.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    with style():
        figure, (axes,) = new_figure(3.8, 0.5 + 0.27 * len(report["systems"]))
        _draw_bars(axes, report, metric, PAGE)
        return svg(figure, f"{METRICS[metric]} of every system")


def curve(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """One logged quantity over the steps, with its first and last value, as SVG.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    with style():
        figure, (axes,) = new_figure(3.2, 1.9)
        _draw_curve(axes, title, steps, values, PAGE)
        return svg(figure, f"{title} over the training steps")


def _draw_curve(axes: Axes, title: str, steps: Sequence[float], values: Sequence[float], colors: Palette) -> None:
    """One quantity over the steps, with its first and last value beside the title."""
    marker = "o" if len(steps) < FEW_POINTS else ""
    axes.plot(steps, values, color=colors.hybrid, linewidth=1.6, marker=marker, markersize=4)
    axes.margins(x=0.02, y=0.12)
    axes.grid(axis="y", color=colors.line, linewidth=0.8)
    axes.locator_params(axis="both", nbins=4)
    bare(axes, colors)
    axes.set_axisbelow(True)
    axes.set_xlabel("step", color=colors.quiet, loc="right", labelpad=1)
    axes.set_title(title, loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    axes.set_title(f"{values[0]:.3g} → {values[-1]:.3g}", loc="right", color=colors.quiet, fontsize=8)


def curve_sheet(path: str | Path, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> None:
    """Write curves, each of title, steps and values, three in a row, as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with style(), new_file(path) as temporary:
        from matplotlib.figure import Figure

        rows = -(-len(curves) // SHEET_COLUMNS)
        figure = Figure(figsize=(10, 2.1 * rows), layout="constrained")
        panels = list(figure.subplots(rows, SHEET_COLUMNS, squeeze=False).flat)
        for axes, (title, steps, values) in zip(panels, curves, strict=False):
            _draw_curve(axes, title, steps, values, PRINT)
        for axes in panels[len(curves) :]:
            axes.remove()
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")


def picture(path: str | Path, report: Report) -> None:
    """Write the bars of all systems for the three metrics side by side as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with style(), new_file(path) as temporary:
        figure, panels = new_figure(10, 0.7 + 0.34 * len(report["systems"]), panels=len(METRICS))
        for axes, metric in zip(panels, METRICS, strict=True):
            _draw_bars(axes, report, metric, PRINT)
        data = report["dataset"]
        note = f"{data['test_queries']:,} test queries; fine-tuned systems with equal steps and batch"
        figure.supxlabel(note, fontsize=8, color=PRINT.quiet, x=0.99, ha="right")
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")
