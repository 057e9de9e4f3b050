"""An encoder that costs nothing, a collection made up as it is read, and a run of both that says what it took.

`main` encodes and searches so many passages and prints the growth of its process's memory and a digest of the ranking;
when it has begun `stop` shards it kills itself, 0: never.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from dupmae.corpus.beir import Passage
from dupmae.evaluation.benchmarks.collections import Collection, Measures
from dupmae.evaluation.benchmarks.ranking import Ranking, search
from dupmae.evaluation.benchmarks.sharded import encode_corpus, survey
from dupmae.evaluation.runs import write_run
from dupmae.memory import peak_bytes
from dupmae.retriever.vectors import Encoded

DIMENSIONS, VOCABULARY, TERMS = 128, 500, 8
# A hundredth of MS MARCO's development queries, and the depth of its suite.
MANY, DEPTH = {f"q{n}": f"query {n}" for n in range(70)}, 1000


class Stub:
    """Vectors drawn from the text's hash; raises or kills the process once `stop` shards were begun."""

    dimensions, vocabulary = DIMENSIONS, VOCABULARY

    def __init__(self, stop: int = 0, *, kill: bool = False) -> None:
        self.calls, self._stop, self._kill = 0, stop, kill

    def passage_batches(self, texts: Sequence[str], *, batch_tokens: int | None = None) -> Iterator[Encoded]:
        self.calls += 1
        for start in range(0, len(texts), 1000):
            yield vectors(texts[start : start + 1000])
            if self._stop and self.calls == self._stop:
                if self._kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt


def vectors(texts: Sequence[str]) -> Encoded:
    """Small whole numbers, so that no sum is rounded and equal scores are common; each from its text alone."""
    seeds = np.array([hash_of(text) for text in texts], dtype=np.uint64)[:, None]
    # A multiplicative hash for each column is all the randomness that is needed, and fast.
    places = np.arange(1, DIMENSIONS + TERMS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (seeds + places) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(31)
    dense = (mixed[:, :DIMENSIONS] % np.uint64(5)).astype(np.float32) - 2
    width = VOCABULARY // TERMS
    terms = (mixed[:, DIMENSIONS:] % np.uint64(width)).astype(np.int64) + width * np.arange(TERMS)
    ends = np.arange(len(texts) + 1) * TERMS
    values = np.ones(terms.size, np.float32)
    return Encoded(dense, csr_array((values, terms.ravel(), ends), shape=(len(texts), VOCABULARY)))


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def collection(passages: int, **given: object) -> Collection:
    """`passages` passages of 300 characters, the queries and nothing to judge them by."""

    def stream() -> Iterator[list[Passage]]:
        for number in range(passages):
            yield [Passage(f"p{number}", "", f"{number} " + "word" * 75)]

    values = {
        "name": "made up",
        "corpus": Path("made-up"),
        "stream": stream,
        "queries": {f"q{n}": f"query {n}" for n in range(5)},
        "measures": Measures("recall@10"),
    }
    return Collection(**{**values, **given})  # type: ignore[arg-type]


def digest_of(ranking: Ranking) -> str:
    """A fingerprint of ids, order and scores."""
    return hashlib.sha256(json.dumps({query: ranking[query] for query in ranking}).encode()).hexdigest()


def main(folder: Path, passages: int, shard: int, stop: int) -> None:
    data = collection(passages, queries=MANY)
    before = peak_bytes()
    found = survey(data, official=False)
    shards = encode_corpus(folder, data, Stub(stop, kill=True), record={}, found=found, block=shard)
    ranking = search(shards, data, vectors(list(data.queries.values())), DEPTH, positive=False)
    write_run(folder / "run.trec", ranking, "stub")
    print(json.dumps({"grown": peak_bytes() - before, "digest": digest_of(ranking), "encoded": shards.encoded}))
