"""`dupmae rerank`: a TREC run in a cross-encoder's order."""

from __future__ import annotations

from typing import Any

from dupmae.corpus.beir import load_split
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Run, ranking
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, read_run, write_run
from dupmae.files import write_json
from dupmae.settings import Rerank
from dupmae.stages.evaluate import score_run
from dupmae.stages.train_reranker import check_installed, open_teacher, score_groups

TAG = "cross-encoder"


def rerank(settings: Rerank) -> dict[str, Any]:
    """Put the best passages of a TREC run in a cross-encoder's order, write the new run and its metrics.

    Raises:
        DupmaeError: for data or a run that cannot be read, and a run of other queries or passages.
    """
    check_installed()
    passages, queries, qrels = load_split(settings.data, settings.split)
    run = {query: ranking(found)[: settings.depth] for query, found in read_run(settings.run).items()}
    texts = {passage.id: passage.content for passage in passages}
    for kind, named, known in (("query", run, queries), ("passage", {p for f in run.values() for p in f}, texts)):
        unknown = next((name for name in named if name not in known), None)
        if unknown is not None:
            fix = f"it is not in {settings.data}"
            raise DupmaeError(f"unknown {kind} {unknown}", where=settings.run, fix=fix)
    model = open_teacher(str(settings.teacher), settings.length)
    found: Run = dict(score_groups(model, list(run.items()), queries, texts))
    result = {"metrics": score_run(qrels, found), "settings": settings.model_dump(mode="json")}
    write_run(settings.out / RUN_FILE, found, TAG)
    write_json(settings.out / METRICS_FILE, result)
    return result
