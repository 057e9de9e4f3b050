"""Training data of every layout as one thing: queries, the passages that answer them, and a way through all passages.

`open_training` tells by the files what it is given: a retrieval set in a folder (`dupmae.corpus.beir`), or examples
(`dupmae.corpus.examples`). Passages of a folder are never held here: `TrainingData.texts` gives those asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from dupmae.corpus import beir
from dupmae.corpus.beir import Passage, Queries
from dupmae.corpus.examples import Examples, read_examples
from dupmae.corpus.lines import read_lines
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.corpus.records import is_saved
from dupmae.errors import DupmaeError


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
    passages: Callable[[], Iterator[tuple[int, Passage]]] = field(repr=False)
    file: Path
    judgements: Path | None = None

    @property
    def own_documents(self) -> OwnDocuments:
        """Tells passages that are a query's own; ids say so where queries and passages have theirs from one set."""
        return OwnDocuments(self.queries, by_id=self.judgements is not None)

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
        contents: dict[str, str] = {}
        for line, passage in self.passages():
            if passage.id in wanted:
                if passage.blank:
                    raise blank(passage.id, self.file, line)
                contents[passage.id] = passage.content
        missing = next((name for name in sorted(wanted) if name not in contents), None)
        if missing is not None:
            raise self.unknown(missing, named_in)
        return contents


def blank(passage: str, file: Path, line: int) -> DupmaeError:
    """The error for a passage without text that training would use."""
    return DupmaeError(f"passage {passage} is blank", where=file, line=line, fix="give it a text or remove it")


def open_training(path: Path, split: str = "train") -> TrainingData:
    """Open training data of any layout.

    Args:
        path: a folder, a file, or `hub:NAME:CONFIG:SPLIT`.
        split: of a BEIR or MS MARCO folder.

    Raises:
        DupmaeError: for data that cannot be read, unknown ids, a blank text, or a query without a positive.
    """
    if path.is_dir() and not is_saved(path):
        return _from_folder(path, split)
    return from_examples(read_examples(path), path)


def _from_folder(folder: Path, split: str) -> TrainingData:
    queries, qrels = beir.read_queries(folder, split), beir.read_qrels(folder, split)
    file, corpus = beir.qrels_file(folder, split), beir.corpus_file(folder)
    unknown = next((name for name in qrels if name not in queries), None)
    if unknown is not None:
        line, fix = line_naming(file, unknown), "add it to the queries or remove the line"
        raise DupmaeError(f"unknown query {unknown}", where=file, line=line, fix=fix)
    positives = {query: [name for name, grade in grades.items() if grade > 0] for query, grades in qrels.items()}
    kept = {name: text for name, text in queries.items() if positives.get(name)}
    if not kept:
        raise DupmaeError("no query has a positive", where=file, fix="add judgements above 0")
    named = {name: positives[name] for name in kept}
    return TrainingData(kept, named, {}, lambda: beir.stream_corpus(corpus), corpus, file)


def from_examples(examples: Examples, path: Path) -> TrainingData:
    """Training data of examples, which keep their ids; those without are numbered from 1 as they come.

    Examples of one query are one query with all their positives, and equal texts are one passage. A second text under
    an id that is taken gets the id with a number behind it.
    """
    queries: Queries = {}
    names: dict[tuple[str, str], str] = {}
    passages: dict[tuple[str, str], Passage] = {}
    taken: set[str] = set()
    positives: dict[str, list[str]] = {}
    negatives: dict[str, list[str]] = {}
    for _, example in examples:
        key = (example.id, example.query)
        if key not in names:
            names[key] = _free(example.id or str(len(names) + 1), queries.keys())
            queries[names[key]] = example.query
        for by_query, given in ((positives, example.positives), (negatives, example.negatives)):
            named = by_query.setdefault(names[key], [])
            for passage in given:
                same = (passage.id, passage.content)
                if same not in passages:
                    name = _free(passage.id or str(len(passages) + 1), taken)
                    taken.add(name)
                    passages[same] = Passage(name, passage.title, passage.text)
                named.append(passages[same].id)
    distinct = {query: list(dict.fromkeys(ids)) for query, ids in positives.items()}
    hard: dict[str, list[str]] = {}
    for query, ids in negatives.items():
        wrong = [name for name in dict.fromkeys(ids) if name not in distinct[query]]
        if wrong:
            hard[query] = wrong
    held = list(passages.values())
    return TrainingData(queries, distinct, hard, lambda: enumerate(held, 1), path)


def _free(name: str, taken: Collection[str]) -> str:
    """The name, or with the first number behind it that makes it one not taken."""
    return name if name not in taken else next(other for n in count(2) if (other := f"{name}-{n}") not in taken)


def line_naming(file: Path, name: str) -> int | None:
    """The first line of a file one of whose columns is `name`, or that quotes it as a JSON text."""
    quoted = f'"{name}"'
    return next((number for number, line in read_lines(file) if name in line.split() or quoted in line), None)
