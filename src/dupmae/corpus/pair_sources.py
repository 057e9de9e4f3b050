"""Pairs for fine-tuning from real collections of several kinds, gathered into one BEIR folder.

`gather` writes them; the passages of a source that answer nothing stay in as material for negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dupmae.corpus.beir import Passage, Qrels, Queries, read_corpus, read_qrels, read_queries, write_beir
from dupmae.corpus.lines import id_field, text_field
from dupmae.corpus.records import read_csv, read_records
from dupmae.corpus.sentences import split_sentences
from dupmae.errors import DupmaeError
from dupmae.settings import PairSource

COLUMNS = ("qtext", "label", "atext")
# Evidence for and against a claim is about it; evidence that decides nothing may be too, so it is left out.
EVIDENCE = ("SUPPORTS", "REFUTES")
FEWEST_SENTENCE_WORDS, MOST_SENTENCE_WORDS, FEWEST_REST_WORDS = 5, 50, 20


@dataclass(frozen=True)
class Pairs:
    """Queries, passages, and which passage answers which query."""

    queries: Queries
    passages: list[Passage]
    qrels: Qrels


def gather(sources: Mapping[str, PairSource], data: Path, out: Path, *, seed: int = 0) -> int:
    """Write the pairs of all sources as a BEIR folder with the split `train`; returns the number of queries.

    Ids get the name of their source in front.

    Args:
        data: the folder that the sources' paths are below.
        seed: of the draw where a source gives at most some.

    Raises:
        DupmaeError: for a source that cannot be read or holds no pair.
    """
    queries: Queries = {}
    qrels: Qrels = {}
    passages: list[Passage] = []
    for name, source in sources.items():
        found = _drawn(READERS[source.kind](data / source.path, source.split), source.at_most, seed)
        if source.kind == "articles":
            answers = {passage for judged in found.qrels.values() for passage in judged}
            found = Pairs(found.queries, [passage for passage in found.passages if passage.id in answers], found.qrels)
        if not found.qrels:
            raise DupmaeError("holds no pair", where=data / source.path, fix="remove it from pairs")
        queries |= {f"{name}/{query}": found.queries[query] for query in found.qrels}
        passages += [Passage(f"{name}/{passage.id}", passage.title, passage.text) for passage in found.passages]
        qrels |= {
            f"{name}/{query}": {f"{name}/{passage}": grade for passage, grade in judged.items()}
            for query, judged in found.qrels.items()
        }
    write_beir(out, passages, queries, {"train": qrels})
    return len(queries)


def _drawn(pairs: Pairs, at_most: int | None, seed: int) -> Pairs:
    if at_most is None or at_most >= len(pairs.qrels):
        return pairs
    names = list(pairs.qrels)
    places = np.sort(np.random.default_rng(seed).permutation(len(names))[:at_most])
    return Pairs(pairs.queries, pairs.passages, {names[place]: pairs.qrels[names[place]] for place in places})


def _beir(folder: Path, split: str) -> Pairs:
    qrels = read_qrels(folder, split)
    positives = {query: {name: grade for name, grade in found.items() if grade > 0} for query, found in qrels.items()}
    answered = {query: found for query, found in positives.items() if found}
    return Pairs(read_queries(folder), read_corpus(folder), answered)


def _questions(file: Path, split: str) -> Pairs:
    """Questions with candidate sentences and whether they answer (Wang et al. 2007, as csv)."""

    def read() -> Iterator[tuple[str, str, bool]]:
        for _, row in read_csv(file):
            if not set(COLUMNS) <= row.keys():
                fix = f"the first line names the columns {', '.join(COLUMNS)}"
                raise DupmaeError("columns are missing", where=file, line=1, fix=fix)
            yield row["qtext"], row["atext"], row["label"] == "1"

    return _labelled(read())


def _claims(file: Path, split: str) -> Pairs:
    """Claims with labelled evidence (Climate-FEVER)."""

    def read() -> Iterator[tuple[str, str, bool]]:
        for line, record in read_records(file):
            claim, evidences = text_field(record, ("claim",), file, line), record.get("evidences")
            if not isinstance(evidences, list):
                raise DupmaeError("record without `evidences`", where=file, line=line, fix="add the list")
            for evidence in evidences:
                if isinstance(evidence, dict) and evidence.get("evidence_label") in EVIDENCE:
                    yield claim, text_field(evidence, ("evidence",), file, line), True

    return _labelled(read())


def _labelled(rows: Iterator[tuple[str, str, bool]]) -> Pairs:
    """Pairs of (query, passage, whether it answers); equal texts are one query or one passage."""
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    qrels: Qrels = {}
    for query, passage, answers in rows:
        if not (query.split() and passage.split()):
            continue
        name = queries.setdefault(query, str(len(queries) + 1))
        place = passages.setdefault(passage, str(len(passages) + 1))
        if answers:
            qrels.setdefault(name, {})[place] = 1
    held = [Passage(name, "", text) for text, name in passages.items()]
    return Pairs({name: text for text, name in queries.items()}, held, qrels)


def _articles(file: Path, split: str) -> Pairs:
    """Articles whose first sentence asks for the rest of them, which is given without the title."""
    queries: Queries = {}
    passages: list[Passage] = []
    qrels: Qrels = {}
    for line, record in read_records(file):
        name, text = id_field(record, ("id", "_id"), file, line), text_field(record, ("text",), file, line)
        # The first sentences of a long article are enough to find where the first one ends.
        sentences = split_sentences(" ".join(text.split())[:2000], "en")
        first = sentences[0].strip() if sentences else ""
        rest = " ".join(text.split())[len(sentences[0]) if sentences else 0 :].strip()
        asks = FEWEST_SENTENCE_WORDS <= len(first.split()) <= MOST_SENTENCE_WORDS
        if asks and len(rest.split()) >= FEWEST_REST_WORDS and name not in queries:
            queries[name] = first
            passages.append(Passage(name, "", rest))
            qrels[name] = {name: 1}
    return Pairs(queries, passages, qrels)


READERS: dict[str, Callable[[Path, str], Pairs]] = {
    "beir": _beir,
    "questions": _questions,
    "claims": _claims,
    "articles": _articles,
}
