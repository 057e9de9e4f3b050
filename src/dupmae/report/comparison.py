"""The comparison as data: systems, differences, papers' numbers, and the queries that moved most.

`compare` makes it out of settings; tables, page and charts only show it.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.suite_results import Values
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.report import results as reading
from dupmae.report.differences import TESTS_IN_WORDS, Difference, differences
from dupmae.report.judged import Judged, open_judged
from dupmae.report.moving import Moved, most_moved
from dupmae.report.quoted import Quoted, folder_names, quoted
from dupmae.report.results import Result
from dupmae.settings import Compare

BM25_NAME = "BM25"
BM25_FOLDER = "bm25"


@dataclass(frozen=True)
class System:
    """One system of the comparison; the letter stands for it where others are better than it."""

    name: str
    letter: str
    metrics: dict[str, float]
    file: str


@dataclass(frozen=True)
class Comparison:
    """Several systems on the same queries.

    Attributes:
        data: name of the data set; split: its qrels file.
        queries: how many; corpus: how many passages or documents were ranked.
        metric: the one that is compared query by query; metrics: all of the table.
        test: the test in words; tests: how many p-values were corrected together.
        values: of that metric, system -> query id -> value.
        passages: documents that `moved` names, by id, where the data is at hand.
        quoted: lines of papers on the same data set that have one of the metrics.
    """

    data: str
    split: str
    queries: int
    corpus: int
    metric: str
    metrics: list[str]
    test: str
    tests: int
    systems: list[System]
    differences: list[Difference]
    quoted: list[Quoted]
    moved: list[Moved]
    values: dict[str, dict[str, float]]
    passages: dict[str, Passage]

    def better_than(self, system: str) -> str:
        """The letters of the systems that one is significantly better than."""
        beaten = {d.other if d.system == system else d.system for d in self.differences if d.better == system}
        return "".join(other.letter for other in self.systems if other.name in beaten)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the passages' texts; values of every query included."""
        kept = asdict(self)
        del kept["passages"]
        return kept


def compare(settings: Compare) -> tuple[Comparison, Result | None]:
    """Compare results; gives BM25's own result too, where it is asked for.

    Raises:
        DupmaeError: when results cannot be read or do not belong together, the data is needed and not there, or a
            setting names a system or metric that there is not.
    """
    results = reading.read_results(settings.inputs, settings.names)
    if len(results) + settings.bm25 < 2:
        raise DupmaeError("one result alone", where="inputs", fix="name a second one, or give --bm25")
    metrics = reading.common_metrics(results)
    metric = _chosen(settings.metric, metrics, "metric") or (
        results[0].main if results[0].main in metrics else metrics[0]
    )
    judged = _judged(settings, results, metrics)
    results = [_with_values(result, judged) for result in results]
    bm25 = None
    if settings.bm25 and judged is not None:
        bm25 = _bm25(results, metrics, judged, settings.out)
        results = [bm25, *results]
    compared = {result.name: result.values[metric] for result in results if result.values is not None}
    baseline = _chosen(settings.baseline, list(compared), "baseline")
    pairs = differences(compared, baseline=baseline, test=settings.test)
    changes, texts = most_moved(pairs, results, compared, judged, settings.movers)
    first = results[0]
    data, lines = quoted({first.suite, *folder_names(settings.data or first.data)}, first.queries, first.corpus)
    comparison = Comparison(
        data=data or first.suite or folder_names(settings.data or first.data)[0],
        split=first.split,
        queries=first.queries,
        corpus=first.corpus,
        metric=metric,
        metrics=metrics,
        test=TESTS_IN_WORDS[settings.test],
        tests=len(pairs),
        systems=[
            System(result.name, letter, {metric: result.metrics[metric] for metric in metrics}, str(result.file))
            for result, letter in zip(results, string.ascii_lowercase, strict=False)
        ],
        differences=pairs,
        quoted=[line for line in lines if line.metrics.keys() & set(metrics)],
        moved=changes,
        values=compared,
        passages=texts,
    )
    return comparison, bm25


def _chosen(asked: str | None, known: Sequence[str], setting: str) -> str | None:
    if asked is not None and asked not in known:
        raise DupmaeError(f"unknown: {asked!r}", where=setting, fix=f"one of {', '.join(known)}")
    return asked


def _judged(settings: Compare, results: Sequence[Result], metrics: Sequence[str]) -> Judged | None:
    """The data, or None when it is not there and only the texts would be missed."""
    first = results[0]
    data = settings.data or first.data
    needed = settings.bm25 or settings.data is not None or any(result.values is None for result in results)
    if not needed and not data.exists():
        logger.warning("%s is not there, so texts are left out; name the data by --data", data)
        return None
    judged = open_judged(data, first.split, metrics, first.suite, first.settings)
    if len(judged.queries) != first.queries:
        problem = f"has {len(judged.queries):,} judged queries, {first.file} is of {first.queries:,}"
        raise DupmaeError(problem, where=data, fix="name the data of the results by --data")
    return judged


def _with_values(result: Result, judged: Judged | None) -> Result:
    """The result with its values of every query, out of its rankings where they were not written."""
    if result.values is not None or judged is None:
        return result
    run = result.rankings()
    reading.check_whole(result, run, list(judged.queries))
    values = judged.measure(run)
    values = {metric: values[metric] for metric in result.metrics}
    reading.check_values(result, values, result.run_file)
    return replace(result, values=values, run=run)


def _bm25(results: Sequence[Result], metrics: Sequence[str], judged: Judged, out: Path | None) -> Result:
    if any(result.name == BM25_NAME for result in results):
        raise DupmaeError(f"one is called {BM25_NAME} already", where="names", fix="give it another name")
    depth = max(int(number) for metric in metrics for number in re.findall(r"@(\d+)$", metric))
    logger.info(f"ranking {results[0].corpus:,} passages with BM25")
    run = judged.bm25(depth)
    values: Values = {metric: found for metric, found in judged.measure(run).items() if metric in metrics}
    file = (out or Path()) / BM25_FOLDER / METRICS_FILE
    means = {metric: math.fsum(found.values()) / len(found) for metric, found in values.items()}
    return replace(results[0], name=BM25_NAME, file=file, metrics=means, values=values, run=run)
