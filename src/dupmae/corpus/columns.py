"""Data sets in the layout of sentence-transformers: a column each for query, positive and any number of negatives.

As in that library the order of the columns counts and not their names: (anchor, positive, negative_1, ...). They come
as JSON lines, as parquet, as a folder that `datasets` saved, or from the hub.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae.corpus.beir import Pair
from dupmae.corpus.hub import hub_address
from dupmae.corpus.lines import Record, encodable, read_records
from dupmae.errors import DupmaeError

SAVED = "dataset_info.json"
# Columns that sentence-transformers takes for labels: such rows say how alike two texts are, not which one answers.
LABELS = ("label", "labels", "score", "scores")


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return (path / SAVED).is_file()


def is_row(record: Record) -> bool:
    """Whether a JSON record is a row of columns rather than a query with lists of passages."""
    return "anchor" in record or any(name.startswith("negative_") for name in record)


def read_rows(path: Path) -> Iterator[tuple[int, Pair]]:
    """Give (row, pair) for each row of a data set.

    Raises:
        DupmaeError: for rows without two columns of text, with a label, or with a blank text.
    """
    for number, row in _rows(path):
        label = next((name for name in row if name in LABELS), None)
        if label is not None:
            fix = "give a data set of (anchor, positive, negative ...)"
            raise DupmaeError(f"has a column {label}", where=path, line=number, fix=fix)
        texts = [_texts(name, value, path, number) for name, value in row.items() if value is not None]
        if len(texts) < 2:
            raise DupmaeError("row without a positive", where=path, line=number, fix="remove the row")
        if len(texts[0]) != 1:
            raise DupmaeError("the first column is no text", where=path, line=number, fix="put the query first")
        yield number, Pair(texts[0][0], texts[1], [text for column in texts[2:] for text in column])


def _texts(name: str, value: Any, path: Path, number: int) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise DupmaeError(f"`{name}` has no text", where=path, line=number, fix="remove the row")
    return [encodable(entry) for entry in entries]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    address = hub_address(str(path))
    if address is None and not path.exists():
        raise DupmaeError("no such file or folder", where=path, fix="check the path")
    if address is None and path.is_file() and path.suffix != ".parquet":
        yield from read_records(path)
        return
    try:
        from datasets import Dataset, load_dataset  # type: ignore[import-untyped]
    except ImportError:
        raise DupmaeError("needs the package datasets", where=path, fix='pip install "dupmae[hub]"') from None
    try:
        if address is not None:
            rows = load_dataset(address.name, address.config, split=address.split, streaming=True)
        elif path.is_dir():
            rows = Dataset.load_from_disk(str(path))
        else:
            rows = load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        yield from enumerate(iter(rows), 1)
    except DupmaeError:
        raise
    except Exception as error:
        # The library raises a dozen kinds for a name, a file or a network that is not as it should be.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DupmaeError(f"cannot read the data set: {reason}", where=path, fix="check name, files, network") from None
