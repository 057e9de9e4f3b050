"""`dupmae synthesize`: text without labels to training pairs in the BEIR layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from random import Random

from dupmae.console import logger, track
from dupmae.corpus.readers import read_documents
from dupmae.corpus.synthetic_pairs import SyntheticPair, make_pair
from dupmae.errors import DupmaeError
from dupmae.files import json_line, new_folder
from dupmae.settings import Synthesize

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv"


@dataclass(frozen=True)
class Synthesized:
    """What the stage leaves: its folder, pairs by kind, and the texts that gave none."""

    folder: Path
    kinds: dict[str, int]
    without: int


def synthesize(settings: Synthesize) -> Synthesized:
    """Make one pair of every text that allows it, and write queries, passages and judgements to `out`.

    Each text gives one pair at most: no passage of a text can then be taken for a negative of another query from it.
    Query and passage of the n-th text are called `<kind>-<n>` and `<n>`. A pair depends on the seed, its text and n
    alone. With `pairs` the inputs are read twice, since only then it is known which texts have one; memory holds the
    drawn numbers.

    Raises:
        DupmaeError: for inputs that cannot be read, fewer than two pairs, or when the file system refuses.
    """
    chosen = None if settings.pairs is None else _drawn(settings, settings.pairs)
    counts: Counter[str] = Counter()
    texts = 0
    with new_folder(settings.out, "a corpus") as folder, ExitStack() as stack:
        (folder / QRELS).parent.mkdir()
        corpus, queries, qrels = (
            stack.enter_context((folder / name).open("w", encoding="utf-8", newline="\n"))
            for name in (CORPUS, QUERIES, QRELS)
        )
        qrels.write("query-id\tcorpus-id\tscore\n")
        for texts, pair in _pairs(settings):
            if pair is None or (chosen is not None and texts not in chosen):
                continue
            counts[pair.kind] += 1
            query, passage = f"{pair.kind}-{texts}", str(texts)
            corpus.write(json_line({"_id": passage, "title": pair.title, "text": pair.text}))
            queries.write(json_line({"_id": query, "text": pair.query}))
            qrels.write(f"{query}\t{passage}\t1\n")
        if counts.total() < 2:
            fix = "give more or longer texts, or lower query_words and passage_words"
            raise DupmaeError(f"{texts} texts gave {counts.total()} pairs", where=settings.inputs[0], fix=fix)
    kinds = {kind: counts[kind] for kind in settings.shares.model_dump() if counts[kind]}
    told = ", ".join(f"{count:,} by {kind}" for kind, count in kinds.items())
    logger.info(f"{counts.total():,} pairs of {texts:,} texts: {told}")
    return Synthesized(settings.out, kinds, texts - counts.total())


def _pairs(settings: Synthesize) -> Iterator[tuple[int, SyntheticPair | None]]:
    """The texts by number from 1, each with its pair."""
    documents = track(read_documents(settings.inputs), "synthetic pairs", unit="texts")
    for number, (title, text) in enumerate(documents, 1):
        yield number, make_pair(title, text, settings, Random(f"{settings.seed}-{number}"))


def _drawn(settings: Synthesize, count: int) -> set[int]:
    """Numbers of `count` of the texts that have a pair, each as likely as any other."""
    possible = (number for number, pair in _pairs(settings) if pair is not None)
    return set(nsmallest(count, possible, key=lambda number: Random(f"drawn-{settings.seed}-{number}").random()))
