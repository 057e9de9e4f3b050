"""Scores of cut passages are those of whole ones, block by block, and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from dupmae.nn import topk_scores as module
from dupmae.nn.topk_scores import topk_scores


@pytest.mark.parametrize("block", [1, 3, 256])
def test_values_and_gradients(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSAGES_AT_ONCE", block)
    queries = torch.rand(4, 30, dtype=torch.float64, requires_grad=True)
    values = torch.rand(7, 5, dtype=torch.float64, requires_grad=True)
    terms = torch.stack([torch.randperm(30)[:5] for _ in range(7)])
    found = topk_scores(queries, values, terms)
    wanted = torch.stack(
        [
            torch.stack([sum((q[t] * v for t, v in zip(ts, vs, strict=True)), torch.zeros(())) for q in queries])
            for ts, vs in zip(terms.tolist(), values, strict=True)
        ]
    ).T
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    factors = torch.randn(4, 7, dtype=torch.float64)
    gradients = [torch.autograd.grad((scores * factors).sum(), (queries, values)) for scores in (found, wanted)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
