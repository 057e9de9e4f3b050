"""A segment: some passages with their vectors, written once and never changed.

`build_segment` makes one in memory, `Segment.save` and `Segment.load` put it into a folder and map it from there.
The sparse part is an inverted file by windows of `WINDOW` passages: for each window the terms it has, and for each
of them the passages (numbers within the window) and their impacts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, vstack

from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded, Floats, Sparse
from dupmae.search.documents import Document
from dupmae.search.filters import FIELD, OWN_NAMES

# A window's scores and widened dense vectors stay in the processor's cache; a number within it takes 16 bits.
WINDOW = 1 << 13
TEXTS = "documents.arrow"
REBUILD = "build the index again with `dupmae index`"
TYPES: dict[str, tuple[str, ...]] = {
    "dense": ("float16", "int8"),
    "scales": ("float32",),
    "window_lists": ("int64",),
    "list_terms": ("uint16", "uint32"),
    "list_offsets": ("int64",),
    "posting_passages": ("uint16",),
    "posting_impacts": ("float16",),
    "id_hashes": ("uint64",),
    "id_positions": ("uint32",),
}


@dataclass(frozen=True)
class Segment:
    """N passages in W windows, with L lists of P postings in all.

    Attributes:
        dense: [N, d'] float16, or int8 to be multiplied by `scales`.
        scales: [N] float32 where the dense part is int8, else [0].
        window_lists: [W + 1], the lists of window w are those from `window_lists[w]` up to the next.
        list_terms: [L], rising within a window.
        list_offsets: [L + 1], where each list's postings start.
        posting_passages: [P], rising within a list.
        posting_impacts: [P].
        id_hashes: [N], rising, and `id_positions` [N] the passages they belong to.
        table: columns id, title, text and one for each field of metadata.
        vocabulary: |V|.
        name: of its folder; "" when it was never written.
    """

    dense: NDArray[Any]
    scales: Floats
    window_lists: NDArray[np.int64]
    list_terms: NDArray[Any]
    list_offsets: NDArray[np.int64]
    posting_passages: NDArray[np.uint16]
    posting_impacts: NDArray[np.float16]
    id_hashes: NDArray[np.uint64]
    id_positions: NDArray[np.uint32]
    table: pa.Table
    vocabulary: int
    name: str = ""

    def __len__(self) -> int:
        return int(self.dense.shape[0])

    @property
    def windows(self) -> int:
        """Number of windows."""
        return len(self.window_lists) - 1

    @property
    def fields(self) -> set[str]:
        """Names of the fields that documents have."""
        return {name.removeprefix(FIELD) for name in self.table.column_names if name.startswith(FIELD)}

    def size_bytes(self, part: str = "hybrid") -> int:
        """Bytes of the vectors: both parts, or one."""
        dense = self.dense.nbytes + self.scales.nbytes
        sparse = sum(
            array.nbytes
            for array in (
                self.window_lists,
                self.list_terms,
                self.list_offsets,
                self.posting_passages,
                self.posting_impacts,
            )
        )
        return int({"dense": dense, "sparse": sparse, "hybrid": dense + sparse}[part])

    def scores(self, window: int, queries: Encoded, terms: NDArray[np.int64], weights: Floats) -> Floats:
        """Scores [B, n] of a block of queries for the passages of a window: one product, and the terms' impacts.

        Args:
            terms: [T], those that occur in the queries.
            weights: [T, B], what they weigh in each.
        """
        rows = self._widened(window * WINDOW, min(len(self), (window + 1) * WINDOW))
        scores: Floats = torch.mm(torch.from_numpy(queries.dense), rows.T).numpy()
        postings, kept = self._gather(window, terms, len(rows))
        if postings is not None:
            scores += (postings @ weights[kept]).T
        return scores

    def _widened(self, start: int, stop: int) -> torch.Tensor:
        """Dense vectors in float32, [n, d']."""
        # torch widens float16 eight times faster than numpy.
        rows = torch.from_numpy(self.dense[start:stop]).float()
        return rows * torch.from_numpy(self.scales[start:stop])[:, None] if len(self.scales) else rows

    def _lists(self, window: int, terms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The lists of those of some terms that a window has, and which these are."""
        first, last = int(self.window_lists[window]), int(self.window_lists[window + 1])
        own = self.list_terms[first:last]
        found = np.searchsorted(own, terms.astype(own.dtype))
        kept = found < len(own)
        kept[kept] = own[found[kept]] == terms[kept]
        return first + found[kept], kept

    def _gather(
        self, window: int, terms: NDArray[np.int64], rows: int
    ) -> tuple[csc_array[np.float32] | None, NDArray[np.bool_]]:
        """The postings of some terms in a window as a matrix [n, T'], and which of the terms it has."""
        lists, kept = self._lists(window, terms)
        if not len(lists):
            return None, kept
        starts, stops = self.list_offsets[lists], self.list_offsets[lists + 1]
        spans = [slice(*span) for span in zip(starts.tolist(), stops.tolist(), strict=True)]
        passages = np.concatenate([self.posting_passages[span] for span in spans], dtype=np.int32)
        impacts = torch.from_numpy(np.concatenate([self.posting_impacts[span] for span in spans])).float().numpy()
        # A damaged file must not make the compiled product write outside its result.
        if passages.max(initial=0) >= rows:
            raise DupmaeError("damaged: names a passage past the last", where="posting_passages", fix=REBUILD)
        columns = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int32)
        return csc_array((impacts, passages, columns), shape=(rows, len(lists))), kept

    def explain(self, query: Encoded, position: int) -> tuple[float, list[tuple[int, float]]]:
        """The dense share of one query's score for a passage, and its terms with what each adds, largest first."""
        dense = float(self._widened(position, position + 1)[0].double() @ torch.from_numpy(query.dense[0]).double())
        window, local = divmod(position, WINDOW)
        terms, values = query.sparse.indices.astype(np.int64), query.sparse.data
        order = np.argsort(terms)
        lists, kept = self._lists(window, terms[order])
        found = []
        for number, term, weight in zip(lists.tolist(), terms[order][kept], values[order][kept], strict=True):
            start, stop = int(self.list_offsets[number]), int(self.list_offsets[number + 1])
            posting = start + int(np.searchsorted(self.posting_passages[start:stop], local))
            if posting < stop and self.posting_passages[posting] == local:
                found.append((int(term), float(weight) * float(self.posting_impacts[posting])))
        return dense, sorted(found, key=lambda entry: (-entry[1], entry[0]))

    def vectors(self, positions: NDArray[np.int64]) -> Encoded:
        """The vectors of some passages, positions rising."""
        dense = torch.cat([self._widened(0, 0), *(self._widened(int(p), int(p) + 1) for p in positions)]).numpy()
        parts = [csr_array((0, self.vocabulary), dtype=np.float32)]
        for window in np.unique(positions // WINDOW).tolist():
            inside = positions[positions // WINDOW == window] - window * WINDOW
            parts.append(self._rows(window)[inside])
        return Encoded(dense, csr_array(vstack(parts, format="csr", dtype=np.float32)))

    def _rows(self, window: int) -> Sparse:
        """The sparse vectors of a window, [n, |V|]."""
        first, last = int(self.window_lists[window]), int(self.window_lists[window + 1])
        starts = self.list_offsets[first : last + 1]
        span = slice(int(starts[0]), int(starts[-1]))
        shape = (min(WINDOW, len(self) - window * WINDOW), last - first)
        impacts = self.posting_impacts[span].astype(np.float32)
        columns = csc_array((impacts, self.posting_passages[span].astype(np.int32), starts - starts[0]), shape=shape)
        rows = columns.tocsr()
        terms = self.list_terms[first:last].astype(np.int32)
        return csr_array((rows.data, terms[rows.indices], rows.indptr), shape=(shape[0], self.vocabulary))

    def find(self, name: str) -> list[int]:
        """Positions of the passages with an id."""
        number = np.uint64(hash_id(name))
        first, last = (int(np.searchsorted(self.id_hashes, number, side=side)) for side in ("left", "right"))
        positions = self.id_positions[first:last].tolist()
        return [position for position in positions if self.ids[position].as_py() == name]

    @cached_property
    def ids(self) -> pa.Array[Any]:
        """The ids by position."""
        ids: pa.Array[Any] = self.table["id"].chunk(0)  # type: ignore[assignment]
        return ids

    def documents(self, positions: Iterable[int]) -> list[Document]:
        """The documents at some positions, in that order."""
        return [_document(self.table, int(position)) for position in positions]

    def save(self, folder: Path) -> None:
        """Write every array and the table into a folder."""
        for name in TYPES:
            np.save(folder / f"{name}.npy", getattr(self, name))
        with (folder / TEXTS).open("wb") as handle, pa.ipc.new_file(handle, self.table.schema) as file:
            file.write_table(self.table)

    @classmethod
    def load(cls, folder: Path, passages: int, vocabulary: int) -> Segment:
        """Map a segment's files.

        Raises:
            DupmaeError: when a file is missing, damaged, or of another size than the others.
        """
        arrays = {name: _open_array(folder / f"{name}.npy", types) for name, types in TYPES.items()}
        table = _open_table(folder / TEXTS)
        segment = cls(**arrays, table=table, vocabulary=vocabulary, name=folder.name)
        lists, postings = len(segment.list_terms), len(segment.posting_passages)
        sizes = {
            "dense": (passages, segment.dense.shape[-1]),
            "scales": (passages if segment.dense.dtype == np.int8 else 0,),
            "window_lists": (-(-passages // WINDOW) + 1,),
            "list_offsets": (lists + 1,),
            "posting_impacts": (postings,),
            "id_hashes": (passages,),
            "id_positions": (passages,),
        }
        wrong = next((name for name, shape in sizes.items() if arrays[name].shape != shape), None)
        if wrong is not None:
            raise _damaged(folder / f"{wrong}.npy", f"holds {arrays[wrong].shape} instead of {sizes[wrong]}")
        if table.num_rows != passages or table.column_names[:3] != list(OWN_NAMES):
            raise _damaged(folder / TEXTS, f"holds {table.num_rows} rows of {table.column_names}")
        for name, last in (("window_lists", lists), ("list_offsets", postings)):
            offsets = arrays[name]
            if offsets[0] != 0 or offsets[-1] != last or (np.diff(offsets) < 0).any():
                raise _damaged(folder / f"{name}.npy", "offsets do not rise from 0 to the last")
        return segment


def build_segment(vectors: Encoded, documents: Sequence[Document], *, int8: bool = False) -> Segment:
    """A segment of as many documents as vectors.

    Raises:
        DupmaeError: vectors that are not finite in float16, or a field with values of several types.
        ValueError: when documents and vectors differ in number.
    """
    if len(vectors) != len(documents):
        raise ValueError(f"{len(vectors)} vectors for {len(documents)} documents")
    dense, scales = _quantised(vectors.dense) if int8 else (half(vectors.dense), np.zeros(0, np.float32))
    hashes = np.array([hash_id(document.id) for document in documents], np.uint64)
    order = np.argsort(hashes, kind="stable")
    return Segment(
        dense=dense,
        scales=scales,
        **_inverted(vectors.sparse),
        id_hashes=hashes[order],
        id_positions=order.astype(np.uint32),
        table=_table(documents),
        vocabulary=int(vectors.sparse.shape[1]),
    )


def _inverted(rows: Sparse) -> dict[str, Any]:
    """The sparse part by windows and terms; an impact that float16 rounds to zero is dropped."""
    terms, lengths, passages, impacts, lists = [], [], [], [], [0]
    for start in range(0, rows.shape[0], WINDOW):
        columns = rows[start : start + WINDOW].tocsc()
        columns.data = half(columns.data).astype(np.float32)
        columns.eliminate_zeros()
        columns.sort_indices()
        counts = np.diff(columns.indptr)
        present = np.flatnonzero(counts)
        terms.append(present)
        lengths.append(counts[present])
        passages.append(columns.indices.astype(np.uint16))
        impacts.append(columns.data.astype(np.float16))
        lists.append(lists[-1] + len(present))
    kind = np.uint16 if rows.shape[1] <= 1 << 16 else np.uint32
    nothing = np.zeros(0, np.int64)
    return {
        "window_lists": np.array(lists, np.int64),
        "list_terms": np.concatenate([nothing, *terms]).astype(kind),
        "list_offsets": np.concatenate([[0], np.cumsum(np.concatenate([nothing, *lengths]))]).astype(np.int64),
        "posting_passages": np.concatenate([nothing.astype(np.uint16), *passages]),
        "posting_impacts": np.concatenate([nothing.astype(np.float16), *impacts]),
    }


def half(values: Floats) -> NDArray[np.float16]:
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


def _quantised(dense: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Each row as 8-bit integers and the factor that gives it back."""
    half(dense)
    scales = (np.abs(dense).max(axis=1, initial=0.0) / 127).astype(np.float32)
    divisors = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(dense / divisors).astype(np.int8), scales


def hash_id(name: str) -> int:
    """64 bits of an id."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _table(documents: Sequence[Document]) -> pa.Table:
    columns: dict[str, Any] = {
        name: pa.array([getattr(document, name) for document in documents], pa.large_string()) for name in OWN_NAMES
    }
    names = sorted({name for document in documents for name in document.metadata})
    for name in names:
        values = [document.metadata.get(name) for document in documents]
        try:
            columns[FIELD + name] = pa.array(values)
        except (pa.ArrowException, OverflowError):
            fix = "give one type to each field: text, number, true or false, or a list of one of these"
            raise DupmaeError(f"values of several types, such as {values[0]!r:.60}", where=name, fix=fix) from None
    return pa.table(columns).combine_chunks()


def _document(table: pa.Table, position: int) -> Document:
    row = {name: table[name][position].as_py() for name in table.column_names}
    name, title, text = (row.pop(own) for own in OWN_NAMES)
    metadata = {key.removeprefix(FIELD): value for key, value in row.items() if value is not None}
    return Document(name, title, text, metadata)


def _open_array(file: Path, types: Sequence[str]) -> NDArray[Any]:
    """Map an array without copying, and check its type; what it claims is never unpickled."""
    try:
        # Copy-on-write, since torch warns about arrays it could not write to; the file stays as it is.
        # A plain view of the map, since slicing the memmap class costs twenty times as much.
        array: NDArray[Any] = np.asarray(np.load(file, mmap_mode="c", allow_pickle=False))
    except FileNotFoundError:
        raise DupmaeError("no such file in the index", where=file, fix=REBUILD) from None
    except (OSError, ValueError, EOFError, SyntaxError, TypeError, MemoryError) as error:
        raise _damaged(file, str(error)) from None
    if str(array.dtype) not in types or array.ndim != (2 if file.stem == "dense" else 1):
        raise _damaged(file, f"holds {array.dtype} {array.shape}")
    return array


def _open_table(file: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except FileNotFoundError:
        raise DupmaeError("no such file in the index", where=file, fix=REBUILD) from None
    except (OSError, pa.ArrowException) as error:
        raise _damaged(file, str(error)) from None


def _damaged(file: Path, what: str) -> DupmaeError:
    return DupmaeError(f"damaged: {what}", where=file, fix=REBUILD)
