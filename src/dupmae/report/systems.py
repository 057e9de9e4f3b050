"""Several systems on the same queries: rankings, metrics, speed, size, and how they differ."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dupmae.corpus.beir import load_split
from dupmae.evaluation.metrics import Run, per_query, ranking
from dupmae.evaluation.runs import write_run
from dupmae.evaluation.significance import paired_randomization
from dupmae.retriever.model import Retriever
from dupmae.search.bm25 import BM25
from dupmae.search.index import Index
from dupmae.search.snapshot import PARTS, Part
from dupmae.search.topk import NOTHING

METRICS = ("ndcg@10", "mrr@10", "recall@100")
COMPARED = "ndcg@10"
DEPTH = 100
EXAMPLES = 10
LABELS = {
    "bm25": "BM25",
    "base": "encoder as it comes",
    "finetuned-dense": "fine-tuned dense",
    "no-pretraining": "hybrid without pre-training",
    "dupmae-dense": "DupMAE, dense part",
    "dupmae-sparse": "DupMAE, sparse part",
    "dupmae-hybrid": "DupMAE hybrid",
}
BEST = "dupmae-hybrid"


@dataclass(frozen=True)
class System:
    """One system's metrics for every test query [Q], its speed and the size of its index."""

    metrics: dict[str, np.ndarray]
    queries_per_second: float
    index_bytes: int


class Judge:
    """Measures systems on the test split of a BEIR folder.

    Rankings go to `rankings/NAME.trec` as they come; of them all only the best system's stays in memory.
    """

    def __init__(self, data: Path, rankings: Path) -> None:
        self.passages, queries, self.qrels = load_split(data, "test")
        self.query_ids = list(self.qrels)
        self.queries = [queries[query] for query in self.query_ids]
        self.rankings = rankings
        self._systems: dict[str, System] = {}
        self._best: Run = {}

    def bm25(self) -> None:
        """Rank with BM25 over title and text."""
        bm25 = BM25([passage.content for passage in self.passages])
        start = time.perf_counter()
        places, scores = bm25.search(self.queries, DEPTH)
        seconds = time.perf_counter() - start
        run = {
            query: {
                self.passages[place].id: float(score)
                for place, score in zip(row, row_scores, strict=True)
                if place != NOTHING
            }
            for query, row, row_scores in zip(self.query_ids, places, scores, strict=True)
        }
        self._keep("bm25", run, seconds, bm25.size_bytes)

    def retriever(self, name: str, folder: Path) -> None:
        """Rank with a retriever over an index in memory."""
        self._rank({name: "hybrid"}, Index.build(Retriever.load(folder), self.passages))

    def hybrid(self, prefix: str, index: Index) -> None:
        """Rank with the dense part, the sparse part and both of one index."""
        parts: tuple[Part, ...] = ("dense", "sparse", "hybrid")
        self._rank({f"{prefix}-{part}": part for part in parts}, index)

    def _rank(self, names: dict[str, Part], index: Index) -> None:
        """Encode the queries once and rank them by each named part; a part's speed includes the encoding."""
        start = time.perf_counter()
        encoded = index.encode_queries(self.queries)
        encoding = time.perf_counter() - start
        for name, part in names.items():
            start = time.perf_counter()
            run = index.rank(self.query_ids, encoded, DEPTH, weights=PARTS[part])
            seconds = encoding + time.perf_counter() - start
            self._keep(name, run, seconds, index.snapshot.size_bytes(part))

    def _keep(self, name: str, run: Run, seconds: float, index_bytes: int) -> None:
        values = per_query(self.qrels, run, METRICS)
        metrics = {metric: np.array([of[query] for query in self.query_ids]) for metric, of in values.items()}
        self._systems[name] = System(metrics, len(run) / seconds, index_bytes)
        write_run(self.rankings / f"{name}.trec", run, name)
        if name == BEST:
            self._best = run

    def table(self) -> dict[str, dict[str, Any]]:
        """Metrics, speed and size by system, in the report's order."""
        return {
            name: {
                "label": label,
                **{metric: float(of.mean()) for metric, of in self._systems[name].metrics.items()},
                "queries_per_second": round(self._systems[name].queries_per_second, 1),
                "index_bytes": self._systems[name].index_bytes,
            }
            for name, label in LABELS.items()
        }

    def p_values(self) -> dict[str, float]:
        """Two-sided paired randomisation of the DupMAE hybrid's nDCG@10 against every other system's, uncorrected."""
        best = self._systems[BEST].metrics[COMPARED]
        others = [name for name in LABELS if name != BEST]
        return {
            f"hybrid_vs_{name.replace('-', '_')}": paired_randomization(best, self._systems[name].metrics[COMPARED])
            for name in others
        }

    def examples(self, index: Index, seed: int) -> list[dict[str, Any]]:
        """Ten test queries drawn at random with what an index finds for them."""
        chosen = np.random.default_rng(seed).choice(len(self.queries), min(EXAMPLES, len(self.queries)), replace=False)
        return [self._example(index, int(place)) for place in chosen]

    def _example(self, index: Index, place: int) -> dict[str, Any]:
        query = self.query_ids[place]
        (expected,) = [p for p in self.passages if p.id == next(iter(self.qrels[query]))]
        found = ranking(self._best[query])
        hits = index.search(self.queries[place], k=3)
        return {
            "query": self.queries[place],
            "expected": {"id": expected.id, "title": expected.title},
            "rank": found.index(expected.id) + 1 if expected.id in found else None,
            "results": [
                {
                    "id": hit.id,
                    "title": hit.title,
                    "text": hit.text,
                    "score": hit.score,
                    "dense": hit.dense,
                    "sparse": hit.sparse,
                    "words": [[word.token, word.weight] for word in hit.words[:8]],
                }
                for hit in hits
            ],
        }
