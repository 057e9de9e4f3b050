"""The measured peak is a real rate, and measuring it leaves the random state alone."""

from __future__ import annotations

import time

import pytest
import torch

from dupmae import peak as module
from dupmae.peak import SIZE, matmul_peak


def test_the_peak_is_at_least_what_a_plain_loop_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    # As outside the tests, which measure in a hurry.
    monkeypatch.setitem(SIZE, "cpu", 1024)
    monkeypatch.setattr(module, "SECONDS", 0.3)
    left = torch.ones(512, 512)
    torch.mm(left, left)
    start = time.perf_counter()
    for _ in range(4):
        torch.mm(left, left)
    plain = 4 * 2 * 512**3 / (time.perf_counter() - start)
    state = torch.get_rng_state()
    peak = matmul_peak(torch.float32)
    assert plain / 3 < peak < 1e15
    assert torch.get_rng_state().equal(state)
    assert set(SIZE) == {"cpu", "cuda"}
