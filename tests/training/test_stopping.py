"""The first signal is noted, an impatient second Ctrl-C interrupts, and handlers come back."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from dupmae.training import stopping
from dupmae.training.stopping import StopSignals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_noted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with StopSignals() as signals:
        assert not signals.asked
        os.kill(os.getpid(), number)
        # A launcher passes on what the terminal has sent already.
        os.kill(os.getpid(), number)
        assert signals.asked
    assert signal.getsignal(number) is before


def test_ctrl_c_once_more_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "REPEAT_SECONDS", 0.0)
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_signals_are_left_alone_where_nothing_is_saved_and_off_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(wanted=False):
        assert signal.getsignal(signal.SIGTERM) is before
    found: list[object] = []

    def elsewhere() -> None:
        with StopSignals() as signals:
            found.extend([signal.getsignal(signal.SIGTERM), signals.asked])

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [before, False]
