"""`dupmae mine`: hard negatives of every training query, by BM25 or a retriever, written by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dupmae.console import logger
from dupmae.corpus.negatives import MinedQuery, Scores, read_scores, score_of, write_mined
from dupmae.corpus.training_data import TrainingData, open_training
from dupmae.retriever.model import Retriever
from dupmae.settings import Mine
from dupmae.training.candidates import BM25Ranker, Candidates, Ranker, RetrieverRanker, best_negatives

NEGATIVES = "negatives.jsonl"


@dataclass(frozen=True)
class Mined:
    """What mining leaves: its file, the queries in it, all their negatives, and the queries left without any."""

    file: Path
    queries: int
    negatives: int
    without: int


def mine(settings: Mine) -> Mined:
    """Find the best passages that answer no query wrongly called negatives, and write their ids to `out`.

    Positives and copies of their texts are never among them. With a teacher, candidates that it scores within
    `margin` of the query's lowest positive go as well: those are answers that nobody judged.

    Raises:
        DupmaeError: for data, a retriever or scores that cannot be read, unknown ids, a blank positive, or a
            pair that the teacher did not score.
    """
    data = open_training(settings.data, settings.split)
    texts = list(data.queries.values())
    logger.info(f"mining negatives of {len(texts):,} queries with {settings.retriever or 'BM25'}")

    ranker = _ranker(settings, texts)
    candidates = best_negatives(data, ranker, settings.depth, block=settings.block)
    counts: list[int] = []

    def counted() -> Iterator[MinedQuery]:
        for item in _filtered(settings, data, candidates):
            counts.append(len(item.negatives))
            yield item

    file = settings.out / NEGATIVES
    write_mined(file, counted())
    if settings.retriever is None and 2 * counts.count(0) > len(counts):
        said = "BM25 finds no negative for %d of %d queries: mine with a retriever"
        logger.warning(said, counts.count(0), len(counts))
    return Mined(file, len(counts), sum(counts), counts.count(0))


def _ranker(settings: Mine, queries: Sequence[str]) -> Ranker:
    if settings.retriever is None:
        return BM25Ranker(queries)
    return RetrieverRanker(Retriever.load(settings.retriever), queries)


def _filtered(settings: Mine, data: TrainingData, candidates: Candidates) -> Iterator[MinedQuery]:
    scores = None if settings.scores is None else read_scores(settings.scores)
    for row, query in enumerate(data.queries):
        names, values = candidates.of(row)
        item = MinedQuery(query, data.positives[query], names, values)
        yield item if scores is None else _far_enough(item, scores, settings)


def _far_enough(item: MinedQuery, scores: Scores, settings: Mine) -> MinedQuery:
    """The query with those negatives alone that the teacher puts `margin` below its lowest positive."""
    path = settings.scores
    assert path is not None
    limit = min(score_of(scores, item.query, name, path) for name in item.positives) - settings.margin
    kept = [
        (name, score)
        for name, score in zip(item.negatives, item.scores, strict=True)
        if score_of(scores, item.query, name, path) <= limit
    ]
    return MinedQuery(item.query, item.positives, [name for name, _ in kept], [score for _, score in kept])
