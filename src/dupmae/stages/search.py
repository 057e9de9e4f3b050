"""`dupmae search`: ask an index."""

from __future__ import annotations

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.search.documents import Hit
from dupmae.search.index import Index
from dupmae.settings import Search


def search(settings: Search) -> list[Hit]:
    """The passages that answer a query, best first; none where nothing matches.

    Raises:
        DupmaeError: for an index or a retriever that cannot be read, and for a query without a word.
    """
    index = Index.open(settings.index)
    tokenizer = index.retriever.tokenizer
    tokens = set(tokenizer(settings.query, add_special_tokens=False)["input_ids"])
    if not tokens:
        raise DupmaeError("the query is empty", where=repr(settings.query), fix="give at least one word")
    if tokens == {tokenizer.unk_token_id}:
        logger.warning("the retriever knows no word of the query: the order below means little")
    return index.search(settings.query, settings.k)
