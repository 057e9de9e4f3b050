"""The comparison as data: systems, differences, and the queries that moved most.

`compare` makes it out of settings; tables, pages and charts only show it.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.suite_results import Values, means
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.report import results as reading
from dupmae.report.differences import TESTS_IN_WORDS, Difference, differences
from dupmae.report.judged import Judged, open_judged
from dupmae.report.moving import Moved, most_moved
from dupmae.report.results import Result
from dupmae.settings import Compare

BM25, BM25_LABEL = "bm25", "BM25"


@dataclass(frozen=True)
class System:
    """One system of the comparison.

    Attributes:
        label: what people read for its name.
        letter: stands for it where others are better than it.
        metrics: metric -> mean over the queries.
        queries_per_second: encoding and ranking together; None where it was not measured.
        index_bytes: of what was searched; None where it was not measured.
    """

    name: str
    label: str
    letter: str
    metrics: dict[str, float]
    file: str
    queries_per_second: float | None = None
    index_bytes: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Several systems on the same queries.

    Attributes:
        data: name of the data set; split: its qrels file.
        queries: how many; corpus: how many passages or documents were ranked.
        metric: the one that is compared query by query; metrics: all of the table.
        test: the test in words; tests: how many p-values were corrected together.
        baseline: the system that all others are compared with; None: every pair is compared.
        values: of that metric, system -> query id -> value.
        passages: documents that `moved` names, by id, where the data is at hand.
    """

    data: str
    split: str
    queries: int
    corpus: int
    metric: str
    metrics: list[str]
    test: str
    tests: int
    baseline: str | None
    systems: list[System]
    differences: list[Difference]
    moved: list[Moved]
    values: dict[str, dict[str, float]]
    passages: dict[str, Passage]

    def system(self, name: str) -> System:
        """The system of a name."""
        return next(system for system in self.systems if system.name == name)

    def better_than(self, system: str) -> str:
        """The letters of the systems that one is significantly better than."""
        beaten = {d.other if d.system == system else d.system for d in self.differences if d.better == system}
        return "".join(other.letter for other in self.systems if other.name in beaten)

    def p_against_baseline(self, system: str) -> float | None:
        """The corrected p-value of a system against the baseline; None for the baseline itself."""
        return next((pair.corrected for pair in self.differences if pair.system == system), None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the passages' texts; values of every query included."""
        return {
            "dataset": {"name": self.data, "split": self.split, "queries": self.queries, "passages": self.corpus},
            "metric": self.metric,
            "metrics": self.metrics,
            "test": self.test,
            "tests": self.tests,
            "baseline": self.baseline,
            "systems": {system.name: _as_dict(system) for system in self.systems},
            "p_values": {f"{pair.system} against {pair.other}": pair.corrected for pair in self.differences},
            "differences": [asdict(pair) for pair in self.differences],
            "moved": [asdict(move) for move in self.moved],
            "values": self.values,
        }


def _as_dict(system: System) -> dict[str, Any]:
    found = asdict(system)
    metrics = found.pop("metrics")
    return {**found, **metrics}


def compare(settings: Compare) -> tuple[Comparison, Judged | None, Result | None]:
    """Compare results; gives the data, where it is at hand, and BM25's own result, where it is asked for, too.

    Raises:
        DupmaeError: when results cannot be read or do not belong together, the data is needed and not there, or a
            setting names a system or metric that there is not.
    """
    results = reading.read_results(settings.inputs)
    if len(results) + settings.bm25 < 2:
        raise DupmaeError("one result alone", where="inputs", fix="name a second one, or give --bm25")
    metrics = reading.common_metrics(results)
    metric = _chosen(settings.metric, metrics, "metric") or (
        results[0].main if results[0].main in metrics else metrics[0]
    )
    names = [*([BM25] if settings.bm25 else []), *(result.name for result in results)]
    if len(set(names)) < len(names):
        raise DupmaeError(f"one is called {BM25} already", where="inputs", fix="give it another name")
    baseline = _chosen(settings.baseline, names, "baseline")
    for name in settings.labels:
        _chosen(name, names, "labels")
    judged = _judged(settings, results, metrics)
    results = [_with_values(result, judged) for result in results]
    bm25 = None
    if settings.bm25 and judged is not None:
        bm25 = _bm25(results, metrics, judged, settings.out)
        results = [bm25, *results]
    compared = {result.name: result.values[metric] for result in results if result.values is not None}
    pairs = differences(compared, baseline=baseline, test=settings.test)
    changes, texts = most_moved(pairs, results, compared, judged, settings.movers)
    first = results[0]
    labels = {BM25: BM25_LABEL} | settings.labels
    comparison = Comparison(
        data=first.suite or folder_name(settings.data or first.data),
        split=first.split,
        queries=first.queries,
        corpus=first.corpus,
        metric=metric,
        metrics=metrics,
        test=TESTS_IN_WORDS[settings.test],
        tests=len(pairs),
        baseline=baseline,
        systems=[
            System(
                result.name,
                labels.get(result.name, result.name),
                letter,
                {metric: result.metrics[metric] for metric in metrics},
                str(result.file),
                result.queries_per_second,
                result.index_bytes,
            )
            for result, letter in zip(results, string.ascii_lowercase, strict=False)
        ],
        differences=pairs,
        moved=changes,
        values=compared,
        passages=texts,
    )
    return comparison, judged, bm25


def folder_name(data: Path) -> str:
    """What a data folder is called: its own name, or that of the folder around it where that is `beir`."""
    parts = data.resolve().parts
    return parts[-2] if parts[-1].lower() == "beir" and len(parts) > 2 else parts[-1]


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
    depth = max(int(number) for metric in metrics for number in re.findall(r"@(\d+)$", metric))
    logger.info(f"ranking {results[0].corpus:,} passages with BM25")
    run = judged.bm25(depth)
    values: Values = {metric: found for metric, found in judged.measure(run).items() if metric in metrics}
    file = (out or Path()) / BM25 / METRICS_FILE
    unknown = replace(results[0], queries_per_second=None, index_bytes=None)
    return replace(unknown, name=BM25, file=file, metrics=means(values), values=values, run=run)
