"""`dupmae search`: ask an index."""

from __future__ import annotations

from dupmae.search.engine import Hit, Searcher
from dupmae.settings import Search


def search(settings: Search) -> list[Hit]:
    """The passages that answer a query, best first.

    Raises:
        DupmaeError: for an index or a retriever that cannot be read, and for a query without a word.
    """
    return Searcher.open(settings.index).search(settings.query, settings.k)
