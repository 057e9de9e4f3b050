"""The queries that systems disagree on most, with their texts and what each system found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dupmae.corpus.beir import Passage
from dupmae.evaluation.metrics import ranking
from dupmae.report.differences import Difference, Values, moved
from dupmae.report.judged import Judged
from dupmae.report.results import Result

# Of the documents that answer a query this many are shown.
RELEVANT_SHOWN = 2


@dataclass(frozen=True)
class Found:
    """What a system did with one query.

    Attributes:
        value: of the metric that is compared.
        rank: of the first right document; None when none was ranked, or the data is not at hand.
        top: id of the document it put first; None when it ranked none.
    """

    value: float
    rank: int | None
    top: str | None


@dataclass(frozen=True)
class Moved:
    """A query on which one pair of systems disagrees.

    Attributes:
        text: the query's; "" when the data is not at hand.
        difference: of the metric, system minus other.
        relevant: ids of documents that answer it, the best ones first.
        found: what each of the two found.
    """

    system: str
    other: str
    query: str
    text: str
    difference: float
    relevant: list[str]
    found: dict[str, Found]


Change = tuple[Difference, str, float]
"""Pair, query id, difference."""


def most_moved(
    pairs: Sequence[Difference], results: Sequence[Result], values: Values, judged: Judged | None, count: int
) -> tuple[list[Moved], dict[str, Passage]]:
    """The queries of the `count` largest gains and losses of each pair, and the documents they name, by id.

    Args:
        values: of the metric that is compared.
        judged: the data, where it is at hand.
    """
    changes = [(pair, *change) for pair in pairs for change in moved(values[pair.system], values[pair.other], count)]
    queries = {query for _, query, _ in changes}
    orders = {
        result.name: {query: ranking(found) for query, found in result.rankings(queries).items() if query in queries}
        for result in results
        if changes
    }
    texts = judged.documents(_named(judged, queries, orders)) if judged is not None and changes else {}
    return [_moved(change, values, orders, judged, texts) for change in changes], texts


def _named(judged: Judged, queries: set[str], orders: Mapping[str, Mapping[str, Sequence[str]]]) -> set[str]:
    """What is shown; where answers decide, all that was ranked, since only texts tell what is right."""
    shown = None if judged.collection.answers else 1
    ranked = {name for found in orders.values() for order in found.values() for name in order[:shown]}
    return ranked | {name for query in queries for name in judged.relevant(query)[:RELEVANT_SHOWN]}


def _moved(
    change: Change,
    values: Values,
    orders: Mapping[str, Mapping[str, Sequence[str]]],
    judged: Judged | None,
    texts: Mapping[str, Passage],
) -> Moved:
    pair, query, difference = change
    found = {}
    for name in (pair.system, pair.other):
        order = orders[name].get(query, [])
        right = [] if judged is None else judged.right(query, order, texts)
        rank = order.index(right[0]) + 1 if right else None
        found[name] = Found(values[name][query], rank, order[0] if order else None)
    text, relevant = ("", []) if judged is None else (judged.queries[query], judged.relevant(query))
    return Moved(pair.system, pair.other, query, text, difference, relevant[:RELEVANT_SHOWN], found)
