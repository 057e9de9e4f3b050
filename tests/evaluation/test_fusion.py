"""Merged rankings: reciprocal ranks, weighted sums, and weights that the dev queries choose."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dupmae.errors import DupmaeError
from dupmae.evaluation.fusion import choose_weights, reciprocal_ranks, scaled, weighted
from dupmae.evaluation.metrics import Run, evaluate

FIRST: Run = {"q": {"a": 9.0, "b": 5.0, "c": 1.0}, "none": {}}
SECOND: Run = {"q": {"c": 0.3, "d": 0.1}, "none": {"a": 1.0}}


def test_reciprocal_ranks() -> None:
    merged = reciprocal_ranks([FIRST, SECOND], 10)
    assert merged["q"] == pytest.approx({"c": 1 / 63 + 1 / 61, "a": 1 / 61, "d": 1 / 62, "b": 1 / 62})
    assert next(iter(merged["q"])) == "c"
    assert merged["none"] == {"a": 1 / 61}
    assert list(reciprocal_ranks([FIRST, SECOND], 2)["q"]) == ["c", "a"]


def test_scores_are_scaled_by_query() -> None:
    assert scaled(FIRST) == {"q": {"a": 1.0, "b": 0.5, "c": 0.0}, "none": {}}
    assert scaled({"q": {"a": 3.0}}) == {"q": {"a": 1.0}}
    assert weighted([FIRST, SECOND], (0.25, 0.75), 10)["q"] == pytest.approx(
        {"a": 0.25, "b": 0.125, "c": 0.75, "d": 0.0}
    )


@pytest.mark.parametrize("runs", [2, 3])
def test_the_weights_are_the_best_of_the_grid(runs: int) -> None:
    drawn = np.random.default_rng(runs)
    queries = [f"q{number}" for number in range(12)]
    qrels = {query: {f"d{drawn.integers(20)}": 1} for query in queries}
    found = [
        {
            query: {f"d{n}": float(drawn.normal() + lift * (f"d{n}" in qrels[query])) for n in range(20)}
            for query in queries
        }
        for lift in (0.5, 1.5, 1.0)[:runs]
    ]
    weights = choose_weights(qrels, found, 20)
    steps = 20 if runs == 2 else 10
    grid = [parts for parts in itertools.product(range(steps + 1), repeat=runs) if sum(parts) == steps]
    best = max(
        evaluate(qrels, weighted(found, [part / steps for part in parts], 20), ["ndcg@10"])["ndcg@10"] for parts in grid
    )
    assert sum(weights) == pytest.approx(1)
    assert evaluate(qrels, weighted(found, weights, 20), ["ndcg@10"])["ndcg@10"] == pytest.approx(best)


def test_weights_need_judged_queries() -> None:
    with pytest.raises(DupmaeError, match="no judged query"):
        choose_weights({}, [FIRST, SECOND], 10)
