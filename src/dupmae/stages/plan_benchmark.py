"""`dupmae plan suite=NAME`: how long a benchmark takes at its full size, reckoned from a sample of its corpus.

The sample is encoded and searched here; time and disk grow with the number of passages, the search with that of the
queries too. On a GPU the encoding is counted work divided by its peak and the share of it that is reached, or the
tokenising where that takes longer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from dupmae.corpus import beir
from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import SUITES, Suite
from dupmae.evaluation.benchmarks.official_files import Folder
from dupmae.retriever.model import Retriever
from dupmae.retriever.vectors import Encoded
from dupmae.search.index import Index
from dupmae.settings import PlanSuite
from dupmae.shards.tokenise import Tokenisation
from dupmae.stages.plan import ASSUMED_UTILISATION, PUBLISHED_PEAKS, SECONDS_PER_HOUR
from dupmae.training.flops import Shape, Texts, encoder_forward, vocabulary_forward

# A search over few passages is mostly what each query costs anyway: the sample is repeated to this many.
SEARCHED = 20_000
QUERIES = 64
QUERY_WORDS = 8


@dataclass(frozen=True)
class PlannedSuite:
    """The plan of a suite.

    Attributes:
        passages: of the whole corpus.
        tokens: of a passage, mean of the sample, after cutting.
        flops: operations of encoding, counted.
        encoding_source: `measured` on this machine, or with `published` peak and `assumed` or `given` utilisation.
        tokenising_hours: of this machine; part of `encoding_hours`.
        encoding_hours, searching_hours: of all accelerators together, and of this machine.
        bytes: of all shards, texts included.
        cost: price of the encoding, None without a price.
    """

    passages: int
    queries: int
    tokens: float
    flops: float
    encoding_source: str
    tokenising_hours: float
    encoding_hours: float
    searching_hours: float
    bytes: int
    cost: float | None


def plan_suite(settings: PlanSuite) -> PlannedSuite:
    """Measure on a sample and reckon the whole.

    Raises:
        DupmaeError: for a retriever or data that cannot be read, or fewer passages than the sample.
    """
    suite = SUITES[settings.suite]
    documents = _sample(settings, suite)
    passages = list(chain.from_iterable(documents))
    retriever = Retriever.load(settings.retriever)
    texts = [passage.content for passage in passages]
    whole = round(suite.documents * len(passages) / len(documents))
    known = retriever.settings
    begin = time.perf_counter()
    lengths = Tokenisation(retriever.tokenizer)(texts, known.passage_length, known.passage_prefix).lengths
    tokenising = (time.perf_counter() - begin) * whole / len(passages)
    flops = _flops(retriever, lengths.tolist()) * whole / len(passages)
    retriever.encode_passages(texts[: len(texts) // 10])  # pays for what only the first call costs
    begin = time.perf_counter()
    encoded = retriever.encode_passages(texts)
    seconds = (time.perf_counter() - begin) * whole / len(passages)
    source = "measured"
    if settings.gpu != "cpu":
        share = settings.utilisation or ASSUMED_UTILISATION
        # Texts are tokenised while the block before them is encoded: the slower of the two decides.
        seconds = max(tokenising, flops / (PUBLISHED_PEAKS[settings.gpu] * settings.count * share))
        source = f"peak published, {share:.0%} of it {'given' if settings.utilisation else 'assumed'}"
    searching, size = _searched(retriever, encoded, passages)
    hours = seconds / SECONDS_PER_HOUR
    return PlannedSuite(
        passages=whole,
        queries=suite.queries,
        tokens=float(lengths.mean()),
        flops=flops,
        encoding_source=source,
        tokenising_hours=tokenising / SECONDS_PER_HOUR,
        encoding_hours=hours,
        searching_hours=searching * whole * suite.queries / SECONDS_PER_HOUR,
        bytes=round(size * whole),
        cost=None if settings.price is None else settings.price * hours * settings.count,
    )


def _sample(settings: PlanSuite, suite: Suite) -> list[list[Passage]]:
    """The first documents of the suite's own corpus where it lies in the folder, else of a BEIR folder or jsonl."""
    corpus = Folder(settings.data).find(suite.files[0]) if settings.data.is_dir() else None
    if corpus is not None:
        documents = suite.corpus(corpus, settings.passage_words)
    else:
        documents = ([passage] for _, passage in beir.stream_corpus(settings.data))
    found = list(islice(documents, settings.sample))
    if len(found) < settings.sample:
        problem = f"has {len(found):,} of {settings.sample:,} passages"
        raise DupmaeError(problem, where=settings.data, fix=f"sample={len(found)}, or give more text")
    return found


def _flops(retriever: Retriever, lengths: Sequence[int]) -> float:
    """Operations to encode texts of these lengths."""
    shape, texts = Shape.of(retriever.encoder.backbone.lm.config), Texts.of(lengths)
    sparse = vocabulary_forward(shape, texts.ordinary) if retriever.encoder.has_sparse else 0.0
    return encoder_forward(shape, texts) + sparse


def _searched(retriever: Retriever, encoded: Encoded, passages: Sequence[Passage]) -> tuple[float, float]:
    """Seconds of searching for a query and a passage, and bytes on disk of a passage."""
    copies = -(-SEARCHED // len(passages))
    texts = [" ".join(passage.content.split()[:QUERY_WORDS]) for passage in passages[:QUERIES]]
    queries = retriever.encode_queries(texts)
    with tempfile.TemporaryDirectory(prefix="dupmae-") as scratch:
        folder, rows = Path(scratch) / "index", copies * len(passages)
        documents = (
            replace(passage, id=f"{copy}-{number}") for copy in range(copies) for number, passage in enumerate(passages)
        )
        index = Index.from_vectors(
            documents,
            (encoded for _ in range(copies)),
            dimensions=retriever.dimensions,
            vocabulary=retriever.vocabulary,
            path=folder,
        ).snapshot
        index.nearest(queries, 1000)
        begin = time.perf_counter()
        index.nearest(queries, 1000)
        seconds = time.perf_counter() - begin
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return seconds / (len(texts) * rows), size / rows
