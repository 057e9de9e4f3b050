"""Building an index folder from encoded passages, batch by batch, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, write_json
from dupmae.retriever.vectors import Encoded, Floats
from dupmae.search.index import DENSE, FORMAT, PASSAGES, SETTINGS, VERSION, HybridIndex
from dupmae.search.postings import PostingsWriter, half

SCHEMA = pa.schema([("id", pa.string()), ("title", pa.string()), ("text", pa.string())])


def build_index(
    out: Path,
    batches: Iterable[Encoded],
    passages: Iterable[Passage],
    *,
    dimensions: int,
    vocabulary: int,
    retriever: Mapping[str, str],
) -> HybridIndex:
    """Write an index folder and open it.

    Args:
        out: the folder to write; an older index there is replaced once the new one is whole.
        batches: vectors in the order of `passages`, each batch [n, dimensions] and [n, vocabulary].
        passages: what the vectors stand for; as many as there are rows.
        dimensions: d', width of the dense part; 0 when there is none.
        vocabulary: |V|, width of the sparse part.
        retriever: what a reader needs to encode queries the same way, such as the retriever's folder.

    Raises:
        DupmaeError: no passages, vectors that are not finite in float16, or a file system that refuses.
        ValueError: batches of another width, or rows and passages that differ in number.
    """
    remaining = iter(passages)
    with new_folder(out, "an index") as folder:
        count, longest = 0, 0.0
        with (
            PostingsWriter(folder, vocabulary) as postings,
            _DenseWriter(folder / DENSE, dimensions) as dense,
            (folder / PASSAGES).open("wb") as handle,
            pa.ipc.new_file(handle, SCHEMA) as texts,
        ):
            for batch in batches:
                if (batch.dense.shape[1], batch.sparse.shape[1]) != (dimensions, vocabulary):
                    raise ValueError(f"expected widths {dimensions} and {vocabulary}, not {batch}")
                texts.write_batch(_record_batch(islice(remaining, len(batch)), len(batch)))
                longest = max(longest, dense.add(batch.dense))
                postings.add(batch.sparse)
                count += len(batch)
            if next(remaining, None) is not None:
                raise ValueError(f"more passages than the {count} encoded rows")
            if not count:
                raise DupmaeError("no passages to index", where=out, fix="give a corpus with at least one passage")
            postings.finish()
        settings = {
            "format": FORMAT,
            "version": VERSION,
            "passages": count,
            "dimensions": dimensions,
            "vocabulary": vocabulary,
            "longest": longest,
            "retriever": dict(retriever),
        }
        write_json(folder / SETTINGS, settings)
    return HybridIndex.load(out)


def _record_batch(passages: Iterator[Passage], rows: int) -> pa.RecordBatch:
    found = list(passages)
    if len(found) != rows:
        raise ValueError(f"a batch of {rows} rows for the last {len(found)} passages")
    columns = [[getattr(passage, name) for passage in found] for name in SCHEMA.names]
    return pa.record_batch(columns, schema=SCHEMA)


class _DenseWriter:
    """A [N, d'] float16 array file that grows by batches; its header is written again once N is known."""

    def __init__(self, file: Path, dimensions: int) -> None:
        self._handle, self._dimensions, self._rows = file.open("wb"), dimensions, 0
        self._write_header()

    def __enter__(self) -> _DenseWriter:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            self._handle.seek(0)
            self._write_header()
        finally:
            self._handle.close()

    def add(self, rows: Floats) -> float:
        """Append [n, d']; returns the largest Euclidean norm among the rows."""
        halves = half(rows)
        self._handle.write(halves.tobytes())
        self._rows += len(halves)
        return float(np.linalg.norm(halves.astype(np.float64), axis=1).max(initial=0.0))

    def _write_header(self) -> None:
        # numpy pads headers so that the first axis can grow to 21 digits in place.
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._rows, self._dimensions)}
        np.lib.format.write_array_header_1_0(self._handle, header)
