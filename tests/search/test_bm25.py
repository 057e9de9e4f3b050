from __future__ import annotations

import bm25s
import numpy as np
import pytest
from bm25s.stopwords import STOPWORDS_EN
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.search.bm25 import BM25, NO_PASSAGE
from tests.reference.metrics import bm25 as reference

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
        filled = found != NO_PASSAGE
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
    assert (indices[:3] == NO_PASSAGE).all()
    assert indices[3].tolist() == [4, 2, NO_PASSAGE]


def test_no_queries() -> None:
    assert BM25(PASSAGES).search([], 3)[0].shape == (0, 3)


def test_size_counts_postings() -> None:
    small, large = BM25(["one two"]), BM25(["one two", "three four five"])
    assert 0 < small.size_bytes < large.size_bytes


@pytest.mark.parametrize("passages", [[], [""], ["the a", "."]])
def test_nothing_to_index(passages: list[str]) -> None:
    with pytest.raises(DupmaeError, match="no passage has a word"):
        BM25(passages)
