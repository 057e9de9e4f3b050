"""A retriever on a collection: looked at, encoded shard by shard, searched, measured, written.

`prepared` does all that can refuse a collection, `measured` the rest; `evaluate_collection` is both.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import Collection
from dupmae.evaluation.benchmarks.ranking import Ranking, answered, search
from dupmae.evaluation.benchmarks.sharded import Shards, Survey, encode_corpus, survey
from dupmae.evaluation.benchmarks.suite_results import (
    PER_QUERY_FILE,
    Values,
    cached,
    key_of,
    means,
    measure,
    sha256_of,
    write,
)
from dupmae.evaluation.metrics import ranking as best_first
from dupmae.evaluation.runs import RUN_FILE
from dupmae.files import remove_folder
from dupmae.retriever.model import Retriever
from dupmae.search.blocks import PATH
from dupmae.settings.benchmarks import EvaluateSuite

Result = dict[str, Any]
# The options that rankings or their refusal depend on, with the depth.
DECIDING = {"part", "official", "split", "passage_words", "shard", "batch_tokens"}
# Raised when the same retriever and corpus would be encoded otherwise.
SHARDS_VERSION = 1


@dataclass(frozen=True)
class Prepared:
    """A collection that can be measured on.

    Attributes:
        settings: those of the suite, `data` being the folder to find the collection in again.
        out: folder for the results.
        depth: passages kept per query.
        data: SHA-256 of the collection's files.
        key: fingerprint of all that decides the numbers.
        found: what the corpus holds, or the result when it was measured before.
    """

    settings: EvaluateSuite
    collection: Collection
    out: Path
    depth: int
    data: dict[str, str]
    key: str
    found: Survey | Result


def evaluate_collection(settings: EvaluateSuite, collection: Collection, retriever: Retriever, out: Path) -> Result:
    """Rank the whole corpus for every query and write what comes of it to `out`; from the cache when it is there.

    Returns:
        metrics, counts, retriever (SHA-256 of its files), data (the same of the data's), notes, settings, seconds.

    Raises:
        DupmaeError: as `prepared`, or when the file system refuses.
    """
    return measured(prepared(settings, collection, retriever, out), retriever)


def prepared(settings: EvaluateSuite, collection: Collection, retriever: Retriever, out: Path) -> Prepared:
    """Look through a collection before hours are spent on it.

    Raises:
        DupmaeError: for data that is damaged or not whole, or a depth that the metrics cannot be computed at.
    """
    deepest = collection.measures.deepest
    depth = settings.depth or deepest
    if depth < deepest:
        problem = f"{collection.name} needs {deepest:,} passages per query, not {depth:,}"
        raise DupmaeError(problem, where="depth", fix=f"depth={deepest} or more")
    data = sha256_of(collection.files)
    options = settings.model_dump(mode="json", include=DECIDING) | {"depth": depth}
    key = key_of(suite=collection.name, retriever=retriever.fingerprint(), data=data, options=options)
    known = cached(out, key, (RUN_FILE, PER_QUERY_FILE))
    found = survey(collection, official=settings.official) if known is None else known
    return Prepared(settings, collection, out, depth, data, key, found)


def measured(ready: Prepared, retriever: Retriever) -> Result:
    """Encode, search, measure and write, unless that was done before."""
    if not isinstance(ready.found, Survey):
        return ready.found
    settings, collection = ready.settings, ready.collection
    shards = _encoded(settings, collection, retriever, ready.data, ready.found)
    logger.info(f"ranking {shards.passages:,} passages for {len(collection.queries):,} queries")
    begin = time.perf_counter()
    queries = retriever.encode_queries(list(collection.queries.values()), batch_tokens=settings.batch_tokens)
    positive = retriever.dimensions == 0 or settings.part == "sparse"
    ranking = search(
        shards, collection, queries, ready.depth, own=ready.found.own, part=settings.part, positive=positive
    )
    searching = time.perf_counter() - begin
    values = _values(collection, shards, ranking)
    result = {
        "suite": collection.name,
        "metrics": means(values),
        "main": collection.measures.main,
        "counts": _counts(collection, shards),
        "official": collection.official and shards.documents == collection.documents,
        "notes": list(collection.notes),
        "retriever": retriever.fingerprint(),
        "data": ready.data,
        "settings": settings.model_dump(mode="json") | {"out": str(ready.out)},
        "seconds": {"encoding": shards.seconds, "encoded_passages": shards.encoded, "searching": searching},
        "key": ready.key,
    }
    result = write(ready.out, result, values, ranking)
    if not settings.keep_shards:
        remove_folder(shards.folder)
    return result


def _encoded(
    settings: EvaluateSuite, collection: Collection, retriever: Retriever, data: dict[str, str], found: Survey
) -> Shards:
    """The corpus encoded, in a folder that other suites of the same corpus use as well."""
    assert retriever.folder is not None, "its fingerprint was taken"
    home = settings.shards or settings.retriever.with_name(f"{settings.retriever.resolve().name}-shards")
    corpus = data[collection.corpus.name]
    cut = {"passage_words": settings.passage_words} if collection.grouped else {}
    sizes = {"shard": settings.shard, "batch_tokens": settings.batch_tokens}
    fingerprint = retriever.fingerprint()
    folder = home / key_of(version=SHARDS_VERSION, retriever=fingerprint, corpus=corpus, **cut, **sizes)[:20]
    path = Path(os.path.relpath(retriever.folder.resolve(), (folder / "shard").resolve())).as_posix()
    return encode_corpus(
        folder,
        collection,
        retriever,
        record={PATH: path, **fingerprint},
        found=found,
        block=settings.shard,
        batch_tokens=settings.batch_tokens,
    )


def _values(collection: Collection, shards: Shards, ranking: Ranking) -> Values:
    if collection.qrels:
        return measure(collection.measures, collection.qrels, ranking)
    hits = answered(shards, ranking, collection.answers)
    values: Values = {metric: {} for metric in collection.measures.binary}
    for row, query in enumerate(ranking.queries):
        # In the order that the run file has, where ties are broken by id.
        right = dict(zip(ranking.names(query), hits[row].tolist(), strict=False))
        found = [right[name] for name in best_first(ranking[query])]
        for metric in values:
            values[metric][query] = float(any(found[: int(metric.partition("@")[2])]))
    return values


def _counts(collection: Collection, shards: Shards) -> dict[str, int]:
    counts = {"queries": len(collection.queries), collection.unit: shards.documents}
    if collection.grouped:
        counts["passages"] = shards.passages
    if collection.qrels:
        counts |= {"judgements": collection.judgements, "relevant_not_in_corpus": shards.missing}
    return counts
