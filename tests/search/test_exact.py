"""Exact search equals trying every passage, however passages lie in windows and segments."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded
from dupmae.search import segment
from dupmae.search.index import Index
from dupmae.search.snapshot import PARTS
from tests.reference import scoring
from tests.search.vectors import brute_force, encoded, indexed, random_vectors


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("segment", "snapshot"):
        monkeypatch.setattr(f"dupmae.search.{module}.WINDOW", 8)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    passages=st.integers(1, 30),
    width=st.integers(0, 6),
    terms=st.integers(1, 12),
    k=st.integers(1, 40),
    weights=st.sampled_from([*PARTS.values(), (0.5, 2.0), (0.0, 0.0)]),
    size=st.integers(1, 40),
    kept=st.sampled_from([False] * 7 + [True]),
)
def test_search_equals_trying_every_passage(
    seed: int, passages: int, width: int, terms: int, k: int, weights: tuple[float, float], size: int, kept: bool
) -> None:
    rng = np.random.default_rng(seed)
    vectors = random_vectors(rng, passages, width, terms, grid=True)
    queries = random_vectors(rng, 5, width, terms, grid=True)
    with TemporaryDirectory() as folder:
        index = indexed(vectors, Path(folder) / "index" if kept else None, segment=size)
        found = (Index.open(index.path) if index.path else index).snapshot.nearest(queries, k, weights=weights)
    for row in range(5):
        expected = brute_force(queries.rows(row, row + 1), vectors, *weights)
        best = scoring.best_passages(expected, k)
        filled = found.positions[row] >= 0
        assert found.positions[row][filled].tolist() == best
        assert found.scores[row][filled].tolist() == [expected[p] for p in best]


def test_deleted_passages_are_no_results() -> None:
    rng = np.random.default_rng(3)
    vectors, queries = (random_vectors(rng, n, 4, 9, grid=True) for n in (60, 7))
    index = indexed(vectors, segment=25)
    gone = set(rng.permutation(60)[:40].tolist())
    assert index.delete([f"p{n}" for n in gone] + ["nowhere"]) == 40
    run = index.rank(list("abcdefg"), queries, 60)
    for row, name in enumerate("abcdefg"):
        expected = brute_force(queries.rows(row, row + 1), vectors)
        best = [p for p in scoring.best_passages(expected, 60) if p not in gone]
        assert list(run[name]) == [f"p{p}" for p in best]


@pytest.mark.parametrize("weights", PARTS.values())
def test_scores_are_right_to_float32_on_real_valued_vectors(weights: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    vectors = random_vectors(rng, 200, 48, 60, grid=False)
    queries = random_vectors(rng, 70, 48, 60, grid=False)
    found = indexed(vectors, batch=17).snapshot.nearest(queries, 10, weights=weights)
    for row in range(0, 70, 7):
        expected = brute_force(queries.rows(row, row + 1), vectors, *weights)
        np.testing.assert_allclose(found.scores[row], sorted(expected, reverse=True)[:10], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.scores[row], [expected[p] for p in found.positions[row]], rtol=1e-5, atol=1e-5)


def test_eight_bits_score_as_what_they_hold() -> None:
    rng = np.random.default_rng(4)
    vectors = random_vectors(rng, 50, 32, 9, grid=False)
    vectors.dense[3] = 0
    index = indexed(vectors, int8=True)
    held = index.snapshot.segments[0].vectors(np.arange(50))
    np.testing.assert_allclose(held.dense, vectors.dense, atol=np.abs(vectors.dense).max() / 250)
    np.testing.assert_array_equal(held.sparse.toarray(), vectors.sparse.toarray())
    query = random_vectors(rng, 1, 32, 9, grid=False)
    found = index.snapshot.nearest(query, 50)
    np.testing.assert_allclose(found.scores[0], np.sort(brute_force(query, held))[::-1], rtol=1e-5, atol=1e-5)
    assert index.snapshot.size_bytes("dense") == 50 * (32 + 4)


def test_weights_for_each_query() -> None:
    rng = np.random.default_rng(5)
    vectors, queries = (random_vectors(rng, n, 4, 9, grid=True) for n in (20, 2))
    index = indexed(vectors).snapshot
    both = index.nearest(queries, 20, weights=[(1, 0), (0.5, 2)])
    for row, pair in enumerate([(1, 0), (0.5, 2)]):
        alone = index.nearest(queries.rows(row, row + 1), 20, weights=pair)
        np.testing.assert_array_equal(both.positions[row], alone.positions[0])


@pytest.mark.parametrize("weights", ["ab", (1, 2, 3), [(1, 2)] * 3, (1, float("nan")), 7j, [[1], [2]]])
def test_weights_that_are_none(weights: object) -> None:
    vectors = encoded(np.ones((2, 1)), np.ones((2, 2)))
    with pytest.raises(DupmaeError, match=r"weights: need a pair of numbers"):
        indexed(vectors).snapshot.nearest(vectors, 1, weights=weights)


def test_vectors_are_kept_in_16_bits_without_vanishing_impacts() -> None:
    index = indexed(encoded(np.array([[0.1]]), np.array([[1e-9, 0.1, 0.0]]))).snapshot
    tenth = float(np.float16(0.1))
    assert index.explain(encoded(np.array([[1.0]]), np.ones((1, 3))), 0) == (tenth, [(1, tenth)])
    assert len(index.segments[0].posting_impacts) == 1


def test_explanation_splits_the_score_into_parts_and_terms() -> None:
    rng = np.random.default_rng(4)
    vectors, queries = (random_vectors(rng, n, 5, 30, grid=False) for n in (25, 6))
    index = indexed(vectors, segment=10).snapshot
    found = index.nearest(queries, 25)
    for row in range(6):
        for position, score in zip(found.positions[row].tolist(), found.scores[row].tolist(), strict=True):
            dense, terms = index.explain(queries.rows(row, row + 1), position)
            words, kept = queries.sparse.toarray()[row].tolist(), vectors.sparse.toarray()[position].tolist()
            products = {term: words[term] * kept[term] for term in range(30) if words[term] and kept[term]}
            assert dict(terms) == products
            assert [value for _, value in terms] == sorted(products.values(), reverse=True)
            assert dense + sum(products.values()) == pytest.approx(score, abs=1e-5)


def test_no_queries_and_another_width() -> None:
    vectors = encoded(np.ones((2, 3)), np.ones((2, 4)))
    index = indexed(vectors).snapshot
    assert index.nearest(vectors.rows(0, 0), 3).scores.shape[0] == 0
    with pytest.raises(DupmaeError, match=r"widths \(3, 5\), the index has \(3, 4\) .*retriever"):
        index.nearest(encoded(np.ones((1, 3)), np.ones((1, 5))), 1)
    with pytest.raises(DupmaeError, match="k: 0 passages"):
        index.nearest(vectors, 0)


def test_a_vocabulary_past_16_bits() -> None:
    sparse = np.zeros((3, 70_000))
    sparse[[0, 1, 2], [5, 69_999, 65_541]] = 1
    index = indexed(encoded(np.zeros((3, 0)), sparse)).snapshot
    found = index.nearest(encoded(np.zeros((1, 0)), sparse[1:2]), 3)
    assert (found.positions[0].tolist(), found.scores[0].tolist()) == ([1, 0, 2], [1, 0, 0])


def test_encoded_refuses_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 rows, sparse has 2"):
        Encoded(np.zeros((3, 1), np.float32), encoded(np.zeros((2, 1)), np.zeros((2, 5))).sparse)
    with pytest.raises(ValueError, match="float32"):
        Encoded(np.zeros((2, 1)), encoded(np.zeros((2, 1)), np.zeros((2, 5))).sparse)
    with pytest.raises(ValueError, match="two axes"):
        Encoded(np.zeros(2, np.float32), encoded(np.zeros((2, 1)), np.zeros((2, 5))).sparse)


def test_a_position_past_the_window_is_refused(tmp_path: Path) -> None:
    vectors = encoded(np.ones((4, 1)), np.ones((4, 2)))
    index = indexed(vectors, tmp_path / "index")
    home = next((tmp_path / "index" / "segments").iterdir())
    np.save(home / "posting_passages.npy", np.full(8, 7, np.uint16))
    damaged = segment.Segment.load(home, 4, 2)
    assert len(index) == 4
    with pytest.raises(DupmaeError, match="past the last"):
        damaged.scores(0, vectors, np.array([0, 1]), np.ones((2, 4), np.float32))
