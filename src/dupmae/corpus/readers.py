"""Text of every kind of source, streamed: `read_texts`, `read_documents` with titles apart, `read_passages` with ids.

Sources are JSON lines, plain text, parquet, CSV, MS MARCO's tsv, BEIR and MS MARCO folders, folders and globs of these,
and hub data sets.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from dupmae.console import logger
from dupmae.corpus import beir
from dupmae.corpus.beir import ID, Passage, duplicate
from dupmae.corpus.hub import hub_address, open_hub
from dupmae.corpus.lines import Record, id_field, read_lines, text_field, title_of
from dupmae.corpus.records import Records, columns_of, is_table, kind_of, read_parquet, read_records
from dupmae.errors import DupmaeError

TSV = ".tsv"
# Tables beside texts are queries or judgements more often than text: a folder's are not read.
BY_NAME_ALONE = (TSV, ".csv")

Documents = Iterator[tuple[int, Passage]]
"""(Line or row, text), the id empty where there is none."""
Source = tuple[Path, Callable[[], Documents]]


def read_texts(inputs: Sequence[Path]) -> Iterator[str]:
    """Give the text of every record, streamed, in the order of the inputs.

    - `.jsonl`: the field `text` of each line; `title`, when there is one, is a paragraph in front of it.
    - `.txt`: paragraphs between blank lines; in a file without blank lines, each line.
    - `.parquet`, `.csv` with a header: the columns `text` and `title`, likewise.
    - `.tsv`: MS MARCO's `id TAB text`.
    - a BEIR or MS MARCO folder: its corpus; another folder: the files of the other kinds in it, by name.
    - a glob, such as `dump/**/*.jsonl.gz`: the files it matches, by name.
    - `hub:NAME[:CONFIG[:SPLIT]]`: a data set of the Hugging Face hub, with the columns `text` and `title`.

    All but parquet may end in `.gz`. Blank records are passed over.

    Raises:
        DupmaeError: for no inputs, a missing, empty or unknown kind of file, a data set that cannot be reached, or
            a record that cannot be read; all inputs are checked before the first record is given.
    """
    # A title is no part of the first sentence.
    return (f"{title}\n\n{text}" if title else text for title, text in read_documents(inputs))


def read_documents(inputs: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Give (title, text) of every record as `read_texts` reads it; the title is empty where there is none.

    Raises:
        DupmaeError: as `read_texts`.
    """
    if not inputs:
        raise DupmaeError("no input files", where="inputs", fix="name jsonl, txt, tsv or parquet files, or folders")
    sources = [source for path in inputs for source in _sources(path)]
    return ((document.title, document.text) for source in sources for document in _filled(*source))


def read_passages(path: Path) -> list[Passage]:
    """Read whatever `read_texts` reads with its ids (`_id` or `id`), or numbered from 1 where no record has one.

    Blank passages are kept where they have ids, since judgements may count on them.

    Raises:
        DupmaeError: as `read_texts`, for an id that comes twice, and for records with and without an id.
    """
    sources = _sources(path)
    passages: dict[str, Passage] = {}
    named: bool | None = None
    for file, documents in sources:
        for line, passage in documents():
            named = bool(passage.id) if named is None else named
            if bool(passage.id) != named:
                problem = "record without an id among others that have one" if named else "only some records have an id"
                raise DupmaeError(problem, where=file, line=line, fix="give every record an `_id`, or none")
            if not named:
                if passage.blank:
                    continue
                passage = Passage(str(len(passages) + 1), passage.title, passage.text)
            if passage.id in passages:
                raise duplicate(passage.id, file, line)
            passages[passage.id] = passage
    blank = sum(passage.blank for passage in passages.values())
    if blank == len(passages):
        raise DupmaeError("holds no text", where=path, fix="give files with text")
    if blank:
        logger.warning("%s: %d of %d passages are blank", path, blank, len(passages))
    return list(passages.values())


def _sources(path: Path) -> list[Source]:
    address = hub_address(str(path))
    if address is not None:
        reach = open_hub(address)
        return [(path, lambda: _documents(reach(), path))]
    return [(file, partial(READERS[kind_of(file)], file)) for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if not path.exists():
        if glob.has_magic(str(path)):
            return _matches(path)
        raise DupmaeError("no such file or folder", where=path, fix="check the path, or write hub:NAME for a data set")
    if not path.is_dir():
        return [_readable(path)]
    if beir.has_corpus(path):
        return [beir.corpus_file(path)]
    files = [file for file in sorted(path.iterdir()) if file.is_file() and kind_of(file) in READERS]
    files = [file for file in files if kind_of(file) not in BY_NAME_ALONE]
    if not files:
        problem = "has no jsonl, txt or parquet file" if any(path.iterdir()) else "empty folder"
        raise DupmaeError(problem, where=path, fix="name the files, or a pattern such as **/*.jsonl")
    return [_readable(file) for file in files]


def _matches(pattern: Path) -> list[Path]:
    names = sorted(glob.glob(str(pattern), recursive=True))
    files = [_readable(Path(name)) for name in names if Path(name).is_file()]
    if not files:
        raise DupmaeError("matches no file", where=pattern, fix="check the pattern; ** stands for any folders")
    return files


def _readable(file: Path) -> Path:
    kind = kind_of(file)
    if kind not in READERS or (kind == ".parquet" and file.suffix == ".gz"):
        fix = "give .jsonl, .txt, .tsv, .csv (they may end in .gz) or .parquet"
        raise DupmaeError(f"unknown kind of file {file.suffix!r}", where=file, fix=fix)
    return file


def _filled(source: Path, documents: Callable[[], Documents]) -> Iterator[Passage]:
    """The documents less the blank ones; a source must have at least one."""
    empty = True
    for _, document in documents():
        if not document.blank:
            empty = False
            yield document
    if empty:
        raise DupmaeError("holds no text", where=source, fix="remove it from the inputs")


def _documents(records: Records, file: Path) -> Documents:
    table = is_table(file)
    for line, record in records:
        if table and "text" in record and record["text"] is None:
            record = {**record, "text": ""}
        yield line, _document(record, file, line)


def _document(record: Record, file: Path, line: int) -> Passage:
    name = id_field(record, ID, file, line) if any(record.get(key) is not None for key in ID) else ""
    return Passage(name, title_of(record, file, line), text_field(record, ("text",), file, line))


def _records(file: Path) -> Documents:
    return _documents(read_records(file), file)


def _parquet(file: Path) -> Documents:
    names = columns_of(file)
    if "text" not in names:
        problem = f"has no column `text` (has {', '.join(names) or 'none'})"
        raise DupmaeError(problem, where=file, fix="rename the column with the text")
    wanted = [name for name in (*ID, "title", "text") if name in names]
    return _documents(read_parquet(file, wanted), file)


def _txt(file: Path) -> Documents:
    separated = any(not line.strip() for _, line in _inner_lines(file))
    paragraph: list[str] = []
    number = 0
    for number, line in _inner_lines(file):
        blank = not line.strip()
        if paragraph and (blank or not separated):
            yield number, Passage("", "", " ".join(paragraph))
            paragraph = []
        if not blank:
            paragraph.append(line)
    yield number, Passage("", "", " ".join(paragraph))


def _inner_lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file, less blank ones at its start and end, which separate nothing."""
    blank = 0
    started = False
    for number, line in read_lines(file):
        if not line.strip():
            blank += 1
            continue
        if started and blank:
            yield number - 1, ""
        started, blank = True, 0
        yield number, line


READERS: dict[str, Callable[[Path], Documents]] = {
    ".jsonl": _records,
    ".csv": _records,
    ".txt": _txt,
    TSV: beir.stream_corpus,
    ".parquet": _parquet,
}
