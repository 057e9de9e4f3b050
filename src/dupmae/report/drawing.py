"""What all charts share: colours by role, figures without a frame, SVG that follows the page's colours.

Charts for a page are SVG text in its own colours (CSS variables), so that they follow light and dark. matplotlib is
imported when a chart is drawn: it belongs to the extra `plots`.
"""

from __future__ import annotations

import html
import io
import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

from dupmae.errors import DupmaeError

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
    sparse: str


# Marker colours that no chart uses, turned into CSS below.
PAGE = Palette("#010203", "#010204", "#010205", "#010206", "#010207", "#010208", "#010209")
_CSS = Palette(
    "currentColor", "var(--quiet)", "var(--line)", "var(--hybrid)", "var(--dupmae)", "var(--other)", "var(--sparse)"
)
# Blue against grey, and blue against orange, stay apart in every kind of colour blindness.
PRINT = Palette("#1b1f24", "#57606a", "#d8dee4", "#0072b2", "#7fb8dc", "#b4bac2", "#d98c00")


def style() -> AbstractContextManager[None]:
    """The settings of every chart, for a `with`.

    Raises:
        DupmaeError: when matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        fix = 'pip install "dupmae[plots]"'
        raise DupmaeError("charts need matplotlib, which is not installed", fix=fix) from None
    # Text stays text (and a dollar sign a dollar sign), and ids in the SVG are the same from run to run.
    return matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "dupmae", "font.size": 9, "text.parse_math": False}
    )


def new_figure(width: float, height: float, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure in inches with panels side by side, rows shared."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey="row")[0])


def svg(figure: Figure, title: str) -> str:
    """The figure as an element for an HTML page: no prologue, no metadata, no fixed size, colours from CSS."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {box[0] if box else ""} role="img" aria-label="{html.escape(title)}">'
    text = opening + text[text.index(">") + 1 :]
    for marker, css in zip(PAGE, _CSS, strict=True):
        text = text.replace(marker, css)
    return text.strip()


def bare(axes: Axes, colors: Palette) -> None:
    """No frame, no ticks."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=colors.quiet, labelcolor=colors.ink)
