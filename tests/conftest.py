"""What every test shares: seeds, one thread, no time limit on single examples, and runs without costly by-work."""

from __future__ import annotations

import gc
import logging
import os
import random
from collections.abc import Callable

# Before torch is loaded, for it and for every process that is started: tiny models only lose by more threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.warm import measure_quickly

# An example's time depends on what else the machine does.
settings.register_profile("dupmae", deadline=None)
settings.load_profile("dupmae")
measure_quickly()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Random numbers without a seed of their own are the same in every run, those of shared fixtures too."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Again after the shared fixtures, which only the first test of a file sets up; one thread fixes sums."""
    pytest_runtest_setup()
    torch.set_num_threads(1)


@pytest.fixture
def log_messages(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """The messages of the package's log so far."""
    monkeypatch.setattr(logging.getLogger("dupmae"), "propagate", True)
    caplog.set_level(logging.INFO, logger="dupmae")
    return lambda: [record.getMessage() for record in caplog.records]


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Leave what the libraries loaded to itself: every training run collects garbage, 0.3 s with all of it."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


def pytest_collection_finish() -> None:
    """The same for what the test files themselves loaded."""
    gc.freeze()
