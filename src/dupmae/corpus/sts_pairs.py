"""Sentence pairs with how alike people found them: the STS Benchmark's tables, or JSON lines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dupmae.corpus.lines import read_lines, text_field
from dupmae.corpus.records import read_records
from dupmae.errors import DupmaeError

# genre, file, year, id, score, sentence, sentence; some rows of the training part have licence columns behind them.
SCORE, LEFT, RIGHT = 4, 5, 6


@dataclass(frozen=True, slots=True)
class Alike:
    """Two sentences and the gold score of their likeness."""

    left: str
    right: str
    gold: float


def read_sts_pairs(path: Path) -> list[Alike]:
    """Read `.jsonl` records of `sentence1`, `sentence2`, `score`, or the tab-separated tables of the STS Benchmark.

    Raises:
        DupmaeError: for a line without its columns, a score that is no finite number, a blank sentence, and fewer
            than two pairs.
    """
    rows = _records(path) if path.name.removesuffix(".gz").endswith(".jsonl") else _table(path)
    found = []
    for line, score, left, right in rows:
        if not left.strip() or not right.strip():
            raise DupmaeError("a sentence is blank", where=path, line=line, fix="remove the line")
        found.append(Alike(left, right, _number(score, path, line)))
    if len(found) < 2:
        raise DupmaeError("holds fewer than two sentence pairs", where=path, fix="give sts-dev.csv or the like")
    return found


def _records(path: Path) -> Iterator[tuple[int, str, str, str]]:
    for line, record in read_records(path):
        score = record.get("score")
        if score is None:
            raise DupmaeError("record without `score`", where=path, line=line, fix="add a `score` field")
        left, right = (text_field(record, (name,), path, line) for name in ("sentence1", "sentence2"))
        yield line, str(score), left, right


def _table(path: Path) -> Iterator[tuple[int, str, str, str]]:
    for line, text in read_lines(path):
        if not text.strip():
            continue
        columns = text.split("\t")
        if len(columns) <= RIGHT:
            problem = f"needs {RIGHT + 1} tab-separated columns, has {len(columns)}"
            raise DupmaeError(problem, where=path, line=line, fix="give a table of the STS Benchmark, or .jsonl")
        yield line, columns[SCORE], columns[LEFT], columns[RIGHT]


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DupmaeError(f"the score {text!r} is no number", where=path, line=line, fix="write 0 to 5")
    return value
