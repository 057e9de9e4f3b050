"""Encoding a batch of pairs: all of it at once, or in chunks whose inner states are computed twice.

With chunks memory holds the vectors of the whole batch, but the activations of one chunk only: the loss gives the
gradients of the vectors, and each chunk is encoded again, with the same random numbers, to pass them on (Gao et al.
2021, "Scaling deep contrastive learning batch size under memory limited setup"). torch's checkpointing does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dupmae.nn.precision import LowPrecision
from dupmae.nn.representation import Counts, HybridEncoder, Texts, Vectors

# Passages of like length are encoded together, so that short ones carry little padding.
LENGTH_GROUPS = 4


class Side(NamedTuple):
    """The queries or the passages of a batch.

    Attributes:
        vectors: passages are cut to their top-k.
        sums: [|V|], the vocabulary part summed over the texts before it is cut; None where nobody asked.
    """

    vectors: Vectors
    sums: Tensor | None


class GroupEncoder(nn.Module):
    """Encodes groups of texts one after another."""

    def __init__(self, encoder: HybridEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, groups: Sequence[Texts], queries: Sequence[bool], sums: Sequence[bool], terms: Tensor | None
    ) -> list[Side]:
        """The side of every group.

        Args:
            queries: whether a group has queries, by group.
            sums: whether the sums of its vocabulary part are wanted, by group.
            terms: int64 [T], the vocabulary entries that are wanted; None: all, and passages are cut to their top-k.
        """
        return [self._one(*given, terms) for given in zip(groups, queries, sums, strict=True)]

    def _one(self, texts: Texts, queries: bool, sums: bool, terms: Tensor | None) -> Side:
        vectors = self.encoder(texts, queries, terms)
        total = vectors.sparse.sum(0) if sums else None
        return Side(vectors if queries or terms is not None else self.encoder.cut(vectors), total)


class PairEncoder(nn.Module):
    """Encodes batches of pairs in low precision.

    Args:
        dtype: of the network; parameters are cast once a call, or once a chunk.
        chunk_size: texts encoded at once; None: all, in groups of like length.
    """

    def __init__(self, encoder: HybridEncoder, dtype: torch.dtype, chunk_size: int | None = None) -> None:
        super().__init__()
        self.groups = LowPrecision(GroupEncoder(encoder), dtype)
        self.chunk_size = chunk_size

    @property
    def encoder(self) -> HybridEncoder:
        """The encoder with its master weights."""
        found = self.groups.inner.encoder
        assert isinstance(found, HybridEncoder)
        return found

    def forward(self, item: dict[str, Tensor]) -> tuple[Side, Side]:
        """Queries and passages of a batch with `query_*` and `passage_*` ids, valid and special; `terms` if wanted."""
        settings = self.encoder.settings
        asked, back_asked = self._split(texts_of(item, "query"), 1)
        found, back_found = self._split(texts_of(item, "passage"), LENGTH_GROUPS)
        queries = [True] * len(asked) + [False] * len(found)
        sums = [bool(settings.query_flops if is_query else settings.passage_flops) for is_query in queries]
        groups, terms = [*asked, *found], item.get("terms")
        if self.chunk_size is None:
            sides = self.groups(groups, queries, sums, terms)
        else:
            chunks = zip(groups, queries, sums, strict=True)
            sides = [checkpoint(self._chunk, *chunk, terms, use_reentrant=False) for chunk in chunks]
        return _together(sides[: len(asked)], back_asked), _together(sides[len(asked) :], back_found)

    def _chunk(self, texts: Texts, queries: bool, sums: bool, terms: Tensor | None) -> Side:
        side: Side = self.groups([texts], [queries], [sums], terms)[0]
        return side

    def _split(self, texts: Texts, groups: int) -> tuple[list[Texts], Tensor | None]:
        """Groups of like length, and the places of the texts in them."""
        if self.chunk_size is not None:
            groups = -(-len(texts.ids) // self.chunk_size)
        return by_length(texts, groups)


def texts_of(item: dict[str, Tensor], name: str) -> Texts:
    """The texts of one side of a batch."""
    counts = None
    if f"{name}_terms" in item:
        counts = Counts(item[f"{name}_terms"], item[f"{name}_times"], item[f"{name}_lengths"])
    return Texts(item[f"{name}_ids"], item[f"{name}_valid"], item[f"{name}_special"], counts)


def by_length(texts: Texts, groups: int) -> tuple[list[Texts], Tensor | None]:
    """Texts in at most `groups` groups of like length, each as wide as its longest.

    Returns:
        The groups, and where in them each text is, int64 [B]; None: they stand as they stood.
    """
    if groups == 1:
        return [texts], None
    lengths = texts.valid.sum(1)
    order = lengths.argsort(stable=True)
    return [texts.rows(rows) for rows in order.chunk(groups)], order.argsort()


def _together(sides: Sequence[Side], back: Tensor | None) -> Side:
    """Groups as one batch, in the order of its texts."""
    if back is None:
        return sides[0]
    sums = [side.sums for side in sides if side.sums is not None]
    total = torch.stack(sums).sum(0) if sums else None
    columns = zip(*(side.vectors for side in sides), strict=True)
    whole = (None if column[0] is None else torch.cat(column)[back] for column in columns)
    return Side(Vectors(*whole), total)
