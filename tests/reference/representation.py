"""The hybrid representation and the contrastive loss, number by number (DupMAE, section 3.3, equations 10 to 12)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def matrix_vector(matrix: Tensor, vector: Tensor) -> Tensor:
    """h W_cls: [d'] from [d', d] and [d]."""
    return torch.stack([(row * vector).sum() for row in matrix])


def maxima(logits: Sequence[Tensor]) -> Tensor:
    """mu: elementwise maximum over the ordinary tokens' logits, each [|V|]."""
    mu = logits[0]
    for row in logits[1:]:
        mu = torch.where(row > mu, row, mu)
    return mu


def activated(mu: Tensor, *, threshold: Tensor, weights: Tensor, logarithm: bool) -> Tensor:
    """Term by term max(mu - threshold, 0), its log(1 + .) when wanted, times the term's weight."""
    terms = []
    for value, weight in zip(mu, weights, strict=True):
        positive = value - threshold
        if positive <= 0:
            positive = positive * 0
        if logarithm:
            positive = torch.log(1 + positive)
        terms.append(positive * (weight if weight > 0 else weight * 0))
    return torch.stack(terms)


def counted(ids: Sequence[int], weights: Tensor, *, factor: Tensor, mean_length: float) -> Tensor:
    """Term by term what a whole passage's own words count: BM25's saturation (k1 1.2, b .75) x factor x weight."""
    values = torch.zeros_like(weights)
    for term in set(ids):
        times = sum(other == term for other in ids)
        share = times * 2.2 / (times + 1.2 * (0.25 + 0.75 * len(ids) / mean_length))
        values[term] = share * factor * weights[term]
    return values


def largest(values: Tensor, k: int) -> set[int]:
    """Indices of the k largest entries."""
    order = sorted(range(len(values)), key=lambda term: (-values[term].item(), term))
    return set(order[:k])


def dense_share(query: Tensor, passage: Tensor, scale: Tensor) -> Tensor:
    """scale x h_q . h_p."""
    return scale * (query * passage).sum()


def sparse_share(query: Tensor, passage: Tensor, k: int, scale: Tensor) -> Tensor:
    """scale x sum over I_d of mu_q mu_d: the passage keeps its k largest terms, the query all of its own."""
    total = torch.zeros((), dtype=query.dtype)
    for term in largest(passage, k):
        total = total + query[term] * passage[term]
    return scale * total


def info_nce(scores: Sequence[Sequence[float]], targets: Sequence[int], ignored: Sequence[Sequence[bool]]) -> float:
    """Mean over queries of -log of the positive's share among the passages that count."""
    losses = []
    for row, target, skip in zip(scores, targets, ignored, strict=True):
        total = sum(math.exp(score - row[target]) for score, out in zip(row, skip, strict=True) if not out)
        losses.append(math.log(total))
    return sum(losses) / len(losses)


def cut_share(query: Tensor, passage: Tensor, width: int, scale: Tensor, normalize: bool) -> Tensor:
    """scale x the product of the first `width` dimensions, each vector brought to unit length when wanted."""
    total = torch.zeros((), dtype=query.dtype)
    left = right = total
    for place in range(width):
        total = total + query[place] * passage[place]
        left, right = left + query[place] ** 2, right + passage[place] ** 2
    return scale * (total / torch.sqrt(left * right) if normalize else total)


def flops(vectors: Sequence[Sequence[float]]) -> float:
    """Sum over the vocabulary of the squared mean activation (Paria et al. 2020)."""
    return float(sum((sum(column) / len(vectors)) ** 2 for column in zip(*vectors, strict=True)))


def folded(values: Sequence[float], width: int) -> list[float]:
    """Each group's largest entry; entries of an odd turn through the groups count with the sign turned."""
    kept: list[float] = [0.0] * width
    for term, value in enumerate(values):
        if value > abs(kept[term % width]):
            kept[term % width] = value * (-1 if term // width % 2 else 1)
    return kept
