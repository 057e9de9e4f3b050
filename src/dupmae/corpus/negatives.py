"""Hard negatives by id, one file for all queries, and a teacher's scores.

`write_mined` and `read_mined` are the files of `dupmae mine`; `read_negatives` reads those, MS MARCO's
`qidpidtriples` and the hard-negative JSON lines of sentence-transformers. `write_scores`, `read_scores`.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from dupmae.corpus.lines import Record, id_field, read_lines
from dupmae.corpus.records import read_records
from dupmae.errors import DupmaeError
from dupmae.files import json_line, new_file

# Integers beyond have no float.
LARGEST = 1 << 1023
Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class MinedQuery:
    """A query with its positives and hard negatives by id, best first, and what the negatives scored."""

    query: str
    positives: list[str]
    negatives: list[str]
    scores: list[float]


def write_mined(path: Path, mined: Iterable[MinedQuery]) -> None:
    """Write one JSON line a query, whole or not at all."""
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for item in mined:
            record = {
                "query_id": item.query,
                "positive_ids": item.positives,
                "negative_ids": item.negatives,
                "scores": item.scores,
            }
            file.write(json_line(record))


def read_mined(path: Path, known: Container[str] | None = None) -> Iterator[MinedQuery]:
    """Give the queries with their negatives of a file written by `write_mined`.

    Args:
        known: the ids of the queries that there are.

    Raises:
        DupmaeError: for a record without its fields, an unknown query, and a query without a positive.
    """
    for line, record in read_records(path):
        query = id_field(record, ("query_id",), path, line)
        if known is not None and query not in known:
            raise DupmaeError(f"unknown query {query}", where=path, line=line, fix="mine from this data set")
        positives = _ids(record, "positive_ids", path, line)
        if not positives:
            raise DupmaeError(f"query {query} without a positive", where=path, line=line, fix="remove the line")
        negatives = _ids(record, "negative_ids", path, line)
        scores = record.get("scores")
        if not isinstance(scores, list) or len(scores) != len(negatives):
            raise DupmaeError("not one score a negative", where=path, line=line, fix="mine again")
        yield MinedQuery(query, positives, negatives, scores)


def read_negatives(path: Path, queries: Container[str]) -> dict[str, list[str]]:
    """Read hard negatives, query id -> passage ids, from any of the three layouts.

    Lines of sentence-transformers give lists by mining system (`neg`); they are merged rank by rank.

    Args:
        queries: the ids that are known; MS MARCO's files name others too, which are passed over there.

    Raises:
        DupmaeError: for a file of another layout, or one that names no known query.
    """
    if path.name.removesuffix(".gz").endswith(".tsv"):
        found = _from_triples(path)
    else:
        _, first = next(read_records(path))
        by_id = "query_id" in first
        found = ((item.query, item.negatives) for item in read_mined(path, queries)) if by_id else _from_systems(path)
    kept: dict[str, dict[str, None]] = {}
    for query, negatives in found:
        if query in queries:
            kept.setdefault(query, {}).update(dict.fromkeys(negatives))
    if not kept:
        raise DupmaeError("names none of the queries", where=path, fix="give the negatives of this data set")
    return {query: list(negatives) for query, negatives in kept.items()}


def _from_triples(path: Path) -> Iterator[tuple[str, list[str]]]:
    for line, text in read_lines(path):
        columns = text.split()
        if columns and len(columns) != 3:
            fix = "write: query-id TAB positive-id TAB negative-id"
            raise DupmaeError(f"needs 3 columns, has {len(columns)}", where=path, line=line, fix=fix)
        if columns:
            yield columns[0], [columns[2]]


def _from_systems(path: Path) -> Iterator[tuple[str, list[str]]]:
    for line, record in read_records(path):
        query, found = id_field(record, ("qid",), path, line), record.get("neg")
        lists: list[Any] = list(found.values()) if isinstance(found, dict) else [found]
        if not all(isinstance(entry, list) for entry in lists):
            raise DupmaeError("`neg` is no list of ids", where=path, line=line, fix="mend or remove the line")
        ranked = chain.from_iterable(zip_longest(*lists))
        yield query, [str(name) for name in ranked if name is not None]


def _ids(record: Record, name: str, path: Path, line: int) -> list[str]:
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise DupmaeError(f"`{name}` is no list of ids", where=path, line=line, fix="mine again")
    return found


def write_scores(path: Path, scores: Iterable[tuple[str, dict[str, float]]]) -> None:
    """Write a teacher's scores, one JSON line a query, whole or not at all.

    Raises:
        DupmaeError: for a score that is no finite number.
    """
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for query, found in scores:
            bad = next((name for name, score in found.items() if not math.isfinite(score)), None)
            if bad is not None:
                problem = f"the teacher's score of query {query} and passage {bad} is {found[bad]}"
                raise DupmaeError(problem, where=path, fix="train the teacher at a lower learning_rate")
            record = {"query_id": query, "passage_ids": list(found), "scores": list(found.values())}
            file.write(json_line(record))


def read_scores(path: Path) -> Scores:
    """Read a teacher's scores: query id -> {passage id -> score}.

    Raises:
        DupmaeError: for a record without its fields, or a score that is no finite number.
    """
    scores: Scores = {}
    for line, record in read_records(path):
        query, names = id_field(record, ("query_id",), path, line), _ids(record, "passage_ids", path, line)
        values = record.get("scores")
        if not isinstance(values, list) or len(values) != len(names):
            raise DupmaeError("not one score a passage", where=path, line=line, fix="score again with train-reranker")
        for name, value in zip(names, values, strict=True):
            if not is_finite(value):
                problem = f"the score of query {query} and passage {name} is no finite number"
                raise DupmaeError(problem, where=path, line=line, fix="score again with train-reranker")
        scores.setdefault(query, {}).update(zip(names, map(float, values), strict=True))
    return scores


def is_finite(value: object) -> bool:
    """Whether a JSON value is a number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST


def score_of(scores: Scores, query: str, passage: str, path: Path) -> float:
    """One score.

    Raises:
        DupmaeError: when the pair was not scored.
    """
    try:
        return scores[query][passage]
    except KeyError:
        problem = f"no score of query {query} and passage {passage}"
        raise DupmaeError(problem, where=path, fix="score these negatives with train-reranker") from None
