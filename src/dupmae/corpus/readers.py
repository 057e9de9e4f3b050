"""Raw text records from files of several kinds, streamed.

`read_texts` takes JSON lines, plain text, parquet, MS MARCO's tsv, BEIR and MS MARCO folders, folders and globs of
these, and hub data sets;
`read_documents` gives the same with titles apart, `read_passages` with ids.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from dupmae.corpus import msmarco
from dupmae.corpus.beir import ID, Passage, read_corpus
from dupmae.corpus.hub import hub_address, open_hub
from dupmae.corpus.lines import encodable, read_lines, read_records, text_field
from dupmae.errors import DupmaeError

PARQUET_ROWS = 1024
TSV = ".tsv"


def read_texts(inputs: Sequence[Path]) -> Iterator[str]:
    """Give the text of every record, streamed, in the order of the inputs.

    - `.jsonl`: the field `text` of each line; `title`, when there is one, is a paragraph in front of it.
    - `.txt`: paragraphs between blank lines; in a file without blank lines, each line.
    - `.parquet`: the columns `text` and `title`, likewise.
    - `.tsv`: MS MARCO's `id TAB text`.
    - a BEIR or MS MARCO folder: its corpus; another folder: the files of the other kinds in it, by name.
    - a glob, such as `dump/**/*.jsonl.gz`: the files it matches, by name.
    - `hub:NAME[:CONFIG[:SPLIT]]`: a data set of the Hugging Face hub, with the columns `text` and `title`.

    All but parquet may end in `.gz`. Blank records are passed over.

    Raises:
        DupmaeError: for no inputs, a missing, empty or unknown kind of file, a data set that cannot be reached, or
            a record that cannot be read; all inputs are checked before the first record is given.
    """
    return (_titled(*document) for document in read_documents(inputs))


def read_documents(inputs: Sequence[Path]) -> Iterator[Document]:
    """Give (title, text) of every record as `read_texts` reads it; the title is empty where there is none.

    Raises:
        DupmaeError: as `read_texts`.
    """
    if not inputs:
        raise DupmaeError("no input files", where="inputs", fix="name jsonl, txt, tsv or parquet files, or folders")
    sources = [source for path in inputs for source in _sources(path)]
    return (document for source, documents in sources for document in _some(source, documents()))


def read_passages(path: Path) -> list[Passage]:
    """Read a corpus as `read_corpus` or `msmarco.read_collection` does, or any other text, numbered from 1.

    Raises:
        DupmaeError: as those and `read_documents`.
    """
    if path.is_dir() and msmarco.is_folder(path):
        return msmarco.read_collection(msmarco.collection(path))
    if path.is_file() and _kind(path) == TSV:
        return msmarco.read_collection(path)
    if path.exists() and not _has_ids(path):
        return [Passage(str(number), *document) for number, document in enumerate(read_documents([path]), 1)]
    return read_corpus(path)


def _has_ids(path: Path) -> bool:
    """Whether this is a corpus whose first record names itself."""
    (file, reader), *others = _files(path)
    if others or reader is not _jsonl:
        return False
    _, first = next(read_records(file))
    return any(first.get(name) is not None for name in ID)


Document = tuple[str, str]
Reader = Callable[[Path], Iterator[Document]]
Source = tuple[Path, Callable[[], Iterator[Document]]]


def _sources(path: Path) -> list[Source]:
    address = hub_address(str(path))
    if address is not None:
        return [(path, open_hub(address))]
    return [(file, partial(reader, file)) for file, reader in _files(path)]


def _files(path: Path) -> list[tuple[Path, Reader]]:
    if not path.exists():
        if glob.has_magic(str(path)):
            return _matches(path)
        raise DupmaeError("no such file or folder", where=path, fix="check the path, or write hub:NAME for a data set")
    if not path.is_dir():
        return [(path, _reader(path))]
    for corpus in (path / "corpus.jsonl", path / "corpus.jsonl.gz"):
        if corpus.is_file():
            return [(corpus, _jsonl)]
    if msmarco.is_folder(path):
        return [(msmarco.collection(path), _tsv)]
    # Tables beside texts are queries or judgements more often than text.
    files = [file for file in sorted(path.iterdir()) if file.is_file() and _kind(file) in READERS.keys() - {TSV}]
    if not files:
        problem = "has no jsonl, txt or parquet file" if any(path.iterdir()) else "empty folder"
        raise DupmaeError(problem, where=path, fix="name the files, or a pattern such as **/*.jsonl")
    return [(file, _reader(file)) for file in files]


def _matches(pattern: Path) -> list[tuple[Path, Reader]]:
    files = [Path(name) for name in sorted(glob.glob(str(pattern), recursive=True))]
    found = [(file, _reader(file)) for file in files if file.is_file()]
    if not found:
        raise DupmaeError("matches no file", where=pattern, fix="check the pattern; ** stands for any folders")
    return found


def _kind(file: Path) -> str:
    return Path(file.name.removesuffix(".gz")).suffix


def _reader(file: Path) -> Reader:
    kind = _kind(file)
    if kind not in READERS or (kind == ".parquet" and file.suffix == ".gz"):
        fix = "give .jsonl, .txt, .tsv (they may end in .gz) or .parquet"
        raise DupmaeError(f"unknown kind of file {file.suffix!r}", where=file, fix=fix)
    return READERS[kind]


def _some(source: Path, documents: Iterator[Document]) -> Iterator[Document]:
    """The documents less the blank ones; a source must have at least one."""
    empty = True
    for title, text in documents:
        if title.strip() or text.strip():
            empty = False
            yield title, text
    if empty:
        raise DupmaeError("holds no text", where=source, fix="remove it from the inputs")


def _titled(title: str, text: str) -> str:
    """A title is no part of the first sentence."""
    return f"{title}\n\n{text}" if title else text


def _jsonl(file: Path) -> Iterator[Document]:
    for line, record in read_records(file):
        title = "" if record.get("title") is None else text_field(record, ("title",), file, line)
        yield title, text_field(record, ("text",), file, line)


def _tsv(file: Path) -> Iterator[Document]:
    return (("", passage.text) for _, passage in msmarco.stream_collection(file))


def _txt(file: Path) -> Iterator[Document]:
    separated = any(not line.strip() for line in _inner_lines(file))
    paragraph: list[str] = []
    for line in _inner_lines(file):
        blank = not line.strip()
        if paragraph and (blank or not separated):
            yield "", " ".join(paragraph)
            paragraph = []
        if not blank:
            paragraph.append(line)
    yield "", " ".join(paragraph)


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


def _parquet(file: Path) -> Iterator[Document]:
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if "text" not in names:
                problem = f"has no column `text` (has {', '.join(names) or 'none'})"
                raise DupmaeError(problem, where=file, fix="rename the column with the text")
            columns = [name for name in ("title", "text") if name in names]
            for batch in table.iter_batches(batch_size=PARQUET_ROWS, columns=columns):
                texts = _strings(file, batch, "text")
                titles = _strings(file, batch, "title") if "title" in names else [""] * len(texts)
                yield from zip(titles, texts, strict=True)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DupmaeError(f"not a readable parquet file: {reason}", where=file, fix="write it again") from None


def _strings(file: Path, batch: pa.RecordBatch, name: str) -> list[str]:
    column = cast(Any, batch.column(name))
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        problem = f"column `{name}` holds {column.type}, not text"
        raise DupmaeError(problem, where=file, fix="convert it to strings")
    return [encodable(value or "") for value in column.to_pylist()]


READERS: dict[str, Reader] = {".jsonl": _jsonl, ".txt": _txt, TSV: _tsv, ".parquet": _parquet}
