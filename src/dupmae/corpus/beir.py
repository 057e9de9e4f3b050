"""Retrieval sets: passages, queries and judgements, in the BEIR layout or in MS MARCO's own.

A BEIR folder has `corpus.jsonl` ({_id, title, text}), `queries.jsonl` ({_id, text}) and `qrels/<split>.tsv` (query-id,
corpus-id, score); one of MS MARCO `collection.tsv` and `queries.<split>.tsv` (id TAB text) and `qrels.<split>.tsv`
(query-id 0 passage-id grade). Each file may be gzipped, with `.gz` at the end of its name.
`load_split`, `read_corpus`, `stream_corpus`, `read_queries`, `read_qrels`, `write_beir`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dupmae.console import logger
from dupmae.corpus.lines import Record, id_field, read_lines, text_field, title_of
from dupmae.corpus.records import kind_of, read_records
from dupmae.errors import DupmaeError
from dupmae.files import json_line, new_folder

Queries = dict[str, str]
Qrels = dict[str, dict[str, int]]
Judgement = tuple[int, str, str, int]
ID = ("_id", "id")
CORPUS, COLLECTION = "corpus.jsonl", "collection.tsv"
# Grades beyond are nonsense, and nDCG would overflow.
LARGEST_GRADE = 10**6


@dataclass(frozen=True, slots=True)
class Passage:
    """One document of a corpus."""

    id: str
    title: str
    text: str

    @property
    def content(self) -> str:
        """Title and text on one line, joined by one space."""
        return " ".join(f"{self.title} {self.text}".split())

    @property
    def blank(self) -> bool:
        """Whether neither title nor text says anything."""
        return not (self.title.strip() or self.text.strip())


def is_msmarco(folder: Path) -> bool:
    """Whether a folder holds the collection in MS MARCO's layout."""
    return _found(folder / COLLECTION) is not None


def has_corpus(folder: Path) -> bool:
    """Whether a folder is in one of both layouts."""
    return _found(folder / CORPUS) is not None or is_msmarco(folder)


def corpus_file(folder: Path) -> Path:
    """The file of the passages.

    Raises:
        DupmaeError: when the folder has none.
    """
    return find_file(folder, COLLECTION if is_msmarco(folder) else CORPUS)


def qrels_file(folder: Path, split: str) -> Path:
    """The file of a split's judgements.

    Raises:
        DupmaeError: when there is none, naming the splits that there are.
    """
    if is_msmarco(folder):
        return find_file(folder, f"qrels.{split}.tsv")
    file = _found(folder / "qrels" / f"{split}.tsv")
    if file is None:
        there = sorted({file.name.split(".tsv")[0] for file in folder.glob("qrels/*.tsv*")})
        fix = f"splits here: {', '.join(there)}" if there else "a BEIR folder has qrels/<split>.tsv"
        raise DupmaeError("no such file", where=folder / "qrels" / f"{split}.tsv", fix=fix)
    return file


def queries_file(folder: Path, split: str | None = None) -> Path:
    """The file of the queries: of a split, in MS MARCO's layout."""
    return find_file(folder, f"queries.{split}.tsv" if is_msmarco(folder) else "queries.jsonl")


def find_file(folder: Path, name: str) -> Path:
    """The file `name` or `name.gz` in `folder`.

    Raises:
        DupmaeError: when the folder is missing, empty, or has neither.
    """
    if not folder.is_dir():
        problem = "not a folder" if folder.exists() else "no such folder"
        raise DupmaeError(problem, where=folder, fix="name a folder in the BEIR layout")
    file = _found(folder / name)
    if file is None:
        problem = f"has no {name}" if any(folder.iterdir()) else "empty folder"
        there = sorted(file.name for file in folder.glob(f"{name.partition('.')[0]}.*"))
        fix = f"there is {', '.join(there)}" if there else f"a BEIR folder has {CORPUS}, queries.jsonl and qrels/"
        raise DupmaeError(problem, where=folder, fix=fix)
    return file


def _found(file: Path) -> Path | None:
    return next((path for path in (file, file.with_name(f"{file.name}.gz")) if path.is_file()), None)


def stream_corpus(path: Path) -> Iterator[tuple[int, Passage]]:
    """Give (line, passage) of a folder's corpus, of a JSON-lines file ({_id or id, text, title?}) or of `id TAB text`.

    Ids are not compared, and nothing is held.

    Raises:
        DupmaeError: missing or empty file, line not of the layout, record without id or text.
    """
    file = corpus_file(path) if path.is_dir() else path
    if kind_of(file) != ".tsv":
        for line, record in read_records(file):
            title, text = title_of(record, file, line), text_field(record, ("text",), file, line)
            yield line, Passage(id_field(record, ID, file, line), title, text)
        return
    for line, name, text in _pairs(file, "passage"):
        if "\t" in text:
            fix = "write: id TAB text, or jsonl with id, title and text"
            raise DupmaeError("has more than 2 tab-separated columns", where=file, line=line, fix=fix)
        yield line, Passage(name, "", text)


def read_corpus(path: Path) -> list[Passage]:
    """Read the passages that `stream_corpus` gives.

    Passages whose title and text are both blank are kept, since official collections have some that the
    qrels count on (two in Cranfield); a warning gives their number.

    Raises:
        DupmaeError: as `stream_corpus`, and for an id that comes twice.
    """
    file = corpus_file(path) if path.is_dir() else path
    passages: dict[str, Passage] = {}
    for line, passage in stream_corpus(file):
        if passage.id in passages:
            raise duplicate(passage.id, file, line)
        passages[passage.id] = passage
    blank = sum(passage.blank for passage in passages.values())
    if blank:
        logger.warning("%s: %d of %d passages are blank", file, blank, len(passages))
    return list(passages.values())


def read_queries(folder: Path, split: str | None = None) -> Queries:
    """Read the queries of a folder, id -> text, in the file's order.

    Raises:
        DupmaeError: missing or empty file, line not of the layout, record without id or text, duplicate id.
    """
    file = queries_file(folder, split)
    queries: Queries = {}
    for line, name, text in _queries(file):
        if not text.strip():
            raise DupmaeError(f"query {name} is blank", where=file, line=line, fix="remove it")
        if name in queries:
            raise duplicate(name, file, line)
        queries[name] = text
    return queries


def _queries(file: Path) -> Iterator[tuple[int, str, str]]:
    if kind_of(file) == ".tsv":
        yield from _pairs(file, "query")
        return
    for line, record in read_records(file):
        yield line, id_field(record, ID, file, line), text_field(record, ("text",), file, line)


def _pairs(file: Path, what: str) -> Iterator[tuple[int, str, str]]:
    """Give (line, id, text) of `id TAB text` lines."""
    for line, content in read_lines(file):
        name, mark, text = content.partition("\t")
        if not content.strip():
            continue
        if not mark or not name.strip():
            raise DupmaeError("needs 2 tab-separated columns", where=file, line=line, fix="write: id TAB text")
        if not text.strip():
            raise DupmaeError(f"{what} {name.strip()} is blank", where=file, line=line, fix="remove the line")
        yield line, name.strip(), text


def read_qrels(folder: Path, split: str) -> Qrels:
    """Read the judgements of a split: query id -> {passage id -> grade}.

    Raises:
        DupmaeError: missing or empty file, malformed line, two different grades for one pair.
    """
    file = qrels_file(folder, split)
    return _gather(_judgements(file), file)


def load_split(folder: Path, split: str) -> tuple[list[Passage], Queries, Qrels]:
    """Read the corpus, the judged queries of one split (in the file's order) and its qrels, checked.

    Raises:
        DupmaeError: as the readers, and for a qrels line that names an unknown query or passage.
    """
    file = qrels_file(folder, split)
    passages, queries = read_corpus(folder), read_queries(folder, split)
    known = {passage.id for passage in passages}
    qrels = _gather(_known(_judgements(file), file, corpus_file(folder), known, queries), file)
    return passages, {name: text for name, text in queries.items() if name in qrels}, qrels


def _judgements(file: Path) -> Iterator[Judgement]:
    """Give (line, query id, passage id, grade) of three columns with tabs, or of four with any white space.

    A first line of three columns whose last is a word is the header.
    """
    trec = file.parent.name != "qrels"
    fix = "write: query-id 0 passage-id grade" if trec else "write: query-id TAB corpus-id TAB score"
    for line, text in read_lines(file):
        if not text.strip():
            continue
        columns = text.split() if trec else [column.strip() for column in text.split("\t")]
        if trec and len(columns) != 4:
            raise DupmaeError("not a judgement", where=file, line=line, fix=fix)
        if not trec and (len(columns) != 3 or not all(columns)):
            raise DupmaeError(f"needs 3 tab-separated columns, has {len(columns)}", where=file, line=line, fix=fix)
        grade = grade_of(columns[-1])
        if grade is None:
            if line == 1 and not trec:
                continue
            problem = f"score {columns[-1][:20]!r} is not an integer"
            raise DupmaeError(problem, where=file, line=line, fix=fix)
        yield line, columns[0], columns[-2], grade


def grade_of(text: str) -> int | None:
    """A grade of relevance; None for what is no integer, or beyond reason."""
    try:
        grade = int(text)
    except ValueError:
        return None
    return grade if abs(grade) <= LARGEST_GRADE else None


def _gather(judgements: Iterable[Judgement], file: Path) -> Qrels:
    qrels: Qrels = {}
    for line, query, passage, grade in judgements:
        if qrels.setdefault(query, {}).setdefault(passage, grade) != grade:
            problem = f"a second, different score for query {query} and passage {passage}"
            raise DupmaeError(problem, where=file, line=line, fix="keep one of them")
    if not qrels:
        raise DupmaeError("holds no judgements", where=file, fix="write: query-id TAB corpus-id TAB score")
    return qrels


def _known(
    judgements: Iterable[Judgement], file: Path, corpus: Path, passages: set[str], queries: Queries
) -> Iterator[Judgement]:
    for line, query, passage, grade in judgements:
        if query not in queries:
            fix = "add it to the queries or remove the line"
            raise DupmaeError(f"unknown query {query}", where=file, line=line, fix=fix)
        if passage not in passages:
            fix = f"add it to {corpus.name} or remove the line"
            raise DupmaeError(f"unknown passage {passage}", where=file, line=line, fix=fix)
        yield line, query, passage, grade


def duplicate(name: str, file: Path, line: int) -> DupmaeError:
    """The error for an id that another record has."""
    return DupmaeError(f"duplicate id {name}", where=file, line=line, fix="give each record its own id")


def write_beir(
    folder: Path, passages: Iterable[Passage], queries: Mapping[str, str], qrels: Mapping[str, Qrels]
) -> None:
    """Write a BEIR folder whole; `qrels` maps each split's name to its judgements.

    Raises:
        DupmaeError: when the file system refuses.
    """
    with new_folder(folder, "a corpus") as out:
        corpus = ({"_id": passage.id, "title": passage.title, "text": passage.text} for passage in passages)
        _write_records(out / CORPUS, corpus)
        _write_records(out / "queries.jsonl", ({"_id": name, "text": text} for name, text in queries.items()))
        (out / "qrels").mkdir()
        for split, judgements in qrels.items():
            with (out / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as handle:
                handle.write("query-id\tcorpus-id\tscore\n")
                for query, grades in judgements.items():
                    handle.writelines(f"{query}\t{passage}\t{grade}\n" for passage, grade in grades.items())


def _write_records(file: Path, records: Iterable[Record]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as handle:
        handle.writelines(map(json_line, records))
