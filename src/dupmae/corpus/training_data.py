"""Training data of every layout as one thing: queries, the passages that answer them, and a way through all passages.

`open_training` tells by the files what it is given: a BEIR folder, a folder of MS MARCO's files, a DPR file, JSON
lines, parquet, a data set of sentence-transformers, or natural language inference. Passages are never held here:
`TrainingData.texts` gives those asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dupmae.corpus import beir, columns, dpr, msmarco, nli
from dupmae.corpus.beir import Pair, Passage, Queries
from dupmae.corpus.hub import hub_address
from dupmae.corpus.lines import read_lines, read_records
from dupmae.errors import DupmaeError

Numbered = Iterator[tuple[int, Passage]]


@dataclass(frozen=True)
class TrainingData:
    """Queries with the ids of the passages that answer them.

    Attributes:
        queries: query id -> text, of those that have a positive, in the file's order.
        positives: query id -> passage ids, at least one.
        negatives: query id -> ids of given hard negatives; queries without any are left out.
        passages: goes through all passages, each with the line it stands in.
        file: what holds the passages.
        judgements: the file that names positives by id, where there is one.
    """

    queries: Queries
    positives: dict[str, list[str]]
    negatives: dict[str, list[str]]
    passages: Callable[[], Numbered] = field(repr=False)
    file: Path
    judgements: Path | None = None

    def unknown(self, passage: str, named_in: Path | None = None) -> DupmaeError:
        """The error for a passage id that no passage has, placed where the id is named."""
        where = named_in or self.judgements or self.file
        line = line_naming(where, passage) if where.is_file() else None
        fix = f"add it to {self.file.name} or remove the line"
        return DupmaeError(f"unknown passage {passage}", where=where, line=line, fix=fix)

    def texts(self, wanted: Collection[str], named_in: Path | None = None) -> dict[str, str]:
        """The contents of some passages by id, found in one pass.

        Args:
            named_in: the file that names them, told when one is unknown.

        Raises:
            DupmaeError: when one of them is unknown or blank.
        """
        wanted = set(wanted)
        found: dict[str, str] = {}
        for line, passage in self.passages():
            if passage.id in wanted:
                if not passage.content:
                    raise blank(passage.id, self.file, line)
                found[passage.id] = passage.content
        missing = next((name for name in sorted(wanted) if name not in found), None)
        if missing is not None:
            raise self.unknown(missing, named_in)
        return found


def blank(passage: str, file: Path, line: int) -> DupmaeError:
    """The error for a passage without text that training would use."""
    return DupmaeError(f"passage {passage} is blank", where=file, line=line, fix="give it a text or remove it")


def duplicate(passage: str, file: Path, line: int) -> DupmaeError:
    """The error for a passage whose id another one has."""
    return DupmaeError(f"duplicate id {passage}", where=file, line=line, fix="give each record its own id")


def open_training(path: Path, split: str = "train") -> TrainingData:
    """Open training data of any layout.

    Args:
        path: a folder, a file, or `hub:NAME:CONFIG:SPLIT`.
        split: of a BEIR or MS MARCO folder.

    Raises:
        DupmaeError: for data that cannot be read, unknown ids, a blank text, or a query without a positive.
    """
    if hub_address(str(path)) is not None or columns.is_saved(path) or path.suffix == ".parquet":
        return from_pairs(columns.read_rows(path), path)
    if path.is_dir():
        return _from_msmarco(path, split) if msmarco.is_folder(path) else _from_beir(path, split)
    if Path(path.name.removesuffix(".gz")).suffix == ".json":
        return _from_contexts(dpr.read_dpr(path), path)
    if nli.is_triples(path):
        return from_pairs(nli.read_triples(path), path)
    _, first = next(read_records(path))
    if nli.is_judged(first):
        return from_pairs(nli.read_judged(path), path)
    if columns.is_row(first):
        return from_pairs(columns.read_rows(path), path)
    return from_pairs(enumerate(beir.read_pairs(path), 1), path)


def _from_beir(folder: Path, split: str) -> TrainingData:
    qrels, queries = beir.read_qrels(folder, split), beir.read_queries(folder)
    file = beir.qrels_file(folder, split)
    positives = {query: [name for name, grade in found.items() if grade > 0] for query, found in qrels.items()}
    return _judged(queries, positives, lambda: beir.stream_corpus(folder), beir.find_file(folder, "corpus.jsonl"), file)


def _from_msmarco(folder: Path, split: str) -> TrainingData:
    queries = msmarco.read_queries(folder, split)
    positives = msmarco.read_qrels(folder, split)
    file = msmarco.qrels_file(folder, split)
    passages = msmarco.collection(folder)
    return _judged(queries, positives, lambda: msmarco.stream_collection(passages), passages, file)


def _judged(
    queries: Queries,
    positives: dict[str, list[str]],
    passages: Callable[[], Numbered],
    file: Path,
    judgements: Path,
) -> TrainingData:
    unknown = next((name for name in positives if name not in queries), None)
    if unknown is not None:
        line = line_naming(judgements, unknown)
        fix = "add it to the queries or remove the line"
        raise DupmaeError(f"unknown query {unknown}", where=judgements, line=line, fix=fix)
    kept = {name: text for name, text in queries.items() if positives.get(name)}
    if not kept:
        raise DupmaeError("no query has a positive", where=judgements, fix="add judgements above 0")
    return TrainingData(kept, {name: positives[name] for name in kept}, {}, passages, file, judgements)


def from_pairs(pairs: Iterable[tuple[int, Pair]], path: Path) -> TrainingData:
    """Training data of texts without ids: queries and passages are numbered from 1 as they come.

    Records of one query are one query with all their positives, and equal texts are one passage.
    """
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    positives: dict[str, list[str]] = {}
    negatives: dict[str, list[str]] = {}
    for _, pair in pairs:
        query = queries.setdefault(pair.query, str(len(queries) + 1))
        for found, texts in ((positives, pair.positives), (negatives, pair.negatives)):
            found.setdefault(query, []).extend(passages.setdefault(text, str(len(passages) + 1)) for text in texts)
    held = [Passage(name, "", text) for text, name in passages.items()]
    return _held({name: text for text, name in queries.items()}, positives, negatives, held, path)


def _from_contexts(examples: Iterable[tuple[int, dpr.Example]], path: Path) -> TrainingData:
    """Training data of a DPR file: passages keep their ids, questions are numbered from 1."""
    queries: Queries = {}
    passages: dict[str, Passage] = {}
    positives: dict[str, list[str]] = {}
    negatives: dict[str, list[str]] = {}
    for line, example in examples:
        query = str(len(queries) + 1)
        queries[query] = example.query
        for found, contexts in ((positives, example.positives), (negatives, example.negatives)):
            for passage in contexts:
                if passages.setdefault(passage.id, passage).content != passage.content:
                    fix = "give each passage its own id"
                    raise DupmaeError(f"passage {passage.id} has two texts", where=path, line=line, fix=fix)
                found.setdefault(query, []).append(passage.id)
    return _held(queries, positives, negatives, list(passages.values()), path)


def _held(
    queries: Queries,
    positives: dict[str, list[str]],
    negatives: dict[str, list[str]],
    passages: Sequence[Passage],
    path: Path,
) -> TrainingData:
    distinct = {name: list(dict.fromkeys(found)) for name, found in positives.items()}
    given = {
        name: [passage for passage in dict.fromkeys(found) if passage not in distinct[name]]
        for name, found in negatives.items()
    }
    given = {name: found for name, found in given.items() if found}
    return TrainingData(queries, distinct, given, lambda: enumerate(passages, 1), path)


def line_naming(file: Path, name: str) -> int | None:
    """The first line of a file one of whose columns is `name`, or that quotes it as a JSON text."""
    quoted = f'"{name}"'
    return next((number for number, line in read_lines(file) if name in line.split() or quoted in line), None)
