"""The measured peak is a real rate, and measuring it leaves the random state alone."""

from __future__ import annotations

import time

import pytest
import torch

from dupmae.training import peak as module
from dupmae.training.peak import SIZE, matmul_peak


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_products_are_of_random_numbers(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[torch.Tensor] = []
    multiply = torch.mm

    def keeps(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        given.extend([left, right])
        return multiply(left, right)

    monkeypatch.setattr(torch, "mm", keeps)
    matmul_peak(dtype)
    for factor in given:
        assert factor.dtype == dtype
        assert float(factor.float().mean()) == pytest.approx(0, abs=0.1)
        assert float(factor.float().std()) == pytest.approx(1, abs=0.1)
