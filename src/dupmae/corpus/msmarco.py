"""MS MARCO's own files: `collection.tsv`, `queries.<split>.tsv` and `qrels.<split>.tsv` in one folder.

The files may be gzipped, with `.gz` at the end of their names. Queries that nobody judged are common in them.
`is_folder`, `stream_collection`, `read_collection`, `read_queries`, `read_qrels`, `load_split`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dupmae.corpus.beir import Passage, Qrels, Queries
from dupmae.corpus.lines import read_lines
from dupmae.errors import DupmaeError

COLLECTION = "collection.tsv"


def is_folder(folder: Path) -> bool:
    """Whether a folder holds the collection in MS MARCO's layout."""
    return any((folder / name).is_file() for name in (COLLECTION, f"{COLLECTION}.gz"))


def collection(folder: Path) -> Path:
    """The file of the passages."""
    return _file(folder, COLLECTION)


def qrels_file(folder: Path, split: str) -> Path:
    """The file of a split's judgements."""
    return _file(folder, f"qrels.{split}.tsv")


def stream_collection(file: Path) -> Iterator[tuple[int, Passage]]:
    """Give (line, passage) for every line `pid TAB text`, without holding them: ids are not compared.

    Raises:
        DupmaeError: for a line without two columns, or with a blank text.
    """
    for line, (name, text) in _pairs(file):
        if not text.strip():
            raise DupmaeError(f"passage {name} is blank", where=file, line=line, fix="remove the line")
        if "\t" in text:
            fix = "write: id TAB text, or jsonl with id, title and text"
            raise DupmaeError("has more than 2 tab-separated columns", where=file, line=line, fix=fix)
        yield line, Passage(name, "", text)


def read_collection(file: Path) -> list[Passage]:
    """Read the passages of a collection.

    Raises:
        DupmaeError: as `stream_collection`, and for an id that comes twice.
    """
    passages: dict[str, Passage] = {}
    for line, passage in stream_collection(file):
        if passage.id in passages:
            raise _duplicate(passage.id, file, line)
        passages[passage.id] = passage
    return list(passages.values())


def load_split(folder: Path, split: str) -> tuple[list[Passage], Queries, Qrels]:
    """Read the passages, the judged queries of one split (in the file's order) and their relevant passages, checked.

    Raises:
        DupmaeError: as the readers, and for a judgement of an unknown query or passage.
    """
    file = qrels_file(folder, split)
    passages, queries = read_collection(collection(folder)), read_queries(folder, split)
    known = {passage.id for passage in passages}
    qrels: Qrels = {}
    for query, positives in read_qrels(folder, split).items():
        lost = next((name for name in positives if name not in known), None)
        if query not in queries or lost is not None:
            unknown = f"passage {lost}" if query in queries else f"query {query}"
            raise DupmaeError(f"unknown {unknown}", where=file, fix="add it to its file or remove the judgement")
        qrels[query] = dict.fromkeys(positives, 1)
    if not qrels:
        raise DupmaeError("holds no judgements", where=file, fix="write: query-id 0 passage-id grade")
    return passages, {name: text for name, text in queries.items() if name in qrels}, qrels


def read_queries(folder: Path, split: str) -> Queries:
    """Read `qid TAB text` lines: query id -> text.

    Raises:
        DupmaeError: for a line without two columns, a blank text, or an id that comes twice.
    """
    file = _file(folder, f"queries.{split}.tsv")
    queries: Queries = {}
    for line, (name, text) in _pairs(file):
        if not text.strip():
            raise DupmaeError(f"query {name} is blank", where=file, line=line, fix="remove the line")
        if name in queries:
            raise _duplicate(name, file, line)
        queries[name] = text
    return queries


def read_qrels(folder: Path, split: str) -> dict[str, list[str]]:
    """Read `qid 0 pid grade` lines, tabs or spaces between: query id -> passages with a grade above 0.

    Raises:
        DupmaeError: for a line without four columns or with a grade that is no integer.
    """
    file = qrels_file(folder, split)
    positives: dict[str, list[str]] = {}
    for line, text in read_lines(file):
        if not text.strip():
            continue
        columns = text.split()
        if len(columns) != 4 or not columns[3].lstrip("-").isdecimal():
            fix = "write: query-id 0 passage-id grade"
            raise DupmaeError("not a judgement", where=file, line=line, fix=fix)
        if int(columns[3]) > 0:
            positives.setdefault(columns[0], []).append(columns[2])
    return {name: list(dict.fromkeys(found)) for name, found in positives.items()}


def _duplicate(name: str, file: Path, line: int) -> DupmaeError:
    return DupmaeError(f"duplicate id {name}", where=file, line=line, fix="give each record its own id")


def _pairs(file: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    for line, text in read_lines(file):
        name, mark, rest = text.partition("\t")
        if not text.strip():
            continue
        if not mark or not name.strip():
            raise DupmaeError("needs 2 tab-separated columns", where=file, line=line, fix="write: id TAB text")
        yield line, (name.strip(), rest)


def _file(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    stem = name.partition(".")[0]
    there = sorted(file.name for file in folder.glob(f"{stem}*"))
    fix = f"there is {', '.join(there)}" if there else "MS MARCO has collection, queries and qrels"
    raise DupmaeError(f"has no {name}", where=folder, fix=fix)
