"""Index search against the plain way and the reference: `python -m benchmarks.search --json`.

The plain way is what one writes with numpy and scipy: both parts as float32 matrices in memory, multiplied
whole, then a partition. The reference is the loops of `tests.reference.scoring`, timed on a few hundred
passages and scaled to all. The vectors are random but shaped like a retriever's: term frequencies fall as in
text. The index must give the scores of the plain way, or the run fails.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array

from dupmae.corpus.beir import Passage
from dupmae.retriever.vectors import Encoded, Floats, Sparse
from dupmae.search.index import Index
from tests.reference import scoring

BATCH = 64
REFERENCE_PASSAGES = 300
T = TypeVar("T")


def main() -> None:
    """Build an index in a temporary folder, search it in all ways, print the figures."""
    options = _options()
    rng = np.random.default_rng(options.seed)
    passages = _vectors(rng, options.passages, options.top_k, options)
    queries = _vectors(rng, options.queries, options.query_terms, options)
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        index = _build(Path(folder) / "index", passages).snapshot
        built = time.perf_counter() - start
        scores, rate = _timed(lambda: index.nearest(queries, options.depth).scores, len(queries))
        few = [queries.rows(row, row + 1) for row in range(min(20, len(queries)))]
        _, one_by_one = _timed(lambda: [index.nearest(query, options.depth) for query in few], len(few))
        memory = _peak_memory(lambda: index.nearest(queries, options.depth))
        size = index.size_bytes()
    expected, plain = _timed(lambda: _plain_search(queries, passages, options.depth), len(queries))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    plain_memory = _peak_memory(lambda: _plain_search(queries, passages, options.depth))
    reference = _reference_rate(queries, passages)
    result = {
        "passages": len(passages),
        "queries": len(queries),
        "index_bytes": size,
        "build_seconds": built,
        "queries_per_second": rate,
        "single_query_milliseconds": 1000 / one_by_one,
        "search_memory_bytes": memory,
        "plain_search_memory_bytes": plain_memory,
        "plain_queries_per_second": plain,
        "reference_queries_per_second": reference,
        "ratio_to_plain": rate / plain,
        "ratio_to_reference": rate / reference,
    }
    print(json.dumps(result) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default, meaning in (
        ("passages", 12_000, "passages in the index"),
        ("queries", 256, "queries searched"),
        ("dimensions", 384, "width of the dense part"),
        ("vocabulary", 30_522, "width of the sparse part"),
        ("top-k", 384, "terms a passage keeps"),
        ("query-terms", 300, "terms of a query"),
        ("depth", 100, "passages found for each query"),
        ("seed", 0, "of the random vectors"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def _vectors(rng: np.random.Generator, rows: int, terms: int, options: argparse.Namespace) -> Encoded:
    """Random vectors that 16 bits hold exactly; `terms` distinct terms a row, frequencies falling by rank^0.8."""
    chances = -0.8 * np.log(np.arange(10, options.vocabulary + 10, dtype=np.float32))
    drawn = np.empty((rows, terms), np.int32)
    for start in range(0, rows, BATCH):
        part = drawn[start : start + BATCH]
        # The largest of log-chances plus Gumbel noise are a draw without replacement.
        noise = rng.standard_exponential((len(part), options.vocabulary), np.float32)
        keys = chances - np.log(np.maximum(noise, np.finfo(np.float32).tiny))
        part[:] = np.argpartition(-keys, terms - 1, axis=1)[:, :terms]
    drawn.sort(axis=1)
    impacts = rng.uniform(0.1, 1, rows * terms).astype(np.float16).astype(np.float32)
    starts = np.arange(0, rows * terms + 1, terms)
    dense = rng.normal(size=(rows, options.dimensions)).astype(np.float16).astype(np.float32)
    return Encoded(dense, csr_array((impacts, drawn.ravel(), starts), shape=(rows, options.vocabulary)))


def _build(folder: Path, passages: Encoded) -> Index:
    return Index.from_vectors(
        (Passage(str(number), "", "") for number in range(len(passages))),
        (passages.rows(start, start + BATCH) for start in range(0, len(passages), BATCH)),
        dimensions=passages.dense.shape[1],
        vocabulary=passages.sparse.shape[1],
        path=folder,
    )


def _plain_search(queries: Encoded, passages: Encoded, depth: int) -> Floats:
    """The best scores of each query, [Q, depth]."""
    words: Sparse = passages.sparse.T.tocsr()
    found = []
    for start in range(0, len(queries), BATCH):
        block = queries.rows(start, start + BATCH)
        scores = block.dense @ passages.dense.T + (block.sparse @ words).toarray()
        best = np.partition(scores, len(passages) - depth, axis=1)[:, -depth:]
        found.append(-np.sort(-best, axis=1))
    return np.concatenate(found)


def _reference_rate(queries: Encoded, passages: Encoded) -> float:
    """Queries per second of the loops over all passages, from one query and some passages."""
    some = passages.rows(0, REFERENCE_PASSAGES)
    dense, sparse = some.dense.tolist(), some.sparse.toarray().tolist()
    query_dense, query_sparse = queries.dense[0].tolist(), queries.sparse[0:1].toarray()[0].tolist()

    def search() -> list[int]:
        pairs = zip(dense, sparse, strict=True)
        return scoring.best_passages([scoring.hybrid_score(query_dense, d, query_sparse, s) for d, s in pairs], 100)

    return _timed(search, 1)[1] * len(some) / len(passages)


def _timed(work: Callable[[], T], count: int) -> tuple[T, float]:
    """The result of some work on `count` queries, and queries per second."""
    start = time.perf_counter()
    result = work()
    return result, count / (time.perf_counter() - start)


def _peak_memory(work: Callable[[], object]) -> int:
    """Bytes that some work holds at its peak beyond what was there before, as far as numpy allocates them."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def _table(result: dict[str, float]) -> str:
    return "\n".join(f"{name:30}{value:>16,.2f}" for name, value in result.items())


if __name__ == "__main__":
    main()
