"""The hybrid score term by term in Python floats (DupMAE, equations 10-12), and the best passages by trying all."""

from __future__ import annotations

from collections.abc import Sequence

Vector = Sequence[float]


def kept_terms(mu: Vector, k: int) -> dict[int, float]:
    """Equation 11: the k largest positive entries of a passage's vocabulary vector, lower ids first on ties."""
    positive = [(term, weight) for term, weight in enumerate(mu) if weight > 0]
    positive.sort(key=lambda entry: (-entry[1], entry[0]))
    return dict(positive[:k])


def dense_score(query: Vector, passage: Vector) -> float:
    """Equation 10's inner product of the two projected [CLS] states."""
    total = 0.0
    for a, b in zip(query, passage, strict=True):
        total += float(a) * float(b)
    return total


def sparse_score(query: Vector, passage: Vector) -> float:
    """Equation 12's sum over the terms the passage keeps; the query keeps all of its own."""
    total = 0.0
    for term, weight in enumerate(passage):
        if weight != 0:
            total += float(query[term]) * float(weight)
    return total


def hybrid_score(query_dense: Vector, passage_dense: Vector, query_sparse: Vector, passage_sparse: Vector) -> float:
    """Equation 12: both parts summed."""
    return dense_score(query_dense, passage_dense) + sparse_score(query_sparse, passage_sparse)


def best_passages(scores: Vector, k: int) -> list[int]:
    """Positions of the k largest scores, best first, lower position first on ties."""
    return sorted(range(len(scores)), key=lambda position: (-scores[position], position))[:k]
