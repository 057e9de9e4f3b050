"""The data that results were measured on: judgements, texts by id, and BM25 as one more system.

The corpus is gone through as a stream, so that memory holds only the texts asked for and one block of documents.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection as Ids
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from dupmae.console import track
from dupmae.corpus.beir import Passage
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.answers import holds_answer, joined
from dupmae.evaluation.benchmarks.beir_sets import open_set
from dupmae.evaluation.benchmarks.collections import Collection, Measures, document_name, open_collection
from dupmae.evaluation.benchmarks.suite_results import Values, measure
from dupmae.evaluation.metrics import Run, ranking
from dupmae.search.bm25 import BM25
from dupmae.search.topk import NOTHING, merge_topk
from dupmae.settings.benchmarks import EvaluateSuite

# Documents whose words are held at once: about 100 MB of them.
BLOCK = 20_000


class Judged:
    """A collection to compare on.

    Attributes:
        collection: its queries, judgements or answers, and its corpus.
        path: the folder, for messages.
    """

    def __init__(self, collection: Collection, path: Path) -> None:
        self.collection, self.path = collection, path
        self.queries = collection.queries

    def relevant(self, query: str) -> list[str]:
        """Ids of the documents that answer a query, the best ones first; none where only answers are known."""
        grades = self.collection.qrels.get(query, {})
        right = [name for name, grade in grades.items() if grade > 0]
        return sorted(right, key=lambda name: -grades[name])

    def right(self, query: str, order: Sequence[str], texts: Mapping[str, Passage]) -> list[str]:
        """The documents of a ranking that answer the query; `texts` must have them where answers decide."""
        if not self.collection.answers:
            relevant = set(self.relevant(query))
            return [name for name in order if name in relevant]
        answers = [joined(answer) for answer in self.collection.answers[query]]
        return [name for name in order if name in texts and holds_answer(joined(texts[name].text), answers)]

    def documents(self, wanted: Ids[str]) -> dict[str, Passage]:
        """Those of some ids that the corpus has, found in one pass."""
        names = set(wanted)
        found = (document for block in self._blocks("reading texts") for document in block if document.id in names)
        return {document.id: document for document in found}

    def measure(self, run: Run) -> Values:
        """Every metric of the collection for every query, as its suite defines them.

        Raises:
            DupmaeError: when the run lacks a query.
        """
        if self.collection.qrels:
            return measure(self.collection.measures, self.collection.qrels, run)
        texts = self.documents({name for found in run.values() for name in found})
        values: Values = {metric: {} for metric in self.collection.measures.binary}
        for query in self.queries:
            order = ranking(run[query])
            right = set(self.right(query, order, texts))
            for metric in values:
                values[metric][query] = float(not right.isdisjoint(order[: int(metric.partition("@")[2])]))
        return values

    def bm25(self, depth: int) -> Run:
        """Rank all documents with BM25 over title and text: query id -> the `depth` best ones with scores."""
        model = BM25.of_queries(list(self.queries.values()))
        own = OwnDocuments(self.queries if self.collection.drops_own else {}, self.collection.qrels)
        for block in self._blocks("counting words"):
            model.count([document.content for document in block])
            own.add(block)
        wanted = depth + own.most
        scores = np.zeros((len(self.queries), 0), np.float32)
        names = np.zeros(scores.shape, object)
        for block in self._blocks("ranking with BM25"):
            positions, values = model.search_block([document.content for document in block], wanted)
            found = np.array([*(document.id for document in block), ""], object)[positions]
            # A place without a document sorts last, and has no name.
            values[positions == NOTHING] = -1
            scores, names = merge_topk((scores, names), (values, found), wanted)
        run: Run = {}
        for query, row, line in zip(self.queries, names, scores, strict=True):
            named = {name: score for name, score in zip(row, line.tolist(), strict=True) if name}
            run[query] = own.ranked(query, named, depth)
        return run

    def _blocks(self, title: str) -> Iterator[list[Passage]]:
        """All documents, a block at a time; one of several passages as a whole."""
        documents = (_whole(parts, self.collection) for parts in self.collection.stream())
        yield from track(iter(lambda: list(itertools.islice(documents, BLOCK)), []), title, unit="blocks")


def _whole(parts: Sequence[Passage], collection: Collection) -> Passage:
    if not collection.grouped:
        return parts[0]
    text = " ".join(part.text for part in parts)
    return Passage(document_name(collection, parts[0].id), parts[0].title, text)


def open_judged(
    data: Path, split: str, metrics: Sequence[str], suite: str = "", settings: Mapping[str, object] | None = None
) -> Judged:
    """The data of a result.

    Args:
        data: the folder.
        split: name of the qrels file of a BEIR or MS MARCO folder.
        metrics: what a plain folder is measured by, on the grades as they are.
        suite: the suite, or the set of BEIR, that the result names; "" for a plain folder.
        settings: those that the suite was measured with.

    Raises:
        DupmaeError: when a file is missing or damaged, or the settings are none of a suite.
    """
    if not suite:
        return Judged(_plain(data, split, Measures(metrics[0], tuple(metrics))), data)
    try:
        given = EvaluateSuite.model_validate({**(settings or {}), "data": data})
    except ValidationError:
        fix = "evaluate again with this version"
        raise DupmaeError("its settings are not those of a suite", where=suite, fix=fix) from None
    found = open_set(suite, data, given) if given.suite == "beir" else open_collection(given)
    return Judged(found, data)


def _plain(data: Path, split: str, measures: Measures) -> Collection:
    """A BEIR folder, or MS MARCO's own files, as `evaluate` measures them."""
    given = EvaluateSuite(suite="beir", retriever=Path(), data=data, split=split, official=False)
    return replace(open_set(data.resolve().name, data, given), measures=measures)
