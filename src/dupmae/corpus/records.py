"""Records of every kind: JSON lines, a JSON array, CSV, parquet, a data set that `datasets` saved, or one of the hub.

`read_records` gives them one by one, with the line or row each stands in.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from dupmae.corpus.hub import hub_address, needs_datasets, open_hub
from dupmae.corpus.lines import Record, cleaned, not_json, opened, parse_json, read_lines
from dupmae.errors import DupmaeError

Records = Iterator[tuple[int, Record]]
SAVED = "dataset_info.json"
# Characters of a JSON array, and rows of a parquet file, that are held at once.
CHUNK, PARQUET_ROWS = 1 << 20, 1024
# The library's own limit is 128 kB a field, and what it says of longer ones does not help.
csv.field_size_limit(1 << 30)


def kind_of(file: Path) -> str:
    """The end of a file's name, less `.gz`."""
    return Path(file.name.removesuffix(".gz")).suffix


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `Dataset.save_to_disk`."""
    return (path / SAVED).is_file()


def is_table(path: Path) -> bool:
    """Whether the records are rows of columns by what they are kept in."""
    return hub_address(str(path)) is not None or is_saved(path) or kind_of(path) in (".parquet", ".csv")


def read_records(path: Path) -> Records:
    """Give (line or row, record) of a file of any kind, streamed.

    Raises:
        DupmaeError: for what cannot be read, naming the line, and for a file without any record.
    """
    empty = True
    for number, record in _records(path):
        empty = False
        yield number, record
    if empty:
        fix = "write a header and a row for each record" if is_table(path) else "put one JSON object on each line"
        raise DupmaeError("holds no records", where=path, fix=fix)


def _records(path: Path) -> Records:
    address = hub_address(str(path))
    if address is not None:
        return open_hub(address)()
    if is_saved(path):
        return _saved(path)
    readers = {".json": _array, ".csv": read_csv, ".parquet": read_parquet}
    return readers.get(kind_of(path), _lines)(path)


def _lines(path: Path) -> Records:
    for number, line in read_lines(path):
        if line and not line.isspace():
            value = parse_json(line, path, number)
            if not isinstance(value, dict):
                raise DupmaeError("not a JSON object", where=path, line=number, fix='write {"key": value, ...}')
            yield number, value


def _array(path: Path) -> Records:
    """The objects of a JSON array, each with the line it begins in; DPR's files are arrays of gigabytes."""
    with opened(path) as handle:
        yield from _decoded(handle, path)


def _decoded(handle: TextIO, path: Path) -> Records:
    fix = "a .json file is one array of objects"
    decoder, line = json.JSONDecoder(), 1
    buffer = handle.read(CHUNK)
    start = len(buffer) - len(buffer.lstrip())
    if buffer[start : start + 1] != "[":
        raise DupmaeError("not a JSON array", where=path, line=1, fix=fix)
    buffer, line = buffer[start + 1 :], line + buffer.count("\n", 0, start)
    while True:
        rest = buffer.lstrip(" \t\r\n,")
        line += buffer.count("\n", 0, len(buffer) - len(rest))
        buffer = rest
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            # An object that is cut off by the end of the buffer fails too: more of it settles which it is.
            more = handle.read(max(CHUNK, len(buffer)))
            if not more:
                raise not_json(error, path, line + error.lineno - 1) from None
            buffer += more
            continue
        except (ValueError, RecursionError) as error:
            raise not_json(error, path, line) from None
        if not isinstance(value, dict):
            raise DupmaeError("not a JSON object", where=path, line=line, fix=fix)
        yield line, cleaned(value)
        line += buffer.count("\n", 0, end)
        buffer = buffer[end:]


def read_csv(path: Path) -> Records:
    """Rows of a CSV file under a header, each with the line it ends in.

    Raises:
        DupmaeError: for a row with more or fewer entries than the header, a column that comes twice, odd quotes.
    """
    # Line ends are put back for quoted texts of several lines.
    rows = csv.reader((f"{text}\n" for _, text in read_lines(path)), strict=True)
    header: list[str] = []
    try:
        for row in rows:
            if not any(entry.strip() for entry in row):
                continue
            if not header:
                header = [name.strip() for name in row]
                _refuse_twice(header, path)
                continue
            if len(row) != len(header):
                problem = f"{len(row)} entries in a row, {len(header)} in the header"
                raise DupmaeError(problem, where=path, line=rows.line_num, fix="put texts with commas in double quotes")
            yield rows.line_num, dict(zip(header, (entry.strip() for entry in row), strict=True))
    except csv.Error as error:
        raise DupmaeError(f"not CSV: {error}", where=path, line=rows.line_num, fix="mend the quotes") from None


def columns_of(path: Path) -> list[str]:
    """The names of a parquet file's columns.

    Raises:
        DupmaeError: when it is no parquet file, or a name comes twice.
    """
    try:
        with pq.ParquetFile(path) as table:
            names = list(table.schema_arrow.names)
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(error, path) from None
    _refuse_twice(names, path)
    return names


def read_parquet(path: Path, columns: list[str] | None = None) -> Records:
    """Rows of a parquet file, counted from 1, of all its columns or of some. Errors as `columns_of`."""
    columns = columns_of(path) if columns is None else columns
    first = 1
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:
                    line = first + _undecodable(batch)
                    raise DupmaeError("not UTF-8", where=path, line=line, fix="write it again as UTF-8") from None
                yield from enumerate(rows, first)
                first += len(rows)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(error, path) from None


def _undecodable(batch: pa.RecordBatch) -> int:
    """The first row that is not UTF-8."""
    for row in range(batch.num_rows):
        try:
            batch.slice(row, 1).to_pylist()
        except UnicodeDecodeError:
            return row
    raise AssertionError("every row can be decoded")


def _not_parquet(error: Exception, path: Path) -> DupmaeError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DupmaeError(f"not a readable parquet file: {reason}", where=path, fix="write it again")


def _refuse_twice(names: list[str], path: Path) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DupmaeError(f"has the column {twice} twice", where=path, fix="rename one of them")


def _saved(path: Path) -> Records:
    datasets: Any = needs_datasets(path)
    try:
        yield from enumerate(datasets.Dataset.load_from_disk(str(path)), 1)
    except DupmaeError:
        raise
    except Exception as error:
        # The library raises a dozen kinds for files that are not as they should be.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DupmaeError(f"cannot read the data set: {reason}", where=path, fix="save it again") from None
