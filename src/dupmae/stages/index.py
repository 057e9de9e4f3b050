"""`dupmae index`: a retriever and a corpus to a searchable folder."""

from __future__ import annotations

from dupmae.console import logger
from dupmae.corpus.readers import read_passages
from dupmae.retriever.model import Retriever
from dupmae.search.engine import index_passages
from dupmae.search.index import HybridIndex
from dupmae.settings import Index


def build(settings: Index) -> HybridIndex:
    """Encode every passage of a corpus or of any text, write the index and open it.

    Raises:
        DupmaeError: for a corpus or a retriever that cannot be read, or when the file system refuses.
    """
    passages = read_passages(settings.data)
    retriever = Retriever.load(settings.retriever)
    logger.info(f"indexing {len(passages):,} passages")
    return index_passages(settings.out, retriever, passages, batch_tokens=settings.batch_tokens)
