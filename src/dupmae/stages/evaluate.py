"""`dupmae evaluate`: how well a retriever ranks the passages of a BEIR folder.

`evaluate_retriever` does it all; `score_run` is what judges a ranking.
"""

from __future__ import annotations

import time
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import load_split
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Qrels, Run, evaluate, refuse_partial
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, TAG, refuse_ids, write_run
from dupmae.files import write_json
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index
from dupmae.settings import Evaluate

METRICS = ("ndcg@10", "mrr@10", "recall@100", "map@100", "precision@10")
DEEPEST = max(int(metric.partition("@")[2]) for metric in METRICS)


def evaluate_retriever(settings: Evaluate) -> dict[str, Any]:
    """Rank all passages for the judged queries of a split; write metrics.json and run.trec, return the former.

    Returns:
        metrics; counts of queries, passages and judgements; queries_per_second (encoding and search), index_bytes;
        retriever (SHA-256 of its files); settings.

    Raises:
        DupmaeError: for data or a retriever that cannot be read, a depth that the metrics cannot be
            computed at, or when the file system refuses.
    """
    if settings.depth < DEEPEST:
        problem = f"recall@{DEEPEST} needs {DEEPEST} passages per query, not {settings.depth}"
        raise DupmaeError(problem, where="depth", fix=f"depth={DEEPEST} or more")
    passages, queries, qrels = load_split(settings.data, settings.split)
    refuse_ids(queries, "query", settings.data)
    refuse_ids((passage.id for passage in passages), "document", settings.data)
    own = OwnDocuments(queries, qrels)
    own.add(passages)
    retriever = Retriever.load(settings.retriever)
    logger.info(f"ranking {len(passages):,} passages for {len(queries):,} queries")
    index = Index.build(retriever, passages, batch_tokens=settings.batch_tokens)
    start = time.perf_counter()
    run = index.run(queries, settings.depth + own.most)
    speed = len(run) / (time.perf_counter() - start)
    run = {query: own.ranked(query, scores, settings.depth) for query, scores in run.items()}
    counts = {"queries": len(queries), "passages": len(passages), "judgements": sum(map(len, qrels.values()))}
    result = {
        "metrics": score_run(qrels, run),
        "counts": counts,
        "queries_per_second": round(speed, 1),
        "index_bytes": index.snapshot.size_bytes(),
        "retriever": retriever.fingerprint(),
        "settings": settings.model_dump(mode="json"),
    }
    write_run(settings.out / RUN_FILE, run, TAG)
    write_json(settings.out / METRICS_FILE, result)
    return result


def score_run(qrels: Qrels, run: Run) -> dict[str, float]:
    """Average `METRICS` over the judged queries.

    Raises:
        DupmaeError: when the run lacks a judged query: a missing ranking is a fault, no failure of the system.
    """
    refuse_partial(qrels, run)
    return evaluate(qrels, run, METRICS)
