"""The contrastive term of the second stage, one pair of texts at a time, so that autograd gives the gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.reference.objectives import Model


def sentence_vector(model: Model, ids: Sequence[int], pooling: str) -> Tensor:
    """[CLS], or the mean over all tokens, of one text without padding; [d]."""
    states = model.states(ids)
    if pooling == "cls":
        return states[0]
    total = states[0]
    for state in states[1:]:
        total = total + state
    return total / len(states)


def similarity(left: Tensor, right: Tensor, kind: str) -> Tensor:
    """Inner product, or cosine."""
    product = (left * right).sum()
    if kind == "dot":
        return product
    return product / torch.sqrt((left * left).sum()) / torch.sqrt((right * right).sum())


def contrastive(
    model: Model,
    queries: Sequence[Sequence[int]],
    passages: Sequence[Sequence[int]],
    targets: Sequence[int],
    ignored: Sequence[Sequence[bool]],
    *,
    pooling: str,
    kind: str,
    temperature: float,
) -> Tensor:
    """Mean over queries of -log(exp(s+ / t) / sum over the passages that count of exp(s / t)) (SimCSE, equation 5)."""
    found = [sentence_vector(model, ids, pooling) for ids in passages]
    losses = []
    for ids, target, skip in zip(queries, targets, ignored, strict=True):
        query = sentence_vector(model, ids, pooling)
        scores = [similarity(query, passage, kind) / temperature for passage in found]
        total = sum(
            (torch.exp(s - scores[target]) for s, out in zip(scores, skip, strict=True) if not out), 0 * query[0]
        )
        losses.append(torch.log(total))
    return torch.stack(losses).mean()
