"""`merge`: one ranking of two or more systems, with its metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae.corpus.beir import load_split
from dupmae.errors import DupmaeError
from dupmae.evaluation.fusion import choose_weights, reciprocal_ranks, weighted
from dupmae.evaluation.metrics import Qrels, Run
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, read_run, write_run
from dupmae.files import read_json, write_json
from dupmae.settings import Merge
from dupmae.stages.evaluate import score_run

TAG = "merged"


def merge(settings: Merge) -> dict[str, Any]:
    """Merge runs, by reciprocal ranks or with weights that the dev queries choose; write metrics.json and run.trec.

    Returns:
        As `evaluate_retriever`, with the weights, none for reciprocal ranks. The merged system has the queries a
        second of its members one after another, and the sum of their index_bytes.

    Raises:
        DupmaeError: for data or runs that cannot be read, or that do not belong together.
    """
    passages, _, qrels = load_split(settings.data, settings.split)
    runs = [_read(folder, qrels) for folder in settings.runs]
    weights: tuple[float, ...] | None = None
    if settings.dev_runs:
        dev_qrels = load_split(settings.data, settings.dev_split)[2]
        weights = choose_weights(dev_qrels, [_read(run, dev_qrels) for run in settings.dev_runs], settings.depth)
        run = weighted(runs, weights, settings.depth)
    else:
        run = reciprocal_ranks(runs, settings.depth)
    run = {query: run.get(query, {}) for query in qrels}
    members = [read_json(folder / METRICS_FILE) for folder in settings.runs]
    result = {
        "metrics": score_run(qrels, run),
        "counts": {"queries": len(qrels), "passages": len(passages), "judgements": sum(map(len, qrels.values()))},
        "queries_per_second": round(1 / sum(1 / float(member["queries_per_second"]) for member in members), 1),
        "index_bytes": sum(int(member["index_bytes"]) for member in members),
        "weights": weights,
        "settings": settings.model_dump(mode="json"),
    }
    write_run(settings.out / RUN_FILE, run, TAG)
    write_json(settings.out / METRICS_FILE, result)
    return result


def _read(folder: Path, qrels: Qrels) -> Run:
    """A run's rankings of the judged queries, none of which it may lack altogether."""
    run = read_run(folder / RUN_FILE)
    if not run.keys() & qrels.keys():
        raise DupmaeError("ranks none of the judged queries", where=folder, fix="name runs of the same data and split")
    return {query: run.get(query, {}) for query in qrels}
