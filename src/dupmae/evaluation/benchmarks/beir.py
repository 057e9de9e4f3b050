"""BEIR: every data set of a folder, and the averages over them (Thakur et al. 2021, table 1 and appendix D)."""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.beir_sets import AVERAGES, FORUMS, KNOWN, MEASURES, SETS, find_sets, layout, open_set
from dupmae.evaluation.benchmarks.collections import Collection
from dupmae.evaluation.benchmarks.retrieval import measured, prepared
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.files import write_json
from dupmae.retriever.model import Retriever
from dupmae.settings.benchmarks import EvaluateSuite


def open_sets(settings: EvaluateSuite) -> dict[str, Collection]:
    """The data sets in a folder, or those of `settings.sets`, by name.

    Raises:
        DupmaeError: when there is none, one that was asked for is missing, or one is damaged or not whole.
    """
    if settings.data is None:
        published = "; ".join(f"{name} {known.queries:,}/{known.documents:,}" for name, known in SETS.items())
        fix = f"name a folder with {layout()}; test queries/documents of each: {published}"
        raise DupmaeError("data is not given", where="beir", fix=fix)
    found = _chosen(find_sets(settings.data), settings)
    return {name: open_set(name, folder, settings) for name, folder in found.items()}


def evaluate_beir(
    settings: EvaluateSuite, collections: dict[str, Collection], retriever: Retriever, out: Path
) -> dict[str, Any]:
    """Measure every data set, and average over them.

    Returns:
        metrics (averages), sets (metrics, counts, licence of each), official (whether all sets are), left_out (forums
        that are in no average), missing (published sets that are not there).

    Raises:
        DupmaeError: when one is not whole, before the first is encoded.
    """
    ready = {}
    for name, collection in collections.items():
        own = settings.model_copy(update={"data": collection.corpus.parent})
        ready[name] = prepared(own, collection, retriever, out / name)
    sets: dict[str, dict[str, Any]] = {}
    for name, one in ready.items():
        logger.info(f"-- {name}")
        result = measured(one, retriever)
        shown = {"metrics": result["metrics"], "counts": result["counts"], "official": result["official"]}
        sets[name] = shown | ({"licence": KNOWN[name].licence} if name in KNOWN else {})
    table = {name: told["metrics"] for name, told in sets.items()}
    result = {
        "suite": "beir",
        "metrics": averages(table, {name for name, told in sets.items() if told["official"]}),
        "main": MEASURES.main,
        "sets": sets,
        "official": all(told["official"] for told in sets.values()),
        "left_out": _left_out(table),
        "missing": _missing(table),
        "retriever": retriever.fingerprint(),
        "settings": settings.model_dump(mode="json"),
    }
    write_json(out / METRICS_FILE, result)
    return result


def averages(table: dict[str, dict[str, float]], official: Container[str]) -> dict[str, float]:
    """Means over data sets: over those that are there, and each published average that they are enough for.

    Args:
        table: data set -> metric -> value; the forums of CQADupStack one by one.
        official: the data sets that have the official counts; a published average is over these alone.
    """
    whole = _with_forums(table) or table
    published = _with_forums({name: values for name, values in table.items() if name in official})
    here = f"{len(whole)} of {len(SETS)}" if set(whole) < set(SETS) else "all here"
    wanted = {here: list(whole)} | {title: names for title, names in AVERAGES.items() if set(names) <= set(published)}
    return {
        f"{metric}, mean of {title}": math.fsum(whole[name][metric] for name in names) / len(names)
        for title, names in wanted.items()
        for metric in (*MEASURES.graded, *MEASURES.binary)
    }


def _left_out(table: dict[str, dict[str, float]]) -> list[str]:
    """Forums that no average counts, since CQADupStack is the mean of all twelve."""
    whole = _with_forums(table)
    return [name for name in table if name.startswith("cqadupstack/")] if whole and "cqadupstack" not in whole else []


def _missing(table: dict[str, dict[str, float]]) -> list[str]:
    """The published data sets that are not there; none of them is missed where there are only others."""
    there = _with_forums(table)
    return [name for name in SETS if name not in there] if set(there) & set(SETS) else []


def _chosen(found: dict[str, Path], settings: EvaluateSuite) -> dict[str, Path]:
    """The data sets that were asked for; `cqadupstack` stands for its forums."""
    if not settings.sets:
        return found
    for name in settings.sets:
        if not any(there == name or there.startswith(f"{name}/") for there in found):
            problem, fix = f"has no data set {name}", f"there are: {', '.join(found)}"
            raise DupmaeError(problem, where=settings.data, fix=fix)
    asked = {name for name in found for wanted in settings.sets if name == wanted or name.startswith(f"{wanted}/")}
    return {name: path for name, path in found.items() if name in asked}


def _with_forums(table: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The table with CQADupStack as the mean of its forums, when all of them are there."""
    forums = {name: values for name, values in table.items() if name.startswith("cqadupstack/")}
    whole = {name: values for name, values in table.items() if name not in forums}
    if len(forums) == len(FORUMS):
        metrics = next(iter(forums.values()))
        whole["cqadupstack"] = {
            metric: math.fsum(values[metric] for values in forums.values()) / len(forums) for metric in metrics
        }
    return whole
