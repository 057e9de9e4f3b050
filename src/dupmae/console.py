"""One logger and one progress style for everything a person runs.

Progress and log lines go to standard error, so that standard output stays for results and `--json`.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dupmae.errors import printable

T = TypeVar("T")

# Seconds before a bar is shown: most work is done by then.
DELAY = 1.0
LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}

logger = logging.getLogger("dupmae")
stderr = Console(stderr=True)
_state = {"quiet": False, "bar": False}


class _Printable(logging.Formatter):
    """Log lines without control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def set_up(*, quiet: bool = False) -> None:
    """Send the log to standard error.

    Args:
        quiet: no progress bars, and nothing below warnings.
    """
    _state["quiet"] = quiet
    handler: logging.Handler
    if stderr.is_terminal:
        handler = RichHandler(console=stderr, show_path=False, show_level=False, log_time_format="[%H:%M:%S]")
        handler.setFormatter(_Printable("%(message)s"))
    else:
        # Off a terminal nothing knows the width: one message stays one line.
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Printable("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)


def set_up_in_python(*, quiet: bool = False) -> None:
    """The same for a call from Python: whoever has handlers of their own keeps them."""
    own = [handler for handler in logger.handlers if not isinstance(handler.formatter, _Printable)]
    if own or logging.getLogger().handlers:
        _state["quiet"] = quiet
    else:
        set_up(quiet=quiet)


def silence_libraries() -> None:
    """Keep the libraries' own advice and bars back, in a process that is a command's own."""
    for name, value in LIBRARIES.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


class _Rate(ProgressColumn):
    """Items a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s")


class Bar:
    """A progress bar, shown once its work has taken `DELAY` seconds: `advance` it, and `describe` what it stands at."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._hidden_until: float | None = time.monotonic() + DELAY

    def advance(self, amount: float = 1) -> None:
        """Move the bar on."""
        self._progress.advance(self._task, amount)
        if self._hidden_until is not None and time.monotonic() >= self._hidden_until:
            self._hidden_until = None
            self._progress.start()

    def describe(self, note: str) -> None:
        """Show a short note behind the bar, such as the present loss."""
        self._progress.update(self._task, note=note)


@contextmanager
def progress(title: str, total: float | None, unit: str = "") -> Iterator[Bar]:
    """Show a bar with count, rate, time spent and time left.

    Nothing is shown in quiet mode, off a terminal or notebook, while another bar is, or in the first second.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    shown = (stderr.is_terminal or stderr.is_jupyter) and not _state["quiet"] and not _state["bar"]
    _state["bar"] |= shown
    bars = Progress(*columns, console=stderr, disable=not shown, transient=True)
    try:
        yield Bar(bars, bars.add_task(title, total=total, note=""))
    finally:
        bars.stop()
        _state["bar"] &= not shown


def track(items: Iterable[T], title: str, total: int | None = None, unit: str = "") -> Iterator[T]:
    """Iterate with a progress bar."""
    with progress(title, total, unit) as bar:
        for item in items:
            yield item
            bar.advance()
