"""Records in the order of their lengths, kept on disk: what batches without padding are drawn from.

`LengthIndex`, `write_index`, `open_index`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupmae.errors import DupmaeError


@dataclass(frozen=True, slots=True)
class LengthIndex:
    """All records of a corpus, sorted by length.

    Attributes:
        records: numbers of the records, shortest first, uint32 or uint64 [N]; memory-mapped when it is a file's.
        lengths: the different lengths, rising, int64 [K].
        counts: records of each length, int64 [K].
    """

    records: NDArray[np.unsignedinteger]
    lengths: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, lengths: NDArray[np.integer]) -> LengthIndex:
        """The index of records of these lengths [N], in memory."""
        different, counts = np.unique(lengths, return_counts=True)
        order = np.argsort(lengths, kind="stable").astype(_number_type(len(lengths)))
        return cls(order, different.astype(np.int64), counts.astype(np.int64))

    def __len__(self) -> int:
        return len(self.records)


def _number_type(records: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint32 if records <= 1 << 32 else np.uint64)


def write_index(path: Path, counts: NDArray[np.int64], blocks: Iterable[NDArray[np.integer]]) -> None:
    """Write the record numbers by length as an `.npy` file, in one pass and without holding them.

    Args:
        counts: records of length 0, 1, ...
        blocks: the lengths of the records, in order, some at a time.
    """
    total = int(counts.sum())
    kind = _number_type(total)
    following = counts.cumsum() - counts
    first = 0
    with path.open("wb") as handle:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (total,)}
        np.lib.format.write_array_header_1_0(handle, header)
        start = handle.tell()
        for lengths in blocks:
            order = np.argsort(lengths, kind="stable")
            different, begins = np.unique(lengths[order], return_index=True)
            for length, run in zip(different, np.split(order, begins[1:]), strict=True):
                # Through write(), not a mapping: a full disk is then an error and not a signal.
                handle.seek(start + int(following[length]) * kind.itemsize)
                handle.write((run + first).astype(kind).tobytes())
                following[length] += len(run)
            first += len(lengths)


def open_index(path: Path, lengths: list[tuple[int, int]]) -> LengthIndex:
    """Map an index file; `lengths` has (length, records of that length), rising.

    Raises:
        DupmaeError: when it is not an index of as many records.
    """
    different, counts = np.array(lengths, dtype=np.int64).reshape(-1, 2).T
    try:
        records = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DupmaeError(f"not an .npy file: {error}", where=path, fix="run dupmae prepare again") from None
    if records.shape != (counts.sum(),) or records.dtype != _number_type(len(records)):
        problem = f"holds {records.dtype} {list(records.shape)}, not {counts.sum():,} record numbers"
        raise DupmaeError(problem, where=path, fix="run dupmae prepare again")
    return LengthIndex(records, different, counts)
