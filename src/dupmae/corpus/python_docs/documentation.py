"""A retrieval set from the documentation of the Python packages installed on this machine.

Query = a docstring's summary sentence; document = its dotted name in words, and the rest of the docstring.
`build` writes the set, `build_cached` keeps it between runs.
"""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from dupmae.console import logger, track
from dupmae.corpus.beir import Passage, Qrels, write_beir
from dupmae.corpus.python_docs.dedup import unlike
from dupmae.corpus.python_docs.docstrings import Docstring, Problem, name_in_words, records_of
from dupmae.corpus.python_docs.sources import Source, default_roots, find_sources
from dupmae.errors import DupmaeError
from dupmae.files import cache_folder, new_folder, read_typed, write_json

# Part of the cache key: to be raised when the same sources would give other records.
VERSION = 1
FEWEST_TEST_QUERIES = 1500
FILES_A_CHUNK = 32
MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class Counts:
    """What a build found, kept and skipped."""

    documents: int
    train_queries: int
    dev_queries: int
    test_queries: int
    corpus_documents: int
    skipped: dict[str, int]
    sources: int
    seconds: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Plan:
    """How the records are divided."""

    seed: int
    documents: int
    test_queries: int
    test_share: float
    dev_share: float
    test_documents_in_training: bool = True


@dataclass(frozen=True, slots=True)
class Splits:
    """The records of each split, and the evaluation corpus, each in the order of names."""

    train: list[Docstring]
    dev: list[Docstring]
    test: list[Docstring]
    corpus: list[Docstring]


def build(
    out: Path,
    *,
    seed: int,
    documents: int,
    test_queries: int = 4000,
    test_share: float = 0.12,
    dev_share: float = 0.02,
    test_documents_in_training: bool = True,
    roots: Sequence[Path] | None = None,
) -> Counts:
    """Write the retrieval set into `out`, whole.

    `retrieval/` is the BEIR folder for evaluation (qrels/test.tsv, qrels/dev.tsv); `training/` is the BEIR
    folder of all documents with the train queries alone (qrels/train.tsv); `counts.json` holds the counts.

    Args:
        out: folder to write.
        seed: salt of the hash that splits and samples.
        documents: size of the evaluation corpus: all judged documents, filled up with others.
        test_queries: most test queries; further test documents are in no pair.
        test_share: share of the records that go to test.
        dev_share: share of the records that go to dev.
        test_documents_in_training: whether `training/` holds the documents of test and dev queries as well, which
            are what is searched.
        roots: folders to search; none: the standard library and site-packages of this interpreter.

    Raises:
        DupmaeError: when the roots hold no usable docstring, or the file system refuses.
    """
    sources, skipped = find_sources(default_roots() if roots is None else roots)
    plan = Plan(seed, documents, test_queries, test_share, dev_share, test_documents_in_training)
    return _build(out, plan, sources, skipped)


def build_cached(
    cache: Path | None,
    *,
    seed: int,
    documents: int,
    test_queries: int = 4000,
    test_share: float = 0.12,
    dev_share: float = 0.02,
    roots: Sequence[Path] | None = None,
) -> tuple[Path, Counts]:
    """The folder of `build`'s set in the cache, built when the sources or the settings have changed.

    Args:
        cache: folder of all cached sets; none: $DUPMAE_CACHE, or ~/.cache/dupmae.
        seed, documents, test_queries, test_share, dev_share, roots: as for `build`.

    Raises:
        DupmaeError: as `build`.
    """
    plan = Plan(seed, documents, test_queries, test_share, dev_share)
    sources, skipped = find_sources(default_roots() if roots is None else roots)
    folder = (cache or cache_folder()) / f"documentation-{fingerprint(sources, plan)[:16]}"
    if (folder / "counts.json").is_file():
        logger.info("documentation corpus from the cache: %s", folder)
        return folder, read_typed(folder / "counts.json", Counts, fix=f"delete {folder}")
    return folder, _build(folder, plan, sources, skipped)


def fingerprint(sources: Sequence[Source], plan: Plan) -> str:
    """SHA-256 over path, size and time of every source, the plan, and the version of this module's method."""
    parts = [VERSION, sys.version_info[:2], asdict(plan), [asdict(source) for source in sources]]
    # Paths that are not UTF-8 reach Python with lone surrogates, which JSON escapes.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def _build(out: Path, plan: Plan, sources: Sequence[Source], skipped: Counter[str]) -> Counts:
    started = time.monotonic()
    records = _distinct(_gather(_read(sources), skipped), skipped)
    if not records:
        problem = f"no usable docstrings in {len(sources)} Python files"
        raise DupmaeError(problem, where=out, fix="install a few packages beside dupmae")
    splits = split(records, plan)
    if len(splits.test) < FEWEST_TEST_QUERIES:
        advice = "metrics will be coarse; more installed packages give more"
        logger.warning("only %d test queries, under %d: %s", len(splits.test), FEWEST_TEST_QUERIES, advice)
    with new_folder(out, "a corpus") as folder:
        _write(folder, records if plan.test_documents_in_training else _unjudged(records, splits), splits)
        counts = Counts(
            documents=len(records),
            train_queries=len(splits.train),
            dev_queries=len(splits.dev),
            test_queries=len(splits.test),
            corpus_documents=len(splits.corpus),
            skipped=dict(sorted(skipped.items())),
            sources=len(sources),
            seconds=round(time.monotonic() - started, 2),
            fingerprint=fingerprint(sources, plan),
        )
        write_json(folder / "counts.json", asdict(counts))
    return counts


def _read(sources: Sequence[Source]) -> Iterator[list[Docstring] | Problem]:
    """What each source gives, in order."""
    chunks = [sources[start : start + FILES_A_CHUNK] for start in range(0, len(sources), FILES_A_CHUNK)]
    processes = min(len(chunks), _processors(), MOST_PROCESSES)
    # Only fork is safe for every caller: spawn runs an unguarded __main__ a second time.
    if processes < 2 or sys.platform != "linux":
        yield from _results(map(_read_chunk, chunks), len(chunks))
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=gc.disable) as pool:
        yield from _results(pool.map(_read_chunk, chunks), len(chunks))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_chunk(chunk: Sequence[Source]) -> list[list[Docstring] | Problem]:
    return [records_of(source) for source in chunk]


def _results(chunks: Iterable[list[list[Docstring] | Problem]], total: int) -> Iterator[list[Docstring] | Problem]:
    for results in track(chunks, "reading docstrings", total, f"x {FILES_A_CHUNK} files"):
        yield from results


def _gather(results: Iterable[list[Docstring] | Problem], skipped: Counter[str]) -> list[Docstring]:
    """One record a name: definitions may repeat (property setters, branches of an `if`); the first counts."""
    records: dict[str, Docstring] = {}
    for result in results:
        if isinstance(result, str):
            skipped[result] += 1
            continue
        for record in result:
            skipped["same_name"] += record.name in records
            records.setdefault(record.name, record)
    return list(records.values())


def _distinct(records: Sequence[Docstring], skipped: Counter[str]) -> list[Docstring]:
    """Records with queries and bodies of their own.

    Of copies the one with the shortest dotted path stays: `rich.text`, not `pip._vendor.rich.text`.
    """
    ordered = sorted(records, key=lambda record: (record.name.count("."), record.name))
    by_query: dict[str, Docstring] = {}
    for record in ordered:
        by_query.setdefault(" ".join(re.findall(r"\w+", record.summary.casefold())), record)
    single = list(by_query.values())
    keep = unlike([record.body for record in single])
    skipped["same_query"] += len(ordered) - len(single)
    skipped["near_duplicates"] += len(single) - int(keep.sum())
    return [record for record, kept in zip(single, keep, strict=True) if kept]


def split(records: Sequence[Docstring], plan: Plan) -> Splits:
    """Divide records by a salted hash of their names, so that a name's split does not depend on the others."""
    place = {record.name: _place(record.name, plan.seed) for record in records}
    ordered = sorted(records, key=lambda record: place[record.name])
    first_train = plan.test_share + plan.dev_share
    in_test = [record for record in ordered if place[record.name] < plan.test_share]
    dev = [record for record in ordered if plan.test_share <= place[record.name] < first_train]
    train = [record for record in ordered if place[record.name] >= first_train]
    test, others = in_test[: plan.test_queries], in_test[plan.test_queries :] + train
    judged = test + dev
    corpus = judged + others[: max(plan.documents - len(judged), 0)]
    # In the order of names, not of hashes: ties in a ranking must not favour the judged documents.
    return Splits(*(sorted(part, key=lambda record: record.name) for part in (train, dev, test, corpus)))


def _place(name: str, seed: int) -> float:
    """A number in [0, 1), even over names."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def _unjudged(records: Sequence[Docstring], splits: Splits) -> list[Docstring]:
    judged = {record.name for record in (*splits.test, *splits.dev)}
    return [record for record in records if record.name not in judged]


def _write(folder: Path, records: Sequence[Docstring], splits: Splits) -> None:
    judged = {"test": splits.test, "dev": splits.dev}
    _write_set(folder / "retrieval", splits.corpus, judged)
    _write_set(folder / "training", sorted(records, key=lambda record: record.name), {"train": splits.train})


def _write_set(folder: Path, corpus: Sequence[Docstring], judged: dict[str, list[Docstring]]) -> None:
    """A BEIR folder in which a record's name is the id of both its query and its document."""
    passages = (Passage(record.name, name_in_words(record.name), record.body) for record in corpus)
    queries = {record.name: record.summary for part in judged.values() for record in part}
    qrels: dict[str, Qrels] = {
        name: {record.name: {record.name: 1} for record in part} for name, part in judged.items()
    }
    write_beir(folder, passages, queries, qrels)
