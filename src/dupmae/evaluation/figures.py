"""Charts of a report: bars of the metrics, curves of the training logs, and the picture for the README.

Charts for the page are SVG text in the page's own colours (CSS variables), so that they follow light and dark.
matplotlib is imported when a chart is drawn: it belongs to the extra `plots`.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dupmae.errors import DupmaeError
from dupmae.evaluation.summary import HYBRID, METRICS, Report
from dupmae.files import new_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Palette(NamedTuple):
    """Colours by role. Labels name every bar and curve, so none of them carries meaning alone."""

    ink: str
    quiet: str
    line: str
    hybrid: str
    dupmae: str
    other: str


# Marker colours that no chart uses, turned into CSS below.
_PAGE = Palette("#010203", "#010204", "#010205", "#010206", "#010207", "#010208")
_CSS = Palette("currentColor", "var(--quiet)", "var(--line)", "var(--hybrid)", "var(--dupmae)", "var(--other)")
# Blue against grey stays apart in every kind of colour blindness.
_PRINT = Palette("#1b1f24", "#57606a", "#d8dee4", "#0072b2", "#7fb8dc", "#b4bac2")

SHEET_COLUMNS = 3
# So few points are drawn as points too, or a single one would not be seen.
FEW_POINTS = 12


def _style() -> AbstractContextManager[None]:
    try:
        import matplotlib
    except ImportError:
        fix = 'pip install "dupmae[plots]"'
        raise DupmaeError("charts need matplotlib, which is not installed", fix=fix) from None
    # Text stays text (and a dollar sign a dollar sign), and ids in the SVG are the same from run to run.
    return matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "dupmae", "font.size": 9, "text.parse_math": False}
    )


def _new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure in inches with panels side by side, rows shared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey="row")[0])


def _svg(figure: Figure, title: str) -> str:
    """The figure as an element for an HTML page: no prologue, no metadata, no fixed size, colours from CSS."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{html.escape(title)}">'
    text = opening + text[text.index(">") + 1 :]
    for marker, css in zip(_PAGE, _CSS, strict=True):
        text = text.replace(marker, css)
    return text.strip()


def _bare(axes: Axes, colors: Palette) -> None:
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=colors.quiet, labelcolor=colors.ink)


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
    _bare(axes, colors)


def metric_bars(report: Report, metric: str) -> str:
    """Bars of all systems for one metric, as SVG.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    with _style():
        figure, (axes,) = _new_figure(3.8, 0.5 + 0.27 * len(report["systems"]))
        _draw_bars(axes, report, metric, _PAGE)
        return _svg(figure, f"{METRICS[metric]} of every system")


def curve(title: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """One logged quantity over the steps, with its first and last value, as SVG.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    with _style():
        figure, (axes,) = _new_figure(3.2, 1.9)
        _draw_curve(axes, title, steps, values, _PAGE)
        return _svg(figure, f"{title} over the training steps")


def _draw_curve(axes: Axes, title: str, steps: Sequence[float], values: Sequence[float], colors: Palette) -> None:
    """One quantity over the steps, with its first and last value beside the title."""
    marker = "o" if len(steps) < FEW_POINTS else ""
    axes.plot(steps, values, color=colors.hybrid, linewidth=1.6, marker=marker, markersize=4)
    axes.margins(x=0.02, y=0.12)
    axes.grid(axis="y", color=colors.line, linewidth=0.8)
    axes.locator_params(axis="both", nbins=4)
    _bare(axes, colors)
    axes.set_axisbelow(True)
    axes.set_xlabel("step", color=colors.quiet, loc="right", labelpad=1)
    axes.set_title(title, loc="left", color=colors.ink, fontsize=10, fontweight="bold")
    axes.set_title(f"{values[0]:.3g} → {values[-1]:.3g}", loc="right", color=colors.quiet, fontsize=8)


def curve_sheet(path: str | Path, curves: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> None:
    """Write curves, each of title, steps and values, three in a row, as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with _style(), new_file(path) as temporary:
        from matplotlib.figure import Figure

        rows = -(-len(curves) // SHEET_COLUMNS)
        figure = Figure(figsize=(10, 2.1 * rows), layout="constrained")
        panels = list(figure.subplots(rows, SHEET_COLUMNS, squeeze=False).flat)
        for axes, (title, steps, values) in zip(panels, curves, strict=False):
            _draw_curve(axes, title, steps, values, _PRINT)
        for axes in panels[len(curves) :]:
            axes.remove()
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")


def picture(path: str | Path, report: Report) -> None:
    """Write the bars of all systems for the three metrics side by side as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    with _style(), new_file(path) as temporary:
        figure, panels = _new_figure(10, 0.7 + 0.34 * len(report["systems"]), panels=len(METRICS))
        for axes, metric in zip(panels, METRICS, strict=True):
            _draw_bars(axes, report, metric, _PRINT)
        data = report["dataset"]
        note = f"{data['test_queries']:,} test queries; fine-tuned systems with equal steps and batch"
        figure.supxlabel(note, fontsize=8, color=_PRINT.quiet, x=0.99, ha="right")
        figure.savefig(temporary, format="png", dpi=160, facecolor="white")
