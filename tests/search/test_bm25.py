"""BM25 equals its formula and the library it takes its words from, held whole or gone through in blocks."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest
from bm25s.stopwords import STOPWORDS_EN
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.search.bm25 import BM25
from dupmae.search.topk import NOTHING
from tests.reference.metrics import bm25 as reference
from tests.reference.tiny import sentences

PASSAGES = [
    "the cat sat on a mat",
    "dogs and cats",
    "read a csv file in chunks",
    "",
    "csv csv csv",
    "cat mat",
]
texts = st.lists(st.sampled_from(["cat", "Cat", "dog", "mat", "csv", "the", "x", "naïve"]), max_size=8).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts, min_size=1, max_size=12), st.lists(texts, min_size=1, max_size=4), st.integers(1, 15))
def test_scores_equal_the_formula(passages: list[str], queries: list[str], k: int) -> None:
    passages = [*passages, "anchor"]
    indices, scores = BM25(passages).search(queries, k)
    for query, found, values in zip(queries, indices, scores, strict=True):
        expected = np.array(reference(passages, query, set(STOPWORDS_EN)))
        filled = found != NOTHING
        assert filled.sum() == min(k, np.count_nonzero(expected))
        np.testing.assert_allclose(values[filled], expected[found[filled]], rtol=1e-5)
        np.testing.assert_allclose(values, np.sort(np.pad(expected, (0, k)))[::-1][:k], rtol=1e-5)
        assert (values[~filled] == 0).all()


def test_ties_go_to_the_earlier_passage() -> None:
    index = BM25(["apple pear", "plum", "pear apple", "apple pear", "pear apple"])
    assert index.search(["apple"], 2)[0].tolist() == [[0, 2]]
    assert index.search(["apple"], 4)[0].tolist() == [[0, 2, 3, 4]]


def test_equals_the_librarys_own_search_over_several_blocks() -> None:
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(400)])
    passages = [" ".join(words[rng.zipf(1.5, 20) % 400]) for _ in range(300)]
    queries = [" ".join(words[rng.integers(0, 400, 5)]) for _ in range(600)]
    library = bm25s.BM25()
    library.index(bm25s.tokenize(passages, stopwords="english", show_progress=False), show_progress=False)
    tokens = bm25s.tokenize(queries, stopwords="english", return_ids=False, show_progress=False)
    expected = library.retrieve(tokens, k=10, show_progress=False).scores
    np.testing.assert_allclose(BM25(passages).search(queries, 10)[1], expected, rtol=1e-5)


def test_unknown_words_find_nothing() -> None:
    indices, scores = BM25(PASSAGES).search(["zebra quagga", "", "the of", "csv zebra"], 3)
    assert indices.shape == scores.shape == (4, 3)
    assert (indices[:3] == NOTHING).all()
    assert indices[3].tolist() == [4, 2, NOTHING]


def test_no_queries() -> None:
    assert BM25(PASSAGES).search([], 3)[0].shape == (0, 3)


def test_size_counts_postings() -> None:
    small, large = BM25(["one two"]), BM25(["one two", "three four five"])
    assert 0 < small.size_bytes < large.size_bytes


@pytest.mark.parametrize("passages", [[], [""], ["the a", "."]])
def test_nothing_to_index(passages: list[str]) -> None:
    with pytest.raises(DupmaeError, match="no passage has a word"):
        BM25(passages)


SENTENCES = [*sentences(90), "", "of the", "parser parser parser rows", "something else entirely"]
QUESTIONS = ["the parser reads rows", "rows rows bytes", "nowhere to be found", "", *sentences(6)]


@pytest.mark.parametrize("block", [7, 40, 1000])
def test_blocks_score_as_the_whole(block: int) -> None:
    blocked = BM25.of_queries(QUESTIONS)
    blocks = [SENTENCES[start : start + block] for start in range(0, len(SENTENCES), block)]
    for part in blocks:
        blocked.count(part)
    expected = np.zeros((len(QUESTIONS), len(SENTENCES)))
    positions, scores = BM25(SENTENCES).search(QUESTIONS, len(SENTENCES))
    for row in range(len(QUESTIONS)):
        kept = positions[row] != NOTHING
        expected[row, positions[row][kept]] = scores[row][kept]
    found = np.zeros_like(expected)
    for number, part in enumerate(blocks):
        positions, scores = blocked.search_block(part, len(part))
        for row in range(len(QUESTIONS)):
            kept = positions[row] != NOTHING
            found[row, number * block + positions[row][kept]] = scores[row][kept]
            assert (np.diff(scores[row][kept]) <= 0).all()
    assert (expected > 0).sum() > 100
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_fewer_are_the_best_of_all() -> None:
    blocked = BM25.of_queries(QUESTIONS)
    blocked.count(SENTENCES)
    all_positions, all_scores = blocked.search_block(SENTENCES, len(SENTENCES))
    positions, scores = blocked.search_block(SENTENCES, 5)
    np.testing.assert_array_equal(positions, all_positions[:, :5])
    np.testing.assert_array_equal(scores, all_scores[:, :5])
