"""What a suite leaves in its folder: metrics.json, run.trec, per_query.json, each whole or not at all.

`cached` gives the metrics of the same retriever, data and settings if they are there; `write` puts new ones.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import Measures
from dupmae.evaluation.metrics import per_query, refuse_partial
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, TAG, write_run
from dupmae.files import read_json, sha256, write_json
from dupmae.settings.benchmarks import EvaluateSuite

PER_QUERY_FILE = "per_query.json"
# Entry of metrics.json: SHA-256 of the files that were written beside it.
FILES = "files"
# Raised when the same retriever, data and settings would give other numbers.
VERSION = 2

Values = dict[str, dict[str, float]]
"""Metric -> query id -> value."""


def out_folder(settings: EvaluateSuite) -> Path:
    """Where the results go."""
    beside = settings.retriever.with_name(f"{settings.retriever.resolve().name}-evaluation")
    return settings.out or beside / settings.suite


def key_of(**parts: Any) -> str:
    """A fingerprint of all that decides the numbers."""
    text = json.dumps({"version": VERSION, **parts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_of(files: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files by name, with their folder where two have the same name."""
    names = [file.name for file in files]
    return {file.name if names.count(file.name) == 1 else "/".join(file.parts[-2:]): sha256(file) for file in files}


def cached(out: Path, key: str, names: Sequence[str]) -> dict[str, Any] | None:
    """The metrics in a folder when they are those of `key` and all files are there as they were written."""
    if not all((out / name).is_file() for name in (METRICS_FILE, *names)):
        return None
    try:
        found = read_json(out / METRICS_FILE)
    except DupmaeError:
        return None
    if not isinstance(found, dict) or found.get("key") != key:
        return None
    if found.get(FILES) != sha256_of([out / name for name in names]):
        logger.info(f"not as it was written, measured again: {out}")
        return None
    logger.info(f"measured before: {out / METRICS_FILE}")
    return found


def measure(measures: Measures, qrels: Mapping[str, dict[str, int]], run: Mapping[str, Mapping[str, float]]) -> Values:
    """Every metric of every judged query.

    Metrics are those of `evaluation.metrics`; `mrr` is MS MARCO's own: 0 for a query that is not answered among the
    first ranks, whatever the reason, and the mean is over all judged queries.

    Raises:
        DupmaeError: when the run lacks a judged query: a missing ranking is a fault, no failure of the system.
    """
    refuse_partial(qrels, run)
    values: Values = {metric: {} for metric in (*measures.graded, *measures.binary)}
    for query, grades in qrels.items():
        # One query at a time: a ranking makes its dictionary when it is asked for it.
        scores = {query: dict(run[query])}
        relevant = {name: int(grade >= measures.relevant) for name, grade in grades.items()}
        for judged, metrics in ((grades, measures.graded), (relevant, measures.binary)):
            for metric, found in per_query({query: judged}, scores, metrics).items():
                values[metric][query] = found[query]
    return values


def means(values: Values) -> dict[str, float]:
    """The mean of each metric over its queries."""
    return {metric: math.fsum(found.values()) / len(found) for metric, found in values.items()}


def write(
    out: Path, result: dict[str, Any], values: Values, run: Mapping[str, Mapping[str, float]], tag: str = TAG
) -> dict[str, Any]:
    """Write the results of a retrieval suite; gives what metrics.json says."""
    write_run(out / RUN_FILE, run, tag)
    write_json(out / PER_QUERY_FILE, values)
    return write_metrics(out, result, (RUN_FILE, PER_QUERY_FILE))


def write_metrics(out: Path, result: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Write metrics.json, which comes last and holds the SHA-256 of the files beside it; gives what it says."""
    whole = {**result, FILES: sha256_of([out / name for name in names])}
    write_json(out / METRICS_FILE, whole)
    return whole
