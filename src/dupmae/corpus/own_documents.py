"""The rule for queries that are documents too, as in sets of duplicate questions and in ArguAna.

A query's own document is the passage with its id or with its text (white space aside). It is never a negative of the
query, and it is left out of the query's ranking unless it is judged relevant, as BEIR's own evaluation leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from dupmae.corpus.beir import Passage, Qrels, Queries


class OwnDocuments:
    """Tells which passages are a query's own, and leaves those that were added out of rankings.

    Args:
        qrels: what is judged relevant is no query's own document.
        by_id: whether equal ids of query and passage mean the same document; False where one of them is numbered.
    """

    def __init__(self, queries: Queries, qrels: Qrels | None = None, *, by_id: bool = True) -> None:
        self._qrels, self._ids = qrels or {}, set(queries) if by_id else set()
        self._texts: dict[str, list[str]] = {}
        for name, text in queries.items():
            self._texts.setdefault(_spaced(text), []).append(name)
        self._left_out: dict[str, set[str]] = {}

    def queries(self, passage: Passage) -> list[str]:
        """The ids of the queries whose own document this is."""
        if not self._texts:
            return []
        same = {*self._texts.get(_spaced(passage.text), ()), *self._texts.get(passage.content, ())}
        if passage.id in self._ids:
            same.add(passage.id)
        return [query for query in same if self._qrels.get(query, {}).get(passage.id, 0) <= 0]

    def add(self, passages: Iterable[Passage]) -> None:
        """Look at passages of the corpus that is ranked."""
        for passage in passages:
            for query in self.queries(passage):
                self._left_out.setdefault(query, set()).add(passage.id)

    @property
    def most(self) -> int:
        """How many more passages have to be found for each query, so that enough are left."""
        return max(map(len, self._left_out.values()), default=0)

    def ranked(self, query: str, scores: Mapping[str, float], depth: int) -> dict[str, float]:
        """The `depth` first of a query's passages, given best first, less its own documents."""
        left_out = self._left_out.get(query, ())
        return dict(islice(((name, score) for name, score in scores.items() if name not in left_out), depth))


def _spaced(text: str) -> str:
    return " ".join(text.split())
