"""Raw text records from files of several kinds, streamed.

`read_texts` takes JSON lines, plain text, parquet, BEIR folders, and folders of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from dupmae.corpus.lines import encodable, read_lines, read_records, text_field
from dupmae.errors import DupmaeError

PARQUET_ROWS = 1024


def read_texts(inputs: Sequence[Path]) -> Iterator[str]:
    """Give the text of every record, on one line, in the order of the inputs.

    - `.jsonl`: the field `text` of each line, with `title` in front when there is one.
    - `.txt`: paragraphs between blank lines; in a file without blank lines, each line.
    - `.parquet`: the column `text`, with the column `title` in front when there is one.
    - a BEIR folder: its corpus; another folder: the files of these kinds in it, by name.

    The first two may end in `.gz`. Blank records are passed over.

    Raises:
        DupmaeError: for no inputs, a missing, empty or unknown kind of file, or a record that cannot be read; all
            paths are checked before the first record is given.
    """
    if not inputs:
        raise DupmaeError("no input files", where="inputs", fix="name jsonl, txt or parquet files, or BEIR folders")
    files = [file for path in inputs for file in _files(path)]
    return (text for file, reader in files for text in _some(file, reader(file)))


Reader = Callable[[Path], Iterator[str]]


def _files(path: Path) -> list[tuple[Path, Reader]]:
    if not path.exists():
        raise DupmaeError("no such file or folder", where=path, fix="check the path")
    if not path.is_dir():
        return [(path, _reader(path))]
    for corpus in (path / "corpus.jsonl", path / "corpus.jsonl.gz"):
        if corpus.is_file():
            return [(corpus, _jsonl)]
    files = [file for file in sorted(path.iterdir()) if file.is_file() and _kind(file) in READERS]
    if not files:
        problem = "has no jsonl, txt or parquet file" if any(path.iterdir()) else "empty folder"
        raise DupmaeError(problem, where=path, fix="name the files, or a folder that holds some")
    return [(file, _reader(file)) for file in files]


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _reader(file: Path) -> Reader:
    kind = _kind(file)
    if kind not in READERS or (kind == ".parquet" and file.suffix == ".gz"):
        fix = "give .jsonl, .txt (both may end in .gz) or .parquet"
        raise DupmaeError(f"unknown kind of file {file.suffix!r}", where=file, fix=fix)
    return READERS[kind]


def _some(file: Path, texts: Iterator[str]) -> Iterator[str]:
    """The texts on one line each, less the blank ones; a file must have at least one."""
    empty = True
    for text in texts:
        line = " ".join(text.split())
        if line:
            empty = False
            yield line
    if empty:
        raise DupmaeError("holds no text", where=file, fix="remove it from the inputs")


def _jsonl(file: Path) -> Iterator[str]:
    for line, record in read_records(file):
        title = "" if record.get("title") is None else text_field(record, ("title",), file, line)
        yield f"{title} {text_field(record, ('text',), file, line)}"


def _txt(file: Path) -> Iterator[str]:
    separated = any(not line.strip() for line in _inner_lines(file))
    paragraph: list[str] = []
    for line in _inner_lines(file):
        if paragraph and (not separated or not line.strip()):
            yield " ".join(paragraph)
            paragraph = []
        paragraph.append(line)
    yield " ".join(paragraph)


def _inner_lines(file: Path) -> Iterator[str]:
    """The lines of a file, less blank ones at its start and end, which separate nothing."""
    blank = 0
    started = False
    for _, line in read_lines(file):
        if not line.strip():
            blank += 1
            continue
        if started and blank:
            yield ""
        started, blank = True, 0
        yield line


def _parquet(file: Path) -> Iterator[str]:
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if "text" not in names:
                problem = f"has no column `text` (has {', '.join(names) or 'none'})"
                raise DupmaeError(problem, where=file, fix="rename the column with the text")
            columns = [name for name in ("title", "text") if name in names]
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                yield from map(" ".join, zip(*(_strings(file, batch, name) for name in columns), strict=True))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DupmaeError(f"not a readable parquet file: {reason}", where=file, fix="write it again") from None


def _strings(file: Path, batch: pa.RecordBatch, name: str) -> list[str]:
    column = cast(Any, batch.column(name))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        problem = f"column `{name}` holds {column.type}, not text"
        raise DupmaeError(problem, where=file, fix="convert it to strings")
    return [encodable(value or "") for value in column.to_pylist()]


READERS: dict[str, Reader] = {".jsonl": _jsonl, ".txt": _txt, ".parquet": _parquet}
