"""Distillation losses straight from their definitions, number by number, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]
Places = Sequence[Sequence[bool]]


def shares(scores: Sequence[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def divergence(scores: Rows, teacher: Rows, valid: Places) -> float:
    """KL(softmax(teacher) || softmax(scores)) over the places that hold a passage, mean over queries."""
    sums = []
    for own, wanted, kept in zip(scores, teacher, valid, strict=True):
        places = [place for place, is_kept in enumerate(kept) if is_kept]
        p, q = (shares([values[place] for place in places]) for values in (wanted, own))
        sums.append(sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
    return sum(sums) / len(sums)


def margins(scores: Rows, teacher: Rows, valid: Places) -> float:
    """Mean over all (query, negative) of the squared difference of the two margins."""
    squares = [
        ((own[0] - own[place]) - (wanted[0] - wanted[place])) ** 2
        for own, wanted, kept in zip(scores, teacher, valid, strict=True)
        for place in range(1, len(own))
        if kept[place]
    ]
    return sum(squares) / len(squares) if squares else 0.0
