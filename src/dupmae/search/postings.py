"""The sparse part of an index: an inverted file, and the streaming turn from passages' terms to terms' passages.

For each term of the vocabulary the file lists the passages that keep it, in rising order, each with its
impact. On disk: `term_offsets.npy` int64 [V + 1], `posting_passages.npy` uint16 or int32 [P] and
`posting_impacts.npy` float16 [P]; term t owns the postings from `term_offsets[t]` up to `term_offsets[t + 1]`.
`Postings`, `PostingsWriter`, `open_array`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array

from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Floats, Sparse

OFFSETS, PASSAGES, IMPACTS = "term_offsets.npy", "posting_passages.npy", "posting_impacts.npy"
SPILLED_TERMS, SPILLED_IMPACTS = "spilled_terms.bin", "spilled_impacts.bin"
CHUNK = 1 << 23  # postings held at once in float32 and int32: 64 MB
REBUILD = "build the index again with `dupmae index`"

Impacts = NDArray[np.float16]


class Postings:
    """An inverted file, memory-mapped.

    Raises:
        DupmaeError: when a file is missing, damaged, or does not hold `passages` passages and `terms` terms.
    """

    def __init__(self, folder: Path, passages: int, terms: int) -> None:
        self.folder, self.size = folder, passages
        self.offsets = open_array(folder / OFFSETS, np.int64, (terms + 1,))
        count = int(self.offsets[-1])
        if self.offsets[0] != 0 or (np.diff(self.offsets) < 0).any():
            raise DupmaeError("damaged: offsets do not rise from 0", where=folder / OFFSETS, fix=REBUILD)
        self.passages = open_array(folder / PASSAGES, position_type(passages), (count,))
        self.impacts = open_array(folder / IMPACTS, np.float16, (count,))

    @property
    def size_bytes(self) -> int:
        """Bytes of the three arrays."""
        return int(self.offsets.nbytes + self.passages.nbytes + self.impacts.nbytes)

    def scores(self, queries: Sparse) -> Floats:
        """Sparse scores of a block of queries [B, V] against all passages: [B, N] float32.

        Only the postings of terms that occur in the block are read, each once for the whole block.
        """
        columns = queries.tocsc()
        terms = np.flatnonzero(np.diff(columns.indptr))
        total = np.zeros((self.size, queries.shape[0]), np.float32)
        for group in self._groups(terms):
            total += self._gather(group) @ np.ascontiguousarray(columns[:, group].toarray().T)
        return np.ascontiguousarray(total.T)

    def contributions(self, query: Sparse, passage: int) -> list[tuple[int, float]]:
        """The terms of one query [1, V] that the passage keeps, with what each adds, largest first."""
        found = []
        for term, weight in zip(query.indices.tolist(), query.data.tolist(), strict=True):
            start, stop = int(self.offsets[term]), int(self.offsets[term + 1])
            posting = start + int(np.searchsorted(self.passages[start:stop], passage))
            if posting < stop and self.passages[posting] == passage:
                found.append((term, weight * float(self.impacts[posting])))
        return sorted(found, key=lambda entry: (-entry[1], entry[0]))

    def _groups(self, terms: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Split the terms so that no group but one of a single term has more than CHUNK postings."""
        before = 0
        start = 0
        ends = np.cumsum(self.offsets[terms + 1] - self.offsets[terms])
        while start < len(terms):
            stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, side="right")))
            yield terms[start:stop]
            start, before = stop, int(ends[stop - 1])

    def _gather(self, terms: NDArray[np.int64]) -> csc_array[np.float32]:
        """The postings of some terms as a matrix [N, len(terms)]."""
        starts, stops = self.offsets[terms], self.offsets[terms + 1]
        spans = [slice(*span) for span in zip(starts.tolist(), stops.tolist(), strict=True)]
        passages = np.concatenate([self.passages[span] for span in spans], dtype=np.int32)
        impacts = np.concatenate([self.impacts[span] for span in spans], dtype=np.float32)
        # A damaged file must not make the compiled product write outside its result.
        if passages.view(np.uint32).max(initial=0) >= self.size:
            raise DupmaeError("damaged: names a passage past the last", where=self.folder / PASSAGES, fix=REBUILD)
        columns = np.cumsum(np.concatenate([[0], stops - starts]), dtype=np.int32)
        return csc_array((impacts, passages, columns), shape=(self.size, len(terms)))


class PostingsWriter:
    """Takes passages' sparse vectors batch by batch and writes them sorted by term.

    The vectors are spilled to disk as they come and put in place by a counting sort, so that memory holds
    one batch or CHUNK postings, never the collection.
    """

    def __init__(self, folder: Path, terms: int) -> None:
        self._folder = folder
        self._term_type = position_type(terms)
        self._counts = np.zeros(terms, np.int64)
        self._lengths: list[NDArray[np.int64]] = []
        self._terms = (folder / SPILLED_TERMS).open("wb")
        self._impacts = (folder / SPILLED_IMPACTS).open("wb")

    def __enter__(self) -> PostingsWriter:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._terms.close()
        self._impacts.close()

    def add(self, rows: Sparse) -> None:
        """Append the next passages [n, V]; an impact that float16 rounds to zero is dropped."""
        impacts = half(rows.data)
        kept = impacts != 0
        terms = rows.indices[kept]
        self._lengths.append(np.diff(np.concatenate([[0], np.cumsum(kept)])[rows.indptr]))
        self._counts += np.bincount(terms, minlength=len(self._counts))
        self._terms.write(terms.astype(self._term_type).tobytes())
        self._impacts.write(impacts[kept].tobytes())

    def finish(self) -> None:
        """Write the three arrays and remove the spilled vectors."""
        self.__exit__()
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._counts)])
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(self._lengths))])
        np.save(self._folder / OFFSETS, offsets)
        count, free = int(offsets[-1]), offsets[:-1].copy()
        passages = _reserve(self._folder / PASSAGES, position_type(len(starts) - 1), count)
        impacts = _reserve(self._folder / IMPACTS, np.dtype(np.float16), count)
        for first, rows in self._spilled(starts):
            columns = rows.tocsc()
            lengths = np.diff(columns.indptr).astype(np.int64)
            # Where each of this chunk's postings goes: the term's first free slot, then on from there.
            slots = np.repeat(free - columns.indptr[:-1], lengths) + np.arange(columns.nnz)
            passages[slots] = columns.indices + first
            impacts[slots] = columns.data
            free += lengths
        passages.flush()
        impacts.flush()
        (self._folder / SPILLED_TERMS).unlink()
        (self._folder / SPILLED_IMPACTS).unlink()

    def _spilled(self, starts: NDArray[np.int64]) -> Iterator[tuple[int, Sparse]]:
        """Read the spilled vectors back in chunks: the first passage's position, and its rows."""
        size = len(starts) - 1
        cuts = np.searchsorted(starts, np.arange(0, starts[-1] + CHUNK, CHUNK)).clip(max=size)
        with (self._folder / SPILLED_TERMS).open("rb") as term, (self._folder / SPILLED_IMPACTS).open("rb") as imp:
            for first, last in pairwise(np.unique(cuts).tolist()):
                count = int(starts[last] - starts[first])
                terms = np.fromfile(term, self._term_type, count).astype(np.int32)
                impacts = np.fromfile(imp, np.float16, count).astype(np.float32)
                shape = (last - first, len(self._counts))
                yield first, csr_array((impacts, terms, starts[first : last + 1] - starts[first]), shape=shape)


def position_type(size: int) -> np.dtype[Any]:
    """The narrowest type used for numbers below `size`: uint16, or int32."""
    return np.dtype(np.uint16 if size <= 1 << 16 else np.int32)


def half(values: Floats) -> Impacts:
    """The values as float16.

    Raises:
        DupmaeError: when one is not a number or exceeds float16's 65,504.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        fix = "its training diverged: fine-tune again with a smaller learning rate"
        raise DupmaeError("the retriever gives vectors that are not finite in 16 bits", fix=fix)
    return halves


def open_array(file: Path, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Memory-map an array and check that it is what the index needs.

    Raises:
        DupmaeError: when the file is missing, cut short, or holds something else.
    """
    try:
        # Copy-on-write, since torch warns about arrays it could not write to; the file stays as it is.
        # A plain view of the map, since slicing the memmap class costs twenty times as much.
        array: NDArray[Any] = np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))
    except FileNotFoundError:
        raise DupmaeError("no such file in the index", where=file, fix=REBUILD) from None
    except (OSError, ValueError, EOFError) as error:
        raise DupmaeError(f"damaged: {error}", where=file, fix=REBUILD) from None
    if array.dtype != dtype or shape != array.shape:
        problem = f"damaged: holds {array.dtype} {array.shape} instead of {np.dtype(dtype)} {shape}"
        raise DupmaeError(problem, where=file, fix=REBUILD)
    return array


def _reserve(file: Path, dtype: np.dtype[Any], count: int) -> np.memmap[Any, Any]:
    """An array file of zeros, mapped for writing; the zeros are written, so that a full disk is noticed here."""
    header = np.lib.format.header_data_from_array_1_0(np.empty(0, dtype)) | {"shape": (count,)}
    with file.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        left = count * dtype.itemsize
        while left:
            left -= handle.write(bytes(min(left, CHUNK)))
    return np.lib.format.open_memmap(file, mode="r+")
