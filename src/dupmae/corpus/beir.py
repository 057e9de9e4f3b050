"""Retrieval sets in the BEIR layout, and training pairs.

A BEIR folder has `corpus.jsonl` ({_id, title, text}), `queries.jsonl` ({_id, text}) and
`qrels/<split>.tsv` (query-id, corpus-id, score). Each file may be gzipped, with `.gz` at the end of its name.
`read_corpus`, `stream_corpus`, `read_queries`, `read_qrels`, `load_split`, `write_beir`, `read_pairs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dupmae.console import logger
from dupmae.corpus.lines import Record, read_lines, read_records, text_field, texts_field
from dupmae.errors import DupmaeError
from dupmae.files import json_line, new_folder

Queries = dict[str, str]
Qrels = dict[str, dict[str, int]]
ID = ("_id", "id")


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


@dataclass(frozen=True, slots=True)
class Pair:
    """One training example: a query, passages that answer it, and passages that do not."""

    query: str
    positives: list[str]
    negatives: list[str]


def read_corpus(path: Path) -> list[Passage]:
    """Read the passages of a BEIR folder or of a JSON-lines file ({_id or id, text, title?}).

    Passages whose title and text are both blank are kept, since official collections have some that the
    qrels count on (two in Cranfield); a warning gives their number.

    Raises:
        DupmaeError: missing or empty file, line not JSON, record without id or text, duplicate id.
    """
    file = _corpus_file(path)
    passages: dict[str, Passage] = {}
    for line, passage in stream_corpus(path):
        if passage.id in passages:
            raise _duplicate(passage.id, file, line)
        passages[passage.id] = passage
    blank = sum(not (passage.title.strip() or passage.text.strip()) for passage in passages.values())
    if blank:
        logger.warning("%s: %d of %d passages are blank", file, blank, len(passages))
    return list(passages.values())


def stream_corpus(path: Path) -> Iterator[tuple[int, Passage]]:
    """Give (line, passage) as `read_corpus` reads them, without holding them: ids are not compared.

    Raises:
        DupmaeError: missing or empty file, line not JSON, record without id or text.
    """
    file = _corpus_file(path)
    for line, record in read_records(file):
        yield line, _passage(record, file, line)


def _corpus_file(path: Path) -> Path:
    return find_file(path, "corpus.jsonl") if path.is_dir() else path


def _passage(record: Record, file: Path, line: int) -> Passage:
    title = "" if record.get("title") is None else text_field(record, ("title",), file, line)
    return Passage(text_field(record, ID, file, line), title, text_field(record, ("text",), file, line))


def read_queries(folder: Path) -> Queries:
    """Read `queries.jsonl` of a BEIR folder: query id -> text, in the file's order.

    Raises:
        DupmaeError: missing or empty file, line not JSON, record without id or text, duplicate id.
    """
    file = find_file(folder, "queries.jsonl")
    queries: Queries = {}
    for line, record in read_records(file):
        name, text = text_field(record, ID, file, line), text_field(record, ("text",), file, line)
        if not text.strip():
            raise DupmaeError(f"query {name} is blank", where=file, line=line, fix="remove it")
        if name in queries:
            raise _duplicate(name, file, line)
        queries[name] = text
    return queries


def read_qrels(folder: Path, split: str) -> Qrels:
    """Read `qrels/<split>.tsv` of a BEIR folder: query id -> {passage id -> grade}.

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
    passages, queries = read_corpus(folder), read_queries(folder)
    qrels = _gather(_known(_judgements(file), file, {passage.id for passage in passages}, queries), file)
    return passages, {name: text for name, text in queries.items() if name in qrels}, qrels


def find_file(folder: Path, name: str) -> Path:
    """The file `name` or `name.gz` in `folder`.

    Raises:
        DupmaeError: when the folder is missing, empty, or has neither.
    """
    if not folder.is_dir():
        problem = "not a folder" if folder.exists() else "no such folder"
        raise DupmaeError(problem, where=folder, fix="name a folder in the BEIR layout")
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    problem = f"has no {name}" if any(folder.iterdir()) else "empty folder"
    raise DupmaeError(problem, where=folder, fix="a BEIR folder has corpus.jsonl, queries.jsonl and qrels/")


def qrels_file(folder: Path, split: str) -> Path:
    """The file of a split's judgements.

    Raises:
        DupmaeError: when there is none, naming the splits that there are.
    """
    for file in (folder / "qrels" / f"{split}.tsv", folder / "qrels" / f"{split}.tsv.gz"):
        if file.is_file():
            return file
    there = sorted({file.name.split(".tsv")[0] for file in folder.glob("qrels/*.tsv*")})
    fix = f"splits here: {', '.join(there)}" if there else "a BEIR folder has qrels/<split>.tsv"
    raise DupmaeError("no such file", where=folder / "qrels" / f"{split}.tsv", fix=fix)


Judgement = tuple[int, str, str, int]


def _judgements(file: Path) -> Iterator[Judgement]:
    """Give (line, query id, passage id, grade); a first line whose last column is a word is the header."""
    fix = "write: query-id TAB corpus-id TAB score"
    for number, line in read_lines(file):
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) != 3 or not all(columns):
            problem = f"needs 3 tab-separated columns, has {len(columns)}"
            raise DupmaeError(problem, where=file, line=number, fix=fix)
        try:
            grade = int(columns[2])
        except ValueError:
            if number == 1:
                continue
            problem = f"score {columns[2]!r} is not an integer"
            raise DupmaeError(problem, where=file, line=number, fix=fix) from None
        yield number, columns[0], columns[1], grade


def _gather(judgements: Iterable[Judgement], file: Path) -> Qrels:
    qrels: Qrels = {}
    for line, query, passage, grade in judgements:
        if qrels.setdefault(query, {}).setdefault(passage, grade) != grade:
            problem = f"a second, different score for query {query} and passage {passage}"
            raise DupmaeError(problem, where=file, line=line, fix="keep one of them")
    if not qrels:
        raise DupmaeError("holds no judgements", where=file, fix="write: query-id TAB corpus-id TAB score")
    return qrels


def _known(judgements: Iterable[Judgement], file: Path, passages: set[str], queries: Queries) -> Iterator[Judgement]:
    for line, query, passage, grade in judgements:
        if query not in queries:
            problem, fix = f"unknown query {query}", "add it to queries.jsonl or remove the line"
            raise DupmaeError(problem, where=file, line=line, fix=fix)
        if passage not in passages:
            problem, fix = f"unknown passage {passage}", "add it to corpus.jsonl or remove the line"
            raise DupmaeError(problem, where=file, line=line, fix=fix)
        yield line, query, passage, grade


def _duplicate(name: str, file: Path, line: int) -> DupmaeError:
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
        _write_records(out / "corpus.jsonl", corpus)
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


def read_pairs(path: Path) -> list[Pair]:
    """Read training examples from JSON lines: `query`, `positive` (or `pos`), `negatives` (or `neg`).

    `positive` and `negatives` may be one text or a list; the negatives may be left out.

    Raises:
        DupmaeError: missing or empty file, line not JSON, record without a query or a positive, blank text.
    """
    pairs = []
    for line, record in read_records(path):
        query = text_field(record, ("query",), path, line)
        if not query.strip():
            raise DupmaeError("`query` is blank", where=path, line=line, fix="remove the record")
        positives = texts_field(record, ("positive", "positives", "pos"), path, line)
        if not positives:
            problem, fix = "record without a positive", "add a `positive` field"
            raise DupmaeError(problem, where=path, line=line, fix=fix)
        negatives = texts_field(record, ("negatives", "negative", "neg"), path, line)
        pairs.append(Pair(query, positives, negatives))
    return pairs
