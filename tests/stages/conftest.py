"""What the tests of stages share: one thread, and the lines that are logged."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """The order of sums, and so the last digits, does not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The messages of the package's log so far."""
    monkeypatch.setattr(logging.getLogger("dupmae"), "propagate", True)
    caplog.set_level(logging.INFO, logger="dupmae")
    return lambda: [record.getMessage() for record in caplog.records]
