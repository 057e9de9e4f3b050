"""A polite end: SIGTERM and Ctrl-C are noted, and acted on between two steps."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

# A launcher hands Ctrl-C on to processes that the terminal has told already.
REPEAT_SECONDS = 1.0


class StopSignals:
    """While open, the first SIGTERM or Ctrl-C sets `asked`; Ctrl-C once more interrupts at once.

    Args:
        wanted: whether there is anything to be done before the end; if not, signals do what they always do.

    Attributes:
        exit_code: what a shell reports of a program that the signal ended: 143 after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, wanted: bool = True) -> None:
        self.asked, self._wanted = False, wanted
        # One process of several may be told by another that got SIGTERM.
        self.exit_code = 128 + signal.SIGTERM
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        # Python lets only the main thread have handlers.
        if self._wanted and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._since, self.exit_code = True, now, 128 + number
        elif number == signal.SIGINT and now - self._since > REPEAT_SECONDS:
            raise KeyboardInterrupt
