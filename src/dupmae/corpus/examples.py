"""Training examples without a corpus of their own: a query with passages that answer it and passages that do not.

`read_examples` tells the layout by the first record; records of every kind of file will do (`dupmae.corpus.records`).

- `query` with `positive` (`pos`) and `negatives` (`neg`), each a text or a list.
- Tevatron's `query`, `positive_passages`, `negative_passages`, of passages with `docid`, `title` and `text`.
- DPR's `question` with `positive_ctxs`, `hard_negative_ctxs` and `negative_ctxs`.
- Columns as in sentence-transformers, by their order: (anchor, positive, negative_1, ...).
- Natural language inference: SNLI's and MultiNLI's judged pairs, or SimCSE's triples `sent0`, `sent1`, `hard_neg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.corpus.lines import Record, filled_field, id_field, text_field, texts_field, title_of
from dupmae.corpus.records import is_table, read_records
from dupmae.errors import DupmaeError

POSITIVES, NEGATIVES = ("positive", "positives", "pos"), ("negatives", "negative", "neg")
IDS = ("docid", "passage_id", "psg_id")
# Columns that sentence-transformers takes for labels: such rows say how alike two texts are, not which one answers.
LABELS = ("label", "labels", "score", "scores")
TRIPLE = ("sent0", "sent1", "hard_neg")
ENTAILMENT, CONTRADICTION = "entailment", "contradiction"
# Sentence pairs whose annotators did not agree are labelled "-".
JUDGED = (ENTAILMENT, CONTRADICTION, "neutral", "-")


@dataclass(frozen=True, slots=True)
class Example:
    """A query with its passages, whose ids are empty where the data gives none.

    Attributes:
        id: of the query; empty where the data gives none.
    """

    query: str
    positives: list[Passage]
    negatives: list[Passage] = field(default_factory=list)
    id: str = ""


Examples = Iterator[tuple[int, Example]]
Reader = Callable[[Record, Path, int], Example]


def read_examples(path: Path) -> Examples:
    """Give (line or row, example) of a file.

    Raises:
        DupmaeError: for what `read_records` refuses, and for a record without a query or a positive, or with a blank
            text.
    """
    _, first = next(read_records(path))
    if "gold_label" in first or {"sentence1", "sentence2"} <= first.keys():
        return _judged(path)
    reader = _layout(first, path)
    return ((line, _whole(reader(record, path, line), path, line)) for line, record in read_records(path))


def _layout(first: Record, path: Path) -> Reader:
    if "positive_passages" in first:
        return _tevatron
    if "positive_ctxs" in first or "question" in first:
        return _dpr
    if "query" in first and any(name in first for name in POSITIVES) and not _is_row(first):
        return _lists
    return _columns if is_table(path) or _is_row(first) else _lists


def _is_row(record: Record) -> bool:
    return "anchor" in record or any(name.startswith("negative_") for name in record) or "label" in record


def _whole(example: Example, path: Path, line: int) -> Example:
    if not example.positives:
        raise DupmaeError("record without a positive", where=path, line=line, fix="add a `positive` field")
    return example


def _lists(record: Record, path: Path, line: int) -> Example:
    positives, negatives = (texts_field(record, names, path, line) for names in (POSITIVES, NEGATIVES))
    return Example(filled_field(record, ("query",), path, line), _texts(positives), _texts(negatives))


def _tevatron(record: Record, path: Path, line: int) -> Example:
    positives, negatives = (_passages(record, f"{kind}_passages", path, line) for kind in ("positive", "negative"))
    name = id_field(record, ("query_id",), path, line) if record.get("query_id") is not None else ""
    return Example(filled_field(record, ("query",), path, line), positives, negatives, name)


def _dpr(record: Record, path: Path, line: int) -> Example:
    """The given hard negatives count, or else the other negatives."""
    query = filled_field(record, ("question",), path, line)
    positives, hard, others = (
        _passages(record, f"{kind}_ctxs", path, line) for kind in ("positive", "hard_negative", "negative")
    )
    return Example(query, positives, hard or others)


def _passages(record: Record, name: str, path: Path, line: int) -> list[Passage]:
    entries = record.get(name) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DupmaeError(f"`{name}` is no list of objects", where=path, line=line, fix="mend the record")
    return [_passage(entry, name, path, line) for entry in entries]


def _passage(entry: Record, name: str, path: Path, line: int) -> Passage:
    text = text_field(entry, ("text",), path, line)
    if not text.strip():
        raise DupmaeError(f"`{name}` has an entry without text", where=path, line=line, fix="remove it")
    known = any(entry.get(key) is not None for key in IDS)
    return Passage(id_field(entry, IDS, path, line) if known else "", title_of(entry, path, line), text)


def _columns(record: Record, path: Path, line: int) -> Example:
    label = next((name for name in record if name in LABELS), None)
    if label is not None:
        fix = "give a data set of (anchor, positive, negative ...)"
        raise DupmaeError(f"has a column {label}", where=path, line=line, fix=fix)
    if TRIPLE[0] in record:
        record = {name: record[name] for name in TRIPLE if name in record}
    columns = [_column(name, value, path, line) for name, value in record.items() if value is not None]
    if len(columns) < 2:
        raise DupmaeError("row without a positive", where=path, line=line, fix="remove the row")
    if len(columns[0]) != 1:
        raise DupmaeError("the first column is no text", where=path, line=line, fix="put the query first")
    return Example(columns[0][0], _texts(columns[1]), _texts([text for column in columns[2:] for text in column]))


def _column(name: str, value: Any, path: Path, line: int) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, str) and entry.strip() for entry in entries):
        raise DupmaeError(f"`{name}` has no text", where=path, line=line, fix="remove the row")
    return entries


def _texts(texts: list[str]) -> list[Passage]:
    return [Passage("", "", text) for text in texts]


def _judged(path: Path) -> Examples:
    """Each premise that has both an entailment and a contradiction, as SimCSE takes them (Gao et al. 2021, section 4).

    The judgements of a premise need not stand together; the line is that of its first.
    """
    lines: dict[str, int] = {}
    hypotheses: dict[str, dict[str, list[str]]] = {ENTAILMENT: {}, CONTRADICTION: {}}
    for line, record in read_records(path):
        label = text_field(record, ("gold_label",), path, line)
        if label not in JUDGED:
            fix = f"write one of {', '.join(JUDGED)}"
            raise DupmaeError(f"unknown gold_label {label!r}", where=path, line=line, fix=fix)
        premise, hypothesis = (filled_field(record, (name,), path, line) for name in ("sentence1", "sentence2"))
        if label in hypotheses:
            lines.setdefault(premise, line)
            hypotheses[label].setdefault(premise, []).append(hypothesis)
    both = [premise for premise in lines if all(premise in given for given in hypotheses.values())]
    if not both:
        problem = "no premise has both an entailment and a contradiction"
        raise DupmaeError(problem, where=path, fix="give the training file of SNLI or MultiNLI")
    if len(both) < len(lines):
        logger.info(f"{path}: {len(lines) - len(both):,} premises lack an entailment or a contradiction, left out")
    for premise in both:
        positives, negatives = (_texts(hypotheses[label][premise]) for label in (ENTAILMENT, CONTRADICTION))
        yield lines[premise], Example(premise, positives, negatives)
