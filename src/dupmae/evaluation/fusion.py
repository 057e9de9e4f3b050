"""One ranking of several: by reciprocal ranks, or by a weighted sum of scores.

`reciprocal_ranks` and `weighted` merge runs; `choose_weights` finds the weights on queries that are not tested on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Qrels, Run, evaluate, ranking

# Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods"
# (SIGIR 2009): the constant of their experiments.
RANK_CONSTANT = 60
CHOSEN_BY = "ndcg@10"
# A pair of runs gets 21 weights; more runs have more combinations, so fewer of each.
PAIR_STEPS, STEPS = 20, 10


def reciprocal_ranks(runs: Sequence[Run], depth: int) -> Run:
    """Score a document by the sum of 1 / (60 + rank) over the runs that list it, and keep the `depth` best."""
    merged: Run = {}
    for run in runs:
        for query, scores in run.items():
            sums = merged.setdefault(query, {})
            for rank, document in enumerate(ranking(scores), 1):
                sums[document] = sums.get(document, 0.0) + 1 / (RANK_CONSTANT + rank)
    return {query: _best(scores, depth) for query, scores in merged.items()}


def weighted(runs: Sequence[Run], weights: Sequence[float], depth: int) -> Run:
    """Score a document by the weighted sum of its scores, and keep the `depth` best.

    Each run's scores of a query are scaled to [0, 1] first, the worst listed document 0 and the best 1 (all 1 where
    they are equal); a document that a run does not list counts 0 there.
    """
    return _sum([scaled(run) for run in runs], weights, depth)


def choose_weights(qrels: Qrels, runs: Sequence[Run], depth: int) -> tuple[float, ...]:
    """The weights, summing to 1, whose `weighted` run has the best mean nDCG@10; the first of equal ones.

    Raises:
        DupmaeError: when there is no judged query.
    """
    if not qrels:
        raise DupmaeError("no judged query to choose weights by", fix="give qrels with at least one line")
    scales = [scaled(run) for run in runs]
    steps = PAIR_STEPS if len(runs) == 2 else STEPS
    candidates = [tuple(part / steps for part in parts) for parts in _compositions(steps, len(runs))]
    return max(candidates, key=lambda weights: evaluate(qrels, _sum(scales, weights, depth), [CHOSEN_BY])[CHOSEN_BY])


def scaled(run: Run) -> Run:
    """Each query's scores from 0, the worst listed document, to 1, the best; all 1 where they are equal."""
    result: Run = {}
    for query, scores in run.items():
        lowest, highest = min(scores.values(), default=0.0), max(scores.values(), default=0.0)
        spread = highest - lowest
        result[query] = {document: (score - lowest) / spread if spread else 1.0 for document, score in scores.items()}
    return result


def _sum(runs: Sequence[Run], weights: Sequence[float], depth: int) -> Run:
    merged: Run = {}
    for run, weight in zip(runs, weights, strict=True):
        for query, scores in run.items():
            sums = merged.setdefault(query, {})
            for document, score in scores.items():
                sums[document] = sums.get(document, 0.0) + weight * score
    return {query: _best(scores, depth) for query, scores in merged.items()}


def _best(scores: Mapping[str, float], depth: int) -> dict[str, float]:
    return {document: scores[document] for document in ranking(scores)[:depth]}


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write `total` as an ordered sum of `parts` numbers of at least 0."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)
