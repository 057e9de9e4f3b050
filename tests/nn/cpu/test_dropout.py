"""Dropout from random bits: the rate, the scale, the gradient, and where it steps aside."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dupmae.nn.cpu.dropout import Dropout, keep_bits, use_fast_dropout

KINDS = [torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(kind: torch.dtype, rate: float) -> None:
    torch.manual_seed(0)
    given = torch.ones(300, 401, dtype=kind)
    done = Dropout(rate)(given)
    kept = done != 0
    assert done[kept].unique().tolist() == pytest.approx([1 / (1 - rate)], rel=4e-3)
    # Five standard errors of a share of 120,300 independent draws.
    assert kept.double().mean().item() == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / kept.numel()) ** 0.5)
    for axis in (0, 1):
        assert kept.double().mean(axis).std() < 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_goes_where_the_value_went(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    given = torch.randn(7, 30, dtype=kind).T.requires_grad_()
    done = Dropout(0.25)(given)
    done.backward(torch.full_like(done, 3))
    torch.testing.assert_close(given.grad, 3 * (done != 0).to(kind) * (1 / 0.75))


def test_infinities_and_signs_pass_or_vanish() -> None:
    torch.manual_seed(0)
    given = torch.tensor([float("inf"), float("nan"), -2.0]).repeat(50)
    kept = keep_bits(given, 0.5) != 0
    done = torch.where(kept, given, 0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(Dropout(0.5)(given), 2 * done, equal_nan=True)


def test_same_seed_same_bits() -> None:
    torch.manual_seed(3)
    first = Dropout(0.3)(torch.ones(100))
    torch.manual_seed(3)
    assert Dropout(0.3)(torch.ones(100)).equal(first)


def test_off_in_evaluation_and_at_rate_zero() -> None:
    given = torch.randn(5)
    assert Dropout(0.5).eval()(given) is given
    assert Dropout(0.0)(given).equal(given)
    assert not Dropout(1.0)(given).any()


def test_takes_the_place_of_plain_dropout_only() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Sequential(nn.Dropout1d(0.2), nn.Dropout(0.4)))
    use_fast_dropout(module)
    assert [type(part) for part in module.modules()][1:] == [nn.Linear, Dropout, nn.Sequential, nn.Dropout1d, Dropout]
    assert all(part.training for part in module.modules())
    assert [part.p for part in module.modules() if isinstance(part, Dropout)] == [0.2, 0.4]


def test_evaluation_mode_is_kept() -> None:
    module = nn.Sequential(nn.Dropout(0.2)).eval()
    use_fast_dropout(module)
    assert not module[0].training
