"""`dupmae evaluate`: how well a retriever, an index or BM25 ranks the passages of a BEIR folder.

`evaluate_retriever` does it all; `score_run` is what judges a ranking.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import Passage, load_split
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Qrels, Run, evaluate, refuse_partial
from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE, TAG, refuse_ids, write_run
from dupmae.files import write_json
from dupmae.retriever.model import Retriever
from dupmae.search.bm25 import BM25
from dupmae.search.index import Index
from dupmae.search.snapshot import PARTS
from dupmae.search.topk import NOTHING
from dupmae.settings import Evaluate

METRICS = ("ndcg@10", "mrr@10", "recall@100", "map@100", "precision@10")
DEEPEST = max(int(metric.partition("@")[2]) for metric in METRICS)


@dataclass(frozen=True)
class _Ranked:
    """A run, the seconds it took (encoding of the queries included), bytes of the index, SHA-256 of the retriever."""

    run: Run
    seconds: float
    index_bytes: int
    retriever: dict[str, str] = field(default_factory=dict)


def evaluate_retriever(settings: Evaluate) -> dict[str, Any]:
    """Rank all passages for the judged queries of a split; write metrics.json and run.trec, return the former.

    Returns:
        metrics; counts of queries, passages and judgements; queries_per_second, their encoding included; index_bytes
        of the part that was measured; retriever (SHA-256 of its files); settings.

    Raises:
        DupmaeError: for data, a retriever or an index that cannot be read or do not belong together, a depth that the
            metrics cannot be computed at, or when the file system refuses.
    """
    if settings.depth < DEEPEST:
        problem = f"recall@{DEEPEST} needs {DEEPEST} passages per query, not {settings.depth}"
        raise DupmaeError(problem, where="depth", fix=f"depth={DEEPEST} or more")
    passages, queries, qrels = load_split(settings.data, settings.split)
    refuse_ids(queries, "query", settings.data)
    refuse_ids((passage.id for passage in passages), "document", settings.data)
    own = OwnDocuments(queries, qrels)
    own.add(passages)
    logger.info(f"ranking {len(passages):,} passages for {len(queries):,} queries")
    ranked = _ranked(settings, passages, queries, settings.depth + own.most)
    run = {query: own.ranked(query, scores, settings.depth) for query, scores in ranked.run.items()}
    counts = {"queries": len(queries), "passages": len(passages), "judgements": sum(map(len, qrels.values()))}
    result = {
        "metrics": score_run(qrels, run),
        "counts": counts,
        "queries_per_second": round(len(queries) / ranked.seconds, 1),
        "index_bytes": ranked.index_bytes,
        "retriever": ranked.retriever,
        "settings": settings.model_dump(mode="json"),
    }
    write_run(settings.out / RUN_FILE, run, TAG)
    write_json(settings.out / METRICS_FILE, result)
    return result


def _ranked(settings: Evaluate, passages: Sequence[Passage], queries: Mapping[str, str], depth: int) -> _Ranked:
    if settings.bm25:
        return _by_bm25(passages, queries, depth)
    if settings.index is not None:
        index = Index.open(settings.index)
        if {document.id for document in index.snapshot.documents()} != {passage.id for passage in passages}:
            problem = f"does not hold the passages of {settings.data}"
            raise DupmaeError(problem, where=settings.index, fix="name an index of the same folder")
    else:
        assert settings.retriever is not None
        index = Index.build(Retriever.load(settings.retriever), passages, batch_tokens=settings.batch_tokens)
    retriever = index.retriever
    start = time.perf_counter()
    run = index.run(queries, depth, weights=PARTS[settings.part])
    seconds = time.perf_counter() - start
    return _Ranked(run, seconds, index.snapshot.size_bytes(settings.part), retriever.fingerprint())


def _by_bm25(passages: Sequence[Passage], queries: Mapping[str, str], depth: int) -> _Ranked:
    bm25 = BM25([passage.content for passage in passages])
    start = time.perf_counter()
    numbers, scores = bm25.search(list(queries.values()), depth)
    seconds = time.perf_counter() - start
    run = {
        query: {passages[number].id: value for number, value in zip(row, values, strict=True) if number != NOTHING}
        for query, row, values in zip(queries, numbers.tolist(), scores.tolist(), strict=True)
    }
    return _Ranked(run, seconds, bm25.size_bytes)


def score_run(qrels: Qrels, run: Run) -> dict[str, float]:
    """Average `METRICS` over the judged queries.

    Raises:
        DupmaeError: when the run lacks a judged query: a missing ranking is a fault, no failure of the system.
    """
    refuse_partial(qrels, run)
    return evaluate(qrels, run, METRICS)
