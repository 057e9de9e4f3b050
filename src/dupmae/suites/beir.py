"""BEIR: every data set of a folder, and the averages over them (Thakur et al. 2021, table 1 and appendix D)."""

from __future__ import annotations

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.files import write_json
from dupmae.recipe.suites import EvaluateSuite
from dupmae.retriever import Retriever
from dupmae.suites.beir_sets import AVERAGES, FORUMS, KNOWN, MEASURES, SETS, find_sets, layout, open_set
from dupmae.suites.retrieval import evaluate_collection


def evaluate_beir(settings: EvaluateSuite, retriever: Retriever, out: Path) -> dict[str, Any]:
    """Measure every data set in a folder, and average over those that are whole.

    Returns:
        metrics (averages), sets (metrics, counts, licence of each), missing (published sets that are not there).

    Raises:
        DupmaeError: when there is no data set, one that was asked for is missing, or one is damaged.
    """
    if settings.data is None:
        raise DupmaeError("data is not given", where="beir", fix=f"name a folder with {layout()}")
    found = _chosen(find_sets(settings.data), settings)
    sets: dict[str, dict[str, Any]] = {}
    for name, folder in found.items():
        logger.info(f"-- {name}")
        collection = open_set(name, folder, settings)
        result = evaluate_collection(settings, collection, retriever, out / name)
        shown = {"metrics": result["metrics"], "counts": result["counts"], "official": result["official"]}
        sets[name] = shown | ({"licence": KNOWN[name].licence} if name in KNOWN else {})
    table = {name: told["metrics"] for name, told in sets.items()}
    result = {
        "suite": "beir",
        "metrics": averages(table, {name for name, told in sets.items() if told["official"]}),
        "main": MEASURES.main,
        "sets": sets,
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
