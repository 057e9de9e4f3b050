"""`dupmae index`: a retriever and a corpus to a searchable folder."""

from __future__ import annotations

from dupmae.console import logger
from dupmae.corpus.readers import read_passages
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index
from dupmae.settings import Index as Settings


def build(settings: Settings) -> Index:
    """Encode every passage of a corpus or of any text, write the index and open it.

    Raises:
        DupmaeError: for a corpus or a retriever that cannot be read, or when the file system refuses.
    """
    passages = read_passages(settings.data)
    retriever = Retriever.load(settings.retriever)
    logger.info(f"indexing {len(passages):,} passages")
    return Index.build(retriever, passages, path=settings.out, batch_tokens=settings.batch_tokens)
