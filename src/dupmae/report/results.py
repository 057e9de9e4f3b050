"""Results to compare, as `dupmae evaluate` writes them: read, named, and refused where they do not fit together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.suite_results import FILES, PER_QUERY_FILE, Values
from dupmae.evaluation.metrics import Run
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, read_run
from dupmae.files import read_json, sha256

# Letters tell the systems apart in the tables.
MOST = 26
# A mean over the same values in another order differs by less.
SAME = 1e-9
FIX = "name a metrics.json that `dupmae evaluate` wrote"
SAME_FIX = "compare results of the same data and queries"
Inputs = Mapping[str, Path] | Sequence[Path]
"""metrics.json files or their folders, by name or in a list."""


@dataclass(frozen=True)
class Result:
    """One system's result on one data set.

    Attributes:
        file: the metrics.json.
        metrics: metric -> mean over the queries.
        main: the metric that is compared unless another is asked for.
        suite: the suite, or the set of BEIR; "" for a plain BEIR folder.
        data: the folder it was measured on; split: the name of the qrels file.
        queries: how many were judged; corpus: how many passages or documents were ranked.
        fingerprint: SHA-256 of the data's files; empty where none were written.
        settings: those that it was measured with.
        queries_per_second: encoding and ranking together; None where it was not measured.
        index_bytes: of the part of the index that was searched; None where there was none.
        values: metric -> query id -> value, where they were written beside it.
        run: the rankings, where they are held; they are read from the file otherwise.
    """

    name: str
    file: Path
    metrics: dict[str, float]
    main: str
    suite: str
    data: Path
    split: str
    queries: int
    corpus: int
    fingerprint: dict[str, str] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    values: Values | None = field(repr=False)
    queries_per_second: float | None = None
    index_bytes: float | None = None
    run: Run | None = field(default=None, repr=False)

    @property
    def run_file(self) -> Path:
        """Its TREC run."""
        return self.file.with_name(RUN_FILE)

    def rankings(self, queries: set[str] | None = None) -> Run:
        """Its rankings of some queries, or of all; a query without a document is left out."""
        return self.run if self.run is not None else read_run(self.run_file, queries)


def read_results(inputs: Inputs) -> list[Result]:
    """Read results and check that they are of the same data.

    Raises:
        DupmaeError: for a file that is no result, too many of them, the same one twice, or results of other data,
            splits or queries.
    """
    results = [_read(file, name) for name, file in named(inputs).items()]
    for result in results[1:]:
        _check_same(results[0], result)
    return results


def named(inputs: Inputs) -> dict[str, Path]:
    """The metrics.json of each result by the system's name: the one given, or what tells the files apart.

    Raises:
        DupmaeError: for a file that is named twice, or too many of them.
    """
    given = list(inputs.values() if isinstance(inputs, Mapping) else inputs)
    files = [file / METRICS_FILE if file.is_dir() else file for file in given]
    resolved = [file.resolve() for file in files]
    twice = next((file for place, file in enumerate(resolved) if file in resolved[:place]), None)
    if twice is not None:
        raise DupmaeError("is named twice", where=twice, fix="name each result once")
    if len(files) >= MOST:
        raise DupmaeError(f"{len(files)} results, {MOST - 1} are the most", where="inputs", fix="compare fewer at once")
    names = inputs if isinstance(inputs, Mapping) else _names(resolved)
    return dict(zip(names, files, strict=True))


def _names(files: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell all of them apart, without what all of them end in."""
    parts = [file.parts[:-1] if file.name == METRICS_FILE else (*file.parts[:-1], file.stem) for file in files]
    while len({part[-1] for part in parts}) == 1 and len(parts) > 1 and min(map(len, parts)) > 1:
        parts = [part[:-1] for part in parts]
    ends = (["/".join(part[-depth:]) for part in parts] for depth in itertools.count(1))
    return next(names for names in ends if len(set(names)) == len(names))


def _read(file: Path, name: str) -> Result:
    found = read_json(file)
    try:
        metrics = {str(metric): float(value) for metric, value in found["metrics"].items()}
        settings, counts = found["settings"], found["counts"]
        result = Result(
            name=name,
            file=file,
            metrics=metrics,
            main=str(found.get("main") or next(iter(metrics))),
            suite=str(found.get("suite", "")),
            data=Path(settings["data"]),
            split=str(settings.get("split", "")),
            queries=int(counts["queries"]),
            corpus=int(counts["documents"] if "documents" in counts else counts["passages"]),
            fingerprint=dict(found.get("data", {})),
            settings=settings,
            values=_values(file),
            queries_per_second=_number(found.get("queries_per_second")),
            index_bytes=_number(found.get("index_bytes")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        raise DupmaeError("not a result with queries and a corpus", where=file, fix=FIX) from None
    broken = next((metric for metric, value in metrics.items() if not math.isfinite(value)), None)
    if broken is not None:
        raise DupmaeError(f"{broken} is not finite", where=file, fix="evaluate again")
    if result.values is not None:
        check_values(result, result.values, file.with_name(PER_QUERY_FILE))
    _check_files(file, found.get(FILES, {}))
    return result


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _check_files(file: Path, written: dict[str, str]) -> None:
    """Refuse files that are not those written with metrics.json, such as rankings cut short."""
    for name in (RUN_FILE, PER_QUERY_FILE):
        beside = file.with_name(name)
        if name in written and not (beside.is_file() and sha256(beside) == written[name]):
            problem = f"is not the file that {METRICS_FILE} was written with"
            raise DupmaeError(problem, where=beside, fix="keep the files of one evaluation together, or evaluate again")


def _values(file: Path) -> Values | None:
    beside = file.with_name(PER_QUERY_FILE)
    if not beside.is_file():
        return None
    found = read_json(beside)
    try:
        return {metric: {query: float(value) for query, value in by.items()} for metric, by in found.items()}
    except (TypeError, ValueError, AttributeError):
        raise DupmaeError("not metric -> query -> value", where=beside, fix="evaluate again") from None


def _check_same(first: Result, other: Result) -> None:
    def refuse(what: str, here: object, there: object) -> DupmaeError:
        return DupmaeError(f"{what} is {here}, of {first.file} {there}", where=other.file, fix=SAME_FIX)

    for what, here, there in (
        ("the suite", other.suite or "none", first.suite or "none"),
        ("the split", other.split, first.split),
        ("the number of queries", f"{other.queries:,}", f"{first.queries:,}"),
        ("the size of the corpus", f"{other.corpus:,}", f"{first.corpus:,}"),
    ):
        if here != there:
            raise refuse(what, here, there)
    for name in sorted(first.fingerprint.keys() | other.fingerprint.keys()):
        here, there = other.fingerprint.get(name, "none"), first.fingerprint.get(name, "none")
        if here != there and first.fingerprint and other.fingerprint:
            raise refuse(f"the fingerprint of {name}", here[:12], there[:12])
    if first.values is not None and other.values is not None:
        ours, theirs = (set(next(iter(result.values.values()))) for result in (first, other) if result.values)
        if ours != theirs:
            problem = f"{len(ours ^ theirs):,} queries are not the same as in {first.file}, first {min(ours ^ theirs)}"
            raise DupmaeError(problem, where=other.file, fix=SAME_FIX)


def common_metrics(results: Sequence[Result]) -> list[str]:
    """The metrics that every result has, in the order of the first.

    Raises:
        DupmaeError: when there is none.
    """
    common = [metric for metric in results[0].metrics if all(metric in other.metrics for other in results)]
    if not common:
        raise DupmaeError("the results share no metric", where="inputs", fix="evaluate all with the same version")
    return common


def check_whole(result: Result, run: Run, queries: Sequence[str]) -> None:
    """Refuse rankings that lack a judged query.

    Raises:
        DupmaeError: naming the first that is missing.
    """
    missing = [query for query in queries if query not in run]
    if missing:
        problem = f"lacks {len(missing):,} of {len(queries):,} judged queries, first {missing[0]}"
        raise DupmaeError(problem, where=result.run_file, fix="compare results of the same data, every query ranked")


def check_values(result: Result, values: Values, file: Path) -> None:
    """Refuse values of queries that are not those behind the metrics: of other judgements, or cut short.

    Args:
        file: what the values are from.

    Raises:
        DupmaeError: naming the metric.
    """
    for metric, written in result.metrics.items():
        found = values.get(metric, {})
        mean = math.fsum(found.values()) / len(found) if found else math.nan
        if len(found) != result.queries:
            problem = f"has {metric} of {len(found):,} queries, {METRICS_FILE} of {result.queries:,}"
            raise DupmaeError(problem, where=file, fix="keep the files and the data of one evaluation together")
        if not abs(mean - written) <= SAME:
            problem = f"gives {metric} {mean:.6f}, {METRICS_FILE} says {written:.6f}"
            raise DupmaeError(problem, where=file, fix="keep the files and the data of one evaluation together")


def as_written(result: Result) -> dict[str, Any]:
    """A result made here the way `dupmae evaluate` writes its own, so that it can be compared again."""
    return {
        **({"suite": result.suite} if result.suite else {}),
        "metrics": result.metrics,
        "main": result.main,
        "counts": {"queries": result.queries, "documents": result.corpus},
        **({"data": result.fingerprint} if result.fingerprint else {}),
        "settings": {**result.settings, "data": str(result.data)},
        **({"queries_per_second": result.queries_per_second} if result.queries_per_second else {}),
        **({"index_bytes": result.index_bytes} if result.index_bytes else {}),
    }
