"""Folding equals the loop, and other terms in a group cancel on average."""

from __future__ import annotations

import pytest
import torch

from dupmae.nn.aggregation import fold
from tests.reference import representation as reference


@pytest.mark.parametrize("width", [1, 7, 16, 50, 64])
def test_equals_the_loop(width: int) -> None:
    values = torch.rand(5, 50, dtype=torch.float64).sub_(0.4).clamp_(min=0)
    found = fold(values, width)
    assert found.shape == (5, width)
    for row in range(5):
        assert found[row].tolist() == reference.folded(values[row].tolist(), width)


def test_gradient_goes_to_the_winners() -> None:
    values = torch.rand(3, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: fold(given, 8), values)


def test_terms_that_share_a_group_count_for_and_against() -> None:
    terms = torch.eye(12)
    products = fold(terms, 3) @ fold(terms, 3).T
    assert products.diagonal().tolist() == [1.0] * 12
    collisions = products - torch.diag(products.diagonal())
    # Each term meets three others in its group: one of its own half, two of the other.
    assert (collisions == 1).sum(1).tolist() == [1] * 12
    assert (collisions == -1).sum(1).tolist() == [2] * 12
