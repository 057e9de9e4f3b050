"""TREC run files: one line a retrieved document, `query Q0 document rank score tag`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Run, ranking
from dupmae.files import new_file

# What an evaluation leaves in its folder, and the name that its runs carry.
METRICS_FILE, RUN_FILE = "metrics.json", "run.trec"
TAG = "dupmae"


def write_run(path: str | Path, run: Mapping[str, Mapping[str, float]], tag: str) -> None:
    """Write a run, each query's documents in the order the metrics see them, scores exact.

    A query without a document leaves no line; the metrics count it as 0 all the same.

    Raises:
        DupmaeError: when an id or the tag holds white space (columns could not be told apart), when a score is
            not finite, or when the file cannot be written.
    """
    path = Path(path)
    _check_column("tag", tag, path)
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        for query, scores in run.items():
            _check_column("query id", query, path)
            for rank, document in enumerate(ranking(scores), 1):
                _check_column("document id", document, path)
                score = float(scores[document])
                if not math.isfinite(score):
                    problem = f"the score of document {document!r} for query {query!r} is not finite"
                    raise DupmaeError(problem, where=path, fix="check the model")
                file.write(f"{query} Q0 {document} {rank} {score!r} {tag}\n")


def refuse_ids(ids: Iterable[str], what: str, where: Path) -> None:
    """Refuse ids that a run file cannot hold, before anything is ranked.

    Raises:
        DupmaeError: naming the first id that is empty or holds white space.
    """
    for name in ids:
        _check_column(f"{what} id", name, where)


def _check_column(name: str, value: str, path: Path) -> None:
    if value.split() != [value]:
        problem = f"the {name} {value!r} is empty or holds white space, which a run file cannot express"
        raise DupmaeError(problem, where=path, fix="rename it")


def read_run(path: str | Path, only: Collection[str] | None = None) -> Run:
    """Read a run; ranks and tags are passed over, since the scores alone decide the order.

    Args:
        only: the queries to keep, where not all are wanted: a run of MS MARCO takes a gigabyte.

    Raises:
        DupmaeError: when the file is missing or not UTF-8, or a line has not six columns, repeats a document
            of its query, or has a score that is no finite number.
    """
    path = Path(path)
    run: Run = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                query, document, score = _parse(line, path, number)
                if only is not None and query not in only:
                    continue
                documents = run.setdefault(query, {})
                if document in documents:
                    problem = f"document {document!r} is ranked twice for query {query!r}"
                    raise DupmaeError(problem, where=path, line=number, fix="keep one of the lines")
                documents[document] = score
    except UnicodeDecodeError:
        raise DupmaeError("not UTF-8 text", where=path, fix="give a TREC run file") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise DupmaeError(f"cannot read: {reason}", where=path, fix="check the path") from None
    return run


def _parse(line: str, path: Path, number: int) -> tuple[str, str, float]:
    columns = line.split()
    if len(columns) != 6:
        problem = f"{len(columns)} columns where a run has 6"
        raise DupmaeError(problem, where=path, line=number, fix="write: query Q0 document rank score tag")
    query, _, document, _, text, _ = columns
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        problem = f"the score {text!r} is not a finite number"
        raise DupmaeError(problem, where=path, line=number, fix="mend or remove the line")
    return query, document, score
