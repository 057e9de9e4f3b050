"""The retrieval suites as collections: corpus, judged queries, and what is measured on them.

`open_collection` reads queries and judgements and checks their counts; the corpus stays on disk and is streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from dupmae.corpus.beir import Passage, Qrels, Queries
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks import official
from dupmae.evaluation.benchmarks.official_files import File, Folder, reads, refuse_count
from dupmae.settings.benchmarks import EvaluateSuite

Documents = Iterator[list[Passage]]
"""A corpus: the passages of each document, where most documents are one passage."""


@dataclass(frozen=True)
class Measures:
    """What a suite reports.

    Attributes:
        graded: metrics on the grades as they are.
        binary: metrics on judgements of at least `relevant`, which count as 1.
        main: the one that the papers' tables show.
    """

    main: str
    graded: tuple[str, ...] = ()
    binary: tuple[str, ...] = ()
    relevant: int = 1

    @property
    def deepest(self) -> int:
        """Passages per query that the metrics need."""
        return max(int(metric.partition("@")[2]) for metric in (*self.graded, *self.binary))


@dataclass(frozen=True)
class Suite:
    """A retrieval suite as it is published.

    Attributes:
        files: corpus, queries and judgements, or corpus and questions.
        documents, queries, judgements: official counts; of the queries those that are judged.
        corpus: the corpus that a reader finds in the first file, given the words of a passage.
        unit: what the corpus has so many of.
        grouped: whether a document has several passages and scores as its best.
    """

    files: tuple[File, ...]
    documents: int
    queries: int
    judgements: int
    measures: Measures
    corpus: Callable[[Path, int], Documents]
    unit: str = "passages"
    grouped: bool = False


@dataclass(frozen=True)
class Collection:
    """Data to measure on.

    Attributes:
        corpus: the file of the passages.
        stream: goes through the corpus from its beginning.
        queries: the judged ones, id -> text.
        qrels: judgements; none where `answers` decide.
        answers: query id -> texts of which a passage must hold one.
        official: whether queries and judgements have the official counts.
        documents: how many there are officially; None: nobody said.
        files: all that was read.
        grouped: whether a document has several passages and scores as its best.
        drops_own: whether a query's own document is left out of its ranking (`dupmae.corpus.own_documents`).
        notes: what a reader of the results must know.
    """

    name: str
    corpus: Path
    stream: Callable[[], Documents]
    queries: Queries
    measures: Measures
    qrels: Qrels = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)
    official: bool = False
    documents: int | None = None
    files: tuple[Path, ...] = ()
    unit: str = "passages"
    grouped: bool = False
    drops_own: bool = False
    notes: tuple[str, ...] = ()

    @property
    def judgements(self) -> int:
        """Number of judgements."""
        return sum(map(len, self.qrels.values()))


def _passages(file: Path, passage_words: int) -> Documents:
    return official.read_passages(file)


def _wikipedia(file: Path, passage_words: int) -> Documents:
    return official.read_wikipedia(file)


PASSAGES = File(("collection.tsv",), "8,841,823 passages")
WIKIPEDIA = File(("psgs_w100.tsv",), "21,015,324 passages")
ACCURACY = Measures("recall@20", binary=("recall@5", "recall@20", "recall@100"))
# Relevant from grade 2 on, but for nDCG: overview of the TREC 2019 deep learning track (Craswell et al. 2020).
DEEP_LEARNING = Measures("ndcg@10", ("ndcg@10",), ("mrr@10", "map@1000", "recall@100", "recall@1000"), 2)

SUITES = {
    "msmarco-passage": Suite(
        (
            PASSAGES,
            File(("queries.dev.small.tsv", "topics.msmarco-passage.dev-subset.txt"), "6,980 queries"),
            File(("qrels.dev.small.tsv", "qrels.msmarco-passage.dev-subset.txt"), "7,437 judgements"),
        ),
        8_841_823,
        6_980,
        7_437,
        Measures("mrr@10", binary=("mrr@10", "recall@50", "recall@100", "recall@1000")),
        _passages,
    ),
    "msmarco-document": Suite(
        (
            File(("msmarco-docs.tsv",), "3,213,835 documents"),
            File(("msmarco-docdev-queries.tsv", "topics.msmarco-doc.dev.txt"), "5,193 queries"),
            File(("msmarco-docdev-qrels.tsv", "qrels.msmarco-doc.dev.txt"), "5,193 judgements"),
        ),
        3_213_835,
        5_193,
        5_193,
        Measures("mrr@100", binary=("mrr@100", "recall@100")),
        official.read_documents,
        unit="documents",
        grouped=True,
    ),
    "trec-dl-2019": Suite(
        (
            PASSAGES,
            File(("msmarco-test2019-queries.tsv", "topics.dl19-passage.txt"), "200 queries, 43 of them judged"),
            File(("2019qrels-pass.txt", "qrels.dl19-passage.txt"), "9,260 judgements"),
        ),
        8_841_823,
        43,
        9_260,
        DEEP_LEARNING,
        _passages,
    ),
    "trec-dl-2020": Suite(
        (
            PASSAGES,
            File(("msmarco-test2020-queries.tsv", "topics.dl20.txt"), "200 queries, 54 of them judged"),
            File(("2020qrels-pass.txt", "qrels.dl20-passage.txt"), "11,386 judgements"),
        ),
        8_841_823,
        54,
        11_386,
        DEEP_LEARNING,
        _passages,
    ),
    "nq": Suite(
        (
            WIKIPEDIA,
            File(("nq-test.qa.csv", "nq-test.csv", "topics.dpr.nq.test.txt"), "3,610 questions with answers"),
        ),
        21_015_324,
        3_610,
        0,
        ACCURACY,
        _wikipedia,
    ),
    "triviaqa": Suite(
        (
            WIKIPEDIA,
            File(
                ("trivia-test.qa.csv", "trivia-test.csv", "topics.dpr.trivia.test.txt"), "11,313 questions with answers"
            ),
        ),
        21_015_324,
        11_313,
        0,
        ACCURACY,
        _wikipedia,
    ),
}


def open_collection(settings: EvaluateSuite) -> Collection:
    """Read what is to be measured by a suite with one corpus.

    Raises:
        DupmaeError: when a file is missing or damaged, a judged query has no text, or counts are not the official
            ones and `settings.official` wants them.
    """
    suite = SUITES[settings.suite]
    if settings.data is None:
        raise DupmaeError("data is not given", where=settings.suite, fix=reads(settings.suite, suite.files))
    paths = Folder(settings.data).find_all(settings.suite, suite.files)
    corpus, topics = paths[:2]
    qrels: Qrels = {}
    answers: dict[str, list[str]] = {}
    if suite.judgements:
        qrels = official.read_judgements(paths[2])
        queries = judged(official.read_topics(topics), topics, qrels)
    else:
        queries, answers = official.read_questions(topics)
    collection = Collection(
        name=settings.suite,
        corpus=corpus,
        stream=partial(suite.corpus, corpus, settings.passage_words),
        queries=queries,
        measures=suite.measures,
        qrels=qrels,
        answers=answers,
        official=(len(queries), sum(map(len, qrels.values()))) == (suite.queries, suite.judgements),
        documents=suite.documents,
        files=tuple(paths),
        unit=suite.unit,
        grouped=suite.grouped,
    )
    if settings.official:
        refuse_count(topics, "judged queries" if qrels else "questions", len(queries), suite.queries)
        refuse_count(paths[-1], "judgements", collection.judgements, suite.judgements)
    return collection


def judged(queries: Queries, file: Path, qrels: Qrels) -> Queries:
    """The judged ones of some queries, in their order.

    Raises:
        DupmaeError: when a judged query is not among them.
    """
    unknown = next((query for query in qrels if query not in queries), None)
    if unknown is not None:
        raise DupmaeError(f"lacks the judged query {unknown}", where=file, fix="fetch the file again")
    return {name: text for name, text in queries.items() if name in qrels}


def document_name(collection: Collection, passage: str) -> str:
    """The id that judgements use for a passage."""
    return official.document_of(passage) if collection.grouped else passage
