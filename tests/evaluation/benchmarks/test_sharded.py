"""Shard by shard: the same ranking however the corpus is cut, after a kill too, in memory that does not grow."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupmae.corpus.beir import Passage
from dupmae.corpus.own_documents import OwnDocuments
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.answers import holds_answer, joined
from dupmae.evaluation.benchmarks.collections import Collection
from dupmae.evaluation.benchmarks.ranking import Ranking, answered, search
from dupmae.evaluation.benchmarks.sharded import Shards, encode_corpus, survey
from tests.evaluation.benchmarks.stub import DEPTH, MANY, Stub, collection, digest_of, main, vectors
from tests.warm import run

# A hundredth of MS MARCO's passages.
HUNDREDTH = 88_418


def encoded(folder: Path, data: Collection, block: int, encoder: Stub | None = None, **given: Any) -> Shards:
    found = survey(data, official=False)
    return encode_corpus(folder, data, encoder or Stub(), record={}, found=found, block=block, **given)


def ranked(shards: Shards, data: Collection, depth: int = 20, **given: Any) -> Ranking:
    own = OwnDocuments(data.queries if data.drops_own else {}, data.qrels)
    own.add(passage for parts in data.stream() for passage in parts)
    return search(shards, data, vectors(list(data.queries.values())), depth, **{"positive": False, "own": own, **given})


def brute_force(data: Collection, depth: int) -> dict[str, dict[str, float]]:
    """All scores, then the best; of equal ones the earlier."""
    passages = [passage for parts in data.stream() for passage in parts]
    ours, theirs = vectors(list(data.queries.values())), vectors([passage.content for passage in passages])
    scores = ours.dense @ theirs.dense.T + (ours.sparse @ theirs.sparse.T).toarray()
    run: dict[str, dict[str, float]] = {}
    for query, row in zip(data.queries, scores, strict=True):
        found: dict[str, float] = {}
        for place in np.argsort(-row, kind="stable"):
            name = passages[place].id.rpartition("#")[0] if data.grouped else passages[place].id
            if len(found) < depth and not (data.drops_own and name == query):
                found.setdefault(name, float(row[place]))
        run[query] = found
    return run


@pytest.mark.parametrize("block", [7, 13, 1000])
def test_the_ranking_does_not_depend_on_the_shards(tmp_path: Path, block: int) -> None:
    data = collection(60)
    run = ranked(encoded(tmp_path, data, block), data)
    assert dict(run) == brute_force(data, 20)
    assert len(run) == 5


@pytest.mark.parametrize("part", ["dense", "sparse"])
def test_one_part_alone(tmp_path: Path, part: Any) -> None:
    data = collection(60)
    whole, cut = (ranked(encoded(tmp_path / str(n), data, n), data, part=part) for n in (1000, 9))
    assert dict(whole) == dict(cut)
    positive = ranked(encoded(tmp_path / "9", data, 9), data, part="sparse", positive=True)
    assert {query: {n: s for n, s in found.items() if s > 0} for query, found in positive.items()} == dict(positive)


def documents(sizes: list[int]) -> Iterator[list[Passage]]:
    for number, size in enumerate(sizes):
        yield [Passage(f"D#{number}#{part}", "", f"{number} {part}") for part in range(size)]


@pytest.mark.parametrize("block", [10, 1000])
def test_a_document_scores_as_its_best_passage(tmp_path: Path, block: int) -> None:
    # One document of many passages, so that the first search finds too few documents.
    data = collection(0, grouped=True, stream=partial(documents, [60, 1, 2, 3, 40, 1, 1, 30]))
    run = ranked(encoded(tmp_path, data, block), data, depth=3)
    assert dict(run) == brute_force(data, 3)
    everything = ranked(encoded(tmp_path, data, block), data, depth=50)
    assert all(len(found) == 8 for found in everything.values())


def test_the_document_with_the_querys_id_is_left_out(tmp_path: Path) -> None:
    asked = {f"p{n}": f"query {n}" for n in range(5)}
    data = collection(30, queries=asked, drops_own=True)
    run = ranked(encoded(tmp_path, data, 11), data, depth=29)
    assert dict(run) == brute_force(data, 29)
    assert all(query not in found and len(found) == 29 for query, found in run.items())


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    data = collection(50)
    with pytest.raises(KeyboardInterrupt):
        encoded(tmp_path / "stopped", data, 10, Stub(stop=3))
    (tmp_path / "stopped" / ".shard-00002.999999999.tmp").mkdir()
    second, third = Stub(), Stub()
    resumed = encoded(tmp_path / "stopped", data, 10, second)
    assert (resumed.encoded, second.calls) == (30, 3)
    assert not list((tmp_path / "stopped").glob(".*.tmp"))
    again = encoded(tmp_path / "stopped", data, 10, third)
    assert (again.encoded, again.passages, third.calls) == (0, 50, 0)
    assert dict(ranked(again, data)) == dict(ranked(encoded(tmp_path / "whole", data, 10), data))


def test_a_hundredth_of_ms_marco_killed_and_resumed_under_a_memory_ceiling(tmp_path: Path) -> None:
    assert run(main, tmp_path / "shards", HUNDREDTH, 1000, 3).returncode == -signal.SIGKILL
    done = run(main, tmp_path / "shards", HUNDREDTH, 1000, 0)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["encoded"] == HUNDREDTH - 2000
    # In one shard it grows by 170 MB, and twice the corpus by twice as much; most of this is the search's own.
    assert told["grown"] < 90_000_000
    data = collection(HUNDREDTH, queries=MANY)
    assert digest_of(ranked(encoded(tmp_path / "one", data, HUNDREDTH), data, depth=DEPTH)) == told["digest"]


def test_answers_are_matched_in_the_texts_of_all_shards(tmp_path: Path) -> None:
    answers = {"q0": ["3"], "q1": ["WORD" * 75], "q2": ["17", "4"], "q3": ["absent"], "q4": ["1"]}
    data = collection(40, answers=answers)
    shards = encoded(tmp_path, data, 6)
    run = ranked(shards, data, depth=15)
    hits = answered(shards, run, answers)
    texts = {passage.id: passage.text for parts in data.stream() for passage in parts}
    for row, query in enumerate(run.queries):
        wanted = [joined(answer) for answer in answers[query]]
        expected = [holds_answer(joined(texts[name]), wanted) for name in run.names(query)]
        assert hits[row].tolist() == expected
    assert hits[1].all()
    assert not hits[3].any()


def test_a_corpus_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    def refused(message: str, data: Collection, *, official: bool = False) -> None:
        with pytest.raises(DupmaeError, match=message):
            survey(data, official=official)

    refused("made-up: has 30 passages, officially 40", collection(30, documents=40), official=True)
    refused("made-up: lacks 1 relevant passages, first p30", collection(30, qrels={"q0": {"p30": 1, "p31": 0}}))
    refused("made-up: holds no passages", collection(0))
    twice = collection(0, stream=lambda: iter([[Passage("a", "", "x")], [Passage("a", "", "y")]]))
    refused("made-up: an id comes twice", twice)
    # Five judgements of BEIR's ArguAna name documents that its corpus does not have.
    known = collection(30, documents=30, qrels={"q0": {"p30": 1}})
    assert encoded(tmp_path / "out", known, 10).missing == 1
    # What is encoded for one suite is checked for the next.
    refused("officially 40", collection(30, documents=40), official=True)
    assert encoded(tmp_path / "out", collection(30), 10).missing == 0


def test_blank_passages_keep_their_places(tmp_path: Path) -> None:
    parts = [[Passage("a", "", "")], [Passage("b", "", "text")], [Passage("c", " ", "")]]
    data = collection(0, stream=lambda: iter(parts))
    assert set(ranked(encoded(tmp_path, data, 2), data)["q0"]) == {"a", "b", "c"}
