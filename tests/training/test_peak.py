"""The measured peak is the rate of the fastest product, and measuring it leaves the random state alone."""

from __future__ import annotations

import pytest
import torch

from dupmae.training import peak as module
from dupmae.training.peak import SIZE, matmul_peak


def test_the_peak_is_that_of_the_fastest_product_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    size, clock = SIZE["cpu"], [0.0]
    # The first pays for loading the kernels, whatever the clock says.
    seconds = iter([0.001, 0.5, 0.25, 0.4, 0.3, 0.3])
    multiply = torch.mm

    def takes(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        clock[0] += next(seconds)
        return multiply(left, right)

    monkeypatch.setattr(torch, "mm", takes)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(module, "SECONDS", 1.0)
    state = torch.get_rng_state()
    assert matmul_peak(torch.float32) == pytest.approx(2 * size**3 / 0.25)
    assert torch.get_rng_state().equal(state)


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
