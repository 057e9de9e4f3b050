"""Inner products of whole vocabulary vectors with cut ones, without a whole vector for every passage."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# A block is one matrix product, and the only place where passages are as wide as the vocabulary.
PASSAGES_AT_ONCE = 256


class _CutScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, values: Tensor, terms: Tensor) -> Tensor:
        ctx.save_for_backward(queries, values, terms)
        blocks = (queries @ _whole(values[part], terms[part], queries).T for part in _blocks(len(terms)))
        return torch.cat(list(blocks), 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        queries, values, terms = ctx.saved_tensors
        grad, grad_queries, grad_values = grads[0], torch.zeros_like(queries), torch.empty_like(values)
        for part in _blocks(len(terms)):
            share = grad[:, part]
            grad_queries += share @ _whole(values[part], terms[part], queries)
            grad_values[part] = (queries.T @ share).T.gather(1, terms[part])
        return grad_queries, grad_values, None


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + PASSAGES_AT_ONCE) for start in range(0, count, PASSAGES_AT_ONCE)]


def _whole(values: Tensor, terms: Tensor, queries: Tensor) -> Tensor:
    return queries.new_zeros(len(terms), queries.shape[1]).scatter_(1, terms, values)


def topk_scores(queries: Tensor, values: Tensor, terms: Tensor) -> Tensor:
    """sum over a passage's terms of query[term] x value (DupMAE, equation 12), [Q, P].

    Args:
        queries: [Q, |V|].
        values, terms: [P, k], the entries that passages keep; the terms of one passage differ.
    """
    scores: Tensor = _CutScores.apply(queries, values, terms)  # type: ignore[no-untyped-call]
    return scores
