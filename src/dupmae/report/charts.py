"""All charts, drawn by matplotlib, as SVG inside a page or as PNG.

matplotlib is imported when a chart is drawn: it belongs to the extra `plots`. Charts are drawn for a light page; the
page's style turns their colours round where it is dark. Every text passes through `plain`: SVG is no place for
control characters.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae.errors import DupmaeError
from dupmae.files import new_file
from dupmae.report.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE = "#1b1f24", "#57606a", "#d8dee4"
# Blue against grey, and blue against orange, stay apart in every kind of colour blindness. Labels name every bar and
# curve, so no colour carries meaning alone.
STRONG, OTHER, LOSS = "#0072b2", "#b4bac2", "#d98c00"
DPI = 160
SHEET_COLUMNS = 3
# Longer names would leave no room for the bars.
LONGEST = 30
# So few points are drawn as points too, or a single one would not be seen.
FEW_POINTS = 12
# Letters of values that are closer share a label.
CLOSE = 0.01


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Attributes:
        title: what it shows, for those who cannot see it.
        wide: whether it needs the width of the page.
    """

    title: str
    figure: Figure
    wide: bool = False

    @property
    def address(self) -> str:
        """The chart itself as the address of an image: a page that shows it loads nothing."""
        output = io.BytesIO()
        with _style():
            # No date: the same figures give the same page.
            self.figure.savefig(output, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return f"data:image/svg+xml;base64,{base64.b64encode(output.getvalue()).decode()}"

    def write(self, path: Path) -> Path:
        """Write the chart as PNG.

        Raises:
            DupmaeError: when the file cannot be written.
        """
        with _style(), new_file(path) as temporary:
            self.figure.savefig(temporary, format="png", dpi=DPI, facecolor="white")
        return path


def check() -> None:
    """Refuse before any work what drawing would refuse.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    _style()


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


def _drawn(
    draw: Sequence[Callable[[Axes], None]],
    size: tuple[float, float],
    title: str,
    *,
    columns: int = 0,
    wide: bool = False,
    note: str = "",
    share: bool = True,
) -> Chart:
    """A figure of panels, each drawn by a function.

    Args:
        size: width and height in inches.
        columns: panels in a row; 0: all.
        share: whether the panels of a row share their vertical axis.
    """
    with _style():
        from matplotlib.figure import Figure

        columns = columns or len(draw)
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        rows = -(-len(draw) // columns)
        panels = list(figure.subplots(rows, columns, squeeze=False, sharey="row" if share else False).flat)
        for axes, function in zip(panels, draw, strict=False):
            function(axes)
            axes.set_axisbelow(True)
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0, colors=QUIET, labelcolor=INK)
        for axes in panels[len(draw) :]:
            axes.remove()
        if note:
            figure.supxlabel(one_line(note), fontsize=8, color=QUIET, x=0.99, ha="right")
    return Chart(title, figure, wide)


def _titled(axes: Axes, title: str) -> None:
    axes.set_title(one_line(title), loc="left", color=INK, fontsize=10, fontweight="bold")


def short(name: str) -> str:
    """A long name loses its beginning: paths differ in their ends."""
    name = one_line(name)
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def bars(values: Mapping[str, Mapping[str, float]], strong: str | None = None, *, note: str = "") -> Chart:
    """Horizontal bars from zero, the first system on top, a panel for each metric.

    Args:
        values: metric -> system -> value; every metric has the same systems.
        strong: the system that stands out; None: all do.
        note: a line below the panels.
    """
    names = list(next(iter(values.values())))

    def panel(metric: str) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            found = values[metric]
            best = max(found.values())
            for row, (name, value) in enumerate(found.items()):
                axes.barh(row, value, height=0.72, color=STRONG if strong in (None, name) else OTHER)
                weight = "bold" if value == best else "normal"
                _beside(axes, f"{value:.3f}", (value, row), (4, 0), va="center", fontweight=weight)
            axes.set_yticks(range(len(names)), [short(name) for name in names])
            axes.set_ylim(len(names) - 0.5, -0.5)
            # Room for the label behind the longest bar.
            axes.set_xlim(0, 1.22 * max(best, 1e-6))
            axes.set_xticks([])
            _titled(axes, metric)

        return draw

    one = len(values) == 1
    size = (3.8 if one else 1.6 + 2.8 * len(values), 0.6 + (0.27 if one else 0.34) * len(names))
    return _drawn([panel(metric) for metric in values], size, f"{' and '.join(values)} of every system", note=note)


def _beside(axes: Axes, text: str, point: tuple[float, float], offset: tuple[int, int], **style: Any) -> None:
    axes.annotate(text, point, offset, textcoords="offset points", color=INK, **style)


@dataclass(frozen=True)
class Gap:
    """A pair of systems as a row of the chart of differences.

    Attributes:
        low, high: ends of the mean's confidence interval.
        label: behind the mean, as its p-value.
        counts: queries won, tied and lost.
    """

    name: str
    mean: float
    low: float
    high: float
    significant: bool
    label: str
    counts: tuple[int, int, int]


def gaps(pairs: Sequence[Gap], metric: str) -> Chart:
    """Mean difference of every pair with its interval, and on how many queries it is better or worse."""

    def means(axes: Axes) -> None:
        axes.axvline(0, color=QUIET, linewidth=0.8)
        for row, pair in enumerate(pairs):
            color = QUIET if not pair.significant else STRONG if pair.mean > 0 else LOSS
            axes.plot([pair.low, pair.high], [row, row], color=color, linewidth=2)
            axes.plot([pair.mean], [row], "o", color=color, markersize=5)
            _beside(axes, pair.label, (pair.mean, row), (0, 5), ha="center", fontsize=8)
        axes.set_yticks(range(len(pairs)), [one_line(pair.name) for pair in pairs])
        axes.set_ylim(len(pairs) - 0.4, -0.8)
        axes.margins(x=0.12)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="x", color=LINE, linewidth=0.8)
        _titled(axes, f"Mean difference in {metric}")

    def counts(axes: Axes) -> None:
        for row, pair in enumerate(pairs):
            start, total = 0, sum(pair.counts)
            for count, color, ink in zip(pair.counts, (STRONG, OTHER, LOSS), ("white", INK, "white"), strict=True):
                axes.barh(row, count, left=start, height=0.6, color=color)
                # A number in a part too narrow for it would cover its neighbour's.
                if count >= 0.06 * total:
                    axes.text(start + count / 2, row, f"{count:,}", ha="center", va="center", fontsize=8, color=ink)
                start += count
        axes.set_xticks([])
        _titled(axes, "Queries won, tied, lost")

    title = "Differences of all pairs with their confidence intervals"
    return _drawn([means, counts], (9, 0.9 + 0.36 * len(pairs)), title, wide=True)


def query_gaps(system: str, other: str, values: Sequence[float]) -> Chart:
    """The difference of one pair on every query, from the largest gain to the largest loss."""
    # On two lines, since both names beside each other are wider than the chart.
    title = f"{short(system)}\n− {short(other)}"

    def draw(axes: Axes) -> None:
        ordered = sorted(values, reverse=True)
        for sign, color in ((1, STRONG), (-1, LOSS)):
            heights = [max(0.0, sign * value) * sign for value in ordered]
            axes.fill_between(range(len(ordered)), heights, step="mid", color=color, linewidth=0.8)
        axes.axhline(0, color=QUIET, linewidth=0.8)
        axes.set_ylim(-1.05, 1.05)
        axes.margins(x=0)
        axes.locator_params(axis="both", nbins=4)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.set_xlabel("queries, sorted", color=QUIET, loc="right", labelpad=1)
        axes.set_title(title, loc="left", color=INK, fontsize=10, fontweight="bold")

    return _drawn([draw], (3.4, 2.2), f"{system} less {other} on every query")


@dataclass(frozen=True)
class Line:
    """One logged quantity over the steps."""

    title: str
    steps: Sequence[float]
    values: Sequence[float]


def curve(line: Line) -> Chart:
    """One quantity over the steps, with its first and last value beside the title."""
    return _drawn([_curve(line)], (3.2, 1.9), f"{line.title} over the training steps")


def curve_sheet(lines: Sequence[Line]) -> Chart:
    """Several quantities, three in a row."""
    size = (10.0, 2.1 * -(-len(lines) // SHEET_COLUMNS))
    return _drawn(list(map(_curve, lines)), size, "training curves", columns=SHEET_COLUMNS, wide=True, share=False)


def _curve(line: Line) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        marker = "o" if len(line.steps) < FEW_POINTS else ""
        axes.plot(line.steps, line.values, color=STRONG, linewidth=1.6, marker=marker, markersize=4)
        axes.margins(x=0.02, y=0.12)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.locator_params(axis="both", nbins=4)
        axes.set_xlabel("step", color=QUIET, loc="right", labelpad=1)
        _titled(axes, line.title)
        axes.set_title(f"{line.values[0]:.3g} → {line.values[-1]:.3g}", loc="right", color=QUIET, fontsize=8)

    return draw


def sets(values: Mapping[str, Mapping[str, float]], title: str) -> Chart:
    """A row for each data set, with the systems' letters above their values.

    Args:
        values: set -> letter of the system -> value.
    """

    def draw(axes: Axes) -> None:
        for row, found in enumerate(values.values()):
            axes.plot(list(found.values()), [row] * len(found), "o", color=STRONG, markersize=5)
            for value, letters in _labels(found):
                _beside(axes, letters, (value, row), (0, 4), ha="center")
        axes.set_yticks(range(len(values)), [one_line(name) for name in values])
        axes.set_ylim(len(values) - 0.5, -0.8)
        axes.margins(x=0.06)
        axes.grid(color=LINE, linewidth=0.8)
        axes.set_title(one_line(title), loc="left", color=INK, fontsize=9)

    return _drawn([draw], (8, 0.8 + 0.32 * len(values)), title, wide=True)


def _labels(values: Mapping[str, float]) -> list[tuple[float, str]]:
    """Where letters are put: those of almost equal values together, at the first of them."""
    labels: list[tuple[float, str]] = []
    for letter, value in sorted(values.items(), key=lambda pair: pair[1]):
        if labels and value - labels[-1][0] < CLOSE:
            labels[-1] = (labels[-1][0], labels[-1][1] + letter)
        else:
            labels.append((value, letter))
    return labels


def levels(
    rows: Mapping[str, Sequence[float]],
    panels: Sequence[str],
    spreads: Mapping[str, float | None],
    across: Sequence[float] | None,
    note: str,
) -> Chart:
    """The levels of a study's axis, the first on top, in a panel for the average and one for each collection.

    Args:
        rows: level -> its value in each panel.
        panels: their titles; the first is the average's.
        spreads: level -> standard deviation of its average over seeds, where there are several.
        across: the values of a cell that all others are compared with, drawn across; None: there is none.
        note: what the bars are.
    """

    def panel(place: int) -> Callable[[Axes], None]:
        def draw(axes: Axes) -> None:
            for row, (name, values) in enumerate(rows.items()):
                spread = spreads[name] if place == 0 else None
                axes.errorbar(values[place], row, xerr=spread, fmt="o", color=STRONG, capsize=3, markersize=5)
            if across is not None:
                axes.axvline(across[place], color=QUIET, linewidth=1, linestyle="--", zorder=1)
            _titled(axes, panels[place])
            axes.grid(axis="x", color=LINE, linewidth=0.8)
            axes.margins(x=0.15)
            axes.locator_params(axis="x", nbins=4)
            axes.set_facecolor("#f6f8fa")
            axes.set_yticks(range(len(rows)), list(map(one_line, rows)))
            axes.set_ylim(len(rows) - 0.5, -0.5)

        return draw

    size = (2.2 + 2.2 * len(panels), 0.9 + 0.3 * len(rows))
    return _drawn([panel(place) for place in range(len(panels))], size, "levels", wide=True, note=note)
