"""Ranking metrics, equal to trec_eval's.

`evaluate` gives means, `per_query` the values behind them, `ranking` the order they are computed on.

Two habits of trec_eval are kept, so that its numbers on a saved run file are the numbers printed here:
scores are compared as 32-bit floats (two scores that differ only beyond that are a tie), and tied documents
are ordered by their id, the lexicographically larger one first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from dupmae.errors import DupmaeError

Run = dict[str, dict[str, float]]
"""Query id -> document id -> score."""

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> relevance grade; 1 and above is relevant."""

Metric = Callable[[list[int], list[int], int], float]


def _ndcg(grades: list[int], judged: list[int], k: int) -> float:
    ideal = _dcg(sorted(judged, reverse=True)[:k])
    return _dcg(grades[:k]) / ideal if ideal else 0.0


def _dcg(grades: list[int]) -> float:
    return math.fsum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades, 1) if grade > 0)


def _mrr(grades: list[int], judged: list[int], k: int) -> float:
    return next((1 / rank for rank, grade in enumerate(grades[:k], 1) if grade > 0), 0.0)


def _recall(grades: list[int], judged: list[int], k: int) -> float:
    relevant = _relevant(judged)
    return _relevant(grades[:k]) / relevant if relevant else 0.0


def _precision(grades: list[int], judged: list[int], k: int) -> float:
    return _relevant(grades[:k]) / k


def _map(grades: list[int], judged: list[int], k: int) -> float:
    hits = [rank for rank, grade in enumerate(grades[:k], 1) if grade > 0]
    relevant = _relevant(judged)
    return math.fsum(found / rank for found, rank in enumerate(hits, 1)) / relevant if relevant else 0.0


def _relevant(grades: Iterable[int]) -> int:
    return sum(grade > 0 for grade in grades)


_METRICS: dict[str, Metric] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "recall": _recall,
    "map": _map,
    "precision": _precision,
}


def _parse(metric: str) -> tuple[Metric, int]:
    match = re.fullmatch(r"([a-z]+)@([1-9][0-9]*)", metric)
    if match is None or match[1] not in _METRICS:
        known = ", ".join(f"{name}@k" for name in _METRICS)
        raise DupmaeError(f"unknown metric {metric!r}", fix=f"known: {known}, such as ndcg@10")
    return _METRICS[match[1]], int(match[2])


def ranking(scores: Mapping[str, float]) -> list[str]:
    """Order document ids as trec_eval does: by 32-bit score, then by id, both descending.

    Raises:
        DupmaeError: when a score is not a number, since such a ranking has no order.
    """
    values = np.fromiter(scores.values(), dtype=np.float32, count=len(scores))
    if np.isnan(values).any():
        document = list(scores)[int(np.isnan(values).argmax())]
        raise DupmaeError(f"the score of document {document!r} is not a number", fix="check the model")
    return [document for _, document in sorted(zip(values.tolist(), scores, strict=True), reverse=True)]


def per_query(qrels: Qrels, run: Run, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compute each metric for each query of `qrels`.

    Metrics are `ndcg@k` (linear gain, as trec_eval's ndcg_cut), `mrr@k`, `recall@k`, `map@k` and
    `precision@k`. Every judged query has a value: 0 when the run lacks it, and 0 when none of its documents
    is relevant, as in `trec_eval -c`. Queries of the run without judgements are ignored; negative grades
    count as 0.

    Returns:
        Metric -> query id -> value, queries in the order of `qrels`.

    Raises:
        DupmaeError: for an unknown metric or a score that is not a number.
    """
    parsed = {metric: _parse(metric) for metric in metrics}
    values: dict[str, dict[str, float]] = {metric: {} for metric in parsed}
    for query, judged in qrels.items():
        grades = [judged.get(document, 0) for document in ranking(run.get(query, {}))]
        for metric, (function, k) in parsed.items():
            values[metric][query] = function(grades, list(judged.values()), k)
    return values


def refuse_partial(qrels: Mapping[str, object], run: Mapping[str, object]) -> None:
    """Stop at a run that lacks a judged query: a missing ranking is a fault, no failure of the system.

    Raises:
        DupmaeError: naming the first query that is missing.
    """
    missing = [query for query in qrels if query not in run]
    if missing:
        problem = f"the run lacks {len(missing):,} of {len(qrels):,} judged queries, first {missing[0]}"
        raise DupmaeError(problem, where="run", fix="rank every query")


def evaluate(qrels: Qrels, run: Run, metrics: Sequence[str]) -> dict[str, float]:
    """Average each metric over all queries of `qrels`; see `per_query`.

    >>> evaluate({"q": {"d1": 1}}, {"q": {"d1": 0.5, "d2": 0.7}}, ["mrr@10", "recall@1"])
    {'mrr@10': 0.5, 'recall@1': 0.0}

    Raises:
        DupmaeError: for an unknown metric, a score that is not a number, or qrels without a query.
    """
    if not qrels:
        raise DupmaeError("no judged query to average over", fix="give qrels with at least one line")
    values = per_query(qrels, run, metrics)
    return {metric: math.fsum(found.values()) / len(qrels) for metric, found in values.items()}
