"""Search equals trying every passage; an index folder comes back as it was written."""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded
from dupmae.search import postings
from dupmae.search.builder import build_index
from dupmae.search.index import HybridIndex
from tests.reference import scoring

RETRIEVER = {"folder": "../retriever"}


def encoded(dense: np.ndarray, sparse: np.ndarray) -> Encoded:
    return Encoded(dense.astype(np.float32), csr_array(sparse.astype(np.float32)))


def random_vectors(rng: np.random.Generator, rows: int, width: int, terms: int, *, grid: bool) -> Encoded:
    """Vectors with empty rows; on a coarse grid sums are exact in any order and ties are common."""
    dense, sparse = rng.normal(size=(rows, width)), rng.exponential(size=(rows, terms))
    if grid:
        dense, sparse = rng.integers(-2, 3, (rows, width)) / 2, rng.integers(0, 3, (rows, terms)) / 2
    sparse = sparse * (rng.random((rows, terms)) < 0.4) * (rng.random((rows, 1)) < 0.8)
    return encoded(dense.astype(np.float16), sparse.astype(np.float16))


def build(folder: Path, vectors: Encoded, *, batch: int = 3) -> HybridIndex:
    return build_index(
        folder,
        (vectors.rows(start, start + batch) for start in range(0, len(vectors), batch)),
        [Passage(f"p{n}", f"title {n}", f"text {n} ünïcode") for n in range(len(vectors))],
        dimensions=vectors.dense.shape[1],
        vocabulary=vectors.sparse.shape[1],
        retriever=RETRIEVER,
    )


def reference_scores(query: Encoded, passages: Encoded, part: str) -> list[float]:
    words, all_words = query.sparse.toarray()[0].tolist(), passages.sparse.toarray().tolist()
    query_dense, all_dense = query.dense[0].tolist(), passages.dense.tolist()
    scores = []
    for vector, terms in zip(all_dense, all_words, strict=True):
        if part == "hybrid":
            scores.append(scoring.hybrid_score(query_dense, vector, words, terms))
        elif part == "dense":
            scores.append(scoring.dense_score(query_dense, vector))
        else:
            scores.append(scoring.sparse_score(words, terms))
    return scores


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    passages=st.integers(1, 30),
    width=st.integers(0, 6),
    terms=st.integers(1, 12),
    k=st.integers(1, 40),
    part=st.sampled_from(["hybrid", "dense", "sparse"]),
)
def test_search_equals_trying_every_passage(
    seed: int, passages: int, width: int, terms: int, k: int, part: str
) -> None:
    rng = np.random.default_rng(seed)
    vectors = random_vectors(rng, passages, width, terms, grid=True)
    queries = random_vectors(rng, 5, width, terms, grid=True)
    with TemporaryDirectory() as folder:
        scores, positions = build(Path(folder) / "index", vectors).search(queries, k, part=part)
    assert scores.dtype == np.float32
    assert positions.dtype == np.int32
    assert scores.shape == positions.shape == (5, k)
    for row in range(5):
        expected = reference_scores(queries.rows(row, row + 1), vectors, part)
        best = scoring.best_passages(expected, k)
        padding = k - len(best)
        assert positions[row].tolist() == best + [-1] * padding
        assert scores[row].tolist() == [expected[p] for p in best] + [-np.inf] * padding


@pytest.mark.parametrize("part", ["hybrid", "dense", "sparse"])
def test_scores_are_right_to_float32_on_real_valued_vectors(tmp_path: Path, part: str) -> None:
    rng = np.random.default_rng(1)
    vectors = random_vectors(rng, 200, 48, 60, grid=False)
    queries = random_vectors(rng, 70, 48, 60, grid=False)
    scores, positions = build(tmp_path / "index", vectors, batch=17).search(queries, 10, part=part)
    for row in range(0, 70, 7):
        expected = reference_scores(queries.rows(row, row + 1), vectors, part)
        np.testing.assert_allclose(scores[row], sorted(expected, reverse=True)[:10], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(scores[row], [expected[p] for p in positions[row]], rtol=1e-5, atol=1e-5)


def test_copies_of_a_passage_come_in_order_of_position(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    one = random_vectors(rng, 1, 384, 50, grid=False)
    copies = Encoded.concatenate([one] * 101)
    queries = random_vectors(rng, 9, 384, 50, grid=False)
    scores, positions = build(tmp_path / "index", copies).search(queries, 20)
    assert (positions == np.arange(20)).all()
    assert (scores == scores[:, :1]).all()


def test_rounding_in_the_matrix_product_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    vectors, queries = (random_vectors(rng, n, 8, 5, grid=True) for n in (60, 10))
    index = build(tmp_path / "index", vectors)
    scores, positions = index.search(queries, 7)
    roughly = index._dense_roughly

    def noisily(dense: np.ndarray) -> np.ndarray:
        errors = np.array([[index._error(query)] for query in dense])
        return (roughly(dense) + errors * rng.uniform(-1, 1, (len(dense), 60))).astype(np.float32)

    monkeypatch.setattr(index, "_dense_roughly", noisily)
    for _ in range(5):
        noisy_scores, noisy_positions = index.search(queries, 7)
        np.testing.assert_array_equal(noisy_scores, scores)
        np.testing.assert_array_equal(noisy_positions, positions)


def test_postings_read_in_groups_and_passages_past_16_bits_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(3)
    vectors, queries = (random_vectors(rng, n, 4, 20, grid=True) for n in (40, 12))
    whole = build(tmp_path / "whole", vectors).search(queries, 15)
    monkeypatch.setattr(postings, "CHUNK", 7)
    monkeypatch.setattr(postings, "position_type", lambda size: np.dtype(np.int32))
    in_groups = build(tmp_path / "groups", vectors).search(queries, 15)
    np.testing.assert_array_equal(whole[0], in_groups[0])
    np.testing.assert_array_equal(whole[1], in_groups[1])


def test_vectors_are_kept_in_16_bits_without_vanishing_impacts(tmp_path: Path) -> None:
    vectors = encoded(np.array([[0.1]]), np.array([[1e-9, 0.1, 0.0]]))
    index = build(tmp_path / "index", vectors)
    query = encoded(np.array([[1.0]]), np.array([[1.0, 1.0, 1.0]]))
    tenth = float(np.float16(0.1))
    assert index.explain(query, 0).dense == tenth
    assert index.explain(query, 0).contributions == [(1, tenth)]
    assert index.size_bytes("dense") == 2
    assert index.size_bytes("sparse") == 4 * 8 + 2 + 2
    assert index.size_bytes() == index.size_bytes("dense") + index.size_bytes("sparse")


def test_explanation_splits_the_score_into_parts_and_terms(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    vectors, queries = (random_vectors(rng, n, 5, 30, grid=False) for n in (25, 6))
    index = build(tmp_path / "index", vectors)
    scores, positions = index.search(queries, 25)
    for row, column in itertools.product(range(6), range(25)):
        query, position = queries.rows(row, row + 1), int(positions[row, column])
        found = index.explain(query, position)
        words, kept = query.sparse.toarray()[0].tolist(), vectors.sparse.toarray()[position].tolist()
        products = {term: words[term] * kept[term] for term in range(30) if words[term] and kept[term]}
        assert dict(found.contributions) == products
        assert [value for _, value in found.contributions] == sorted(products.values(), reverse=True)
        assert found.sparse == pytest.approx(scoring.sparse_score(words, kept), abs=1e-12)
        assert found.dense + found.sparse == pytest.approx(float(scores[row, column]), abs=1e-5)


def test_a_loaded_index_is_the_one_written_and_stays_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    vectors, queries = (random_vectors(rng, n, 4, 9, grid=False) for n in (20, 3))
    built = build(tmp_path / "index", vectors)
    loaded = HybridIndex.load(tmp_path / "index")
    for before, after in zip(built.search(queries, 8), loaded.search(queries, 8), strict=True):
        np.testing.assert_array_equal(before, after)
    assert len(loaded) == 20
    assert loaded.retriever == RETRIEVER
    assert loaded.ids == [f"p{n}" for n in range(20)]
    assert loaded.passages([7, 2]) == [Passage(f"p{n}", f"title {n}", f"text {n} ünïcode") for n in (7, 2)]
    for array in (loaded._dense, loaded._postings.passages, loaded._postings.impacts):
        assert isinstance(array.base, np.memmap)
    names = {file.name for file in (tmp_path / "index").iterdir()}
    arrays = {"dense.npy", "term_offsets.npy", "posting_passages.npy", "posting_impacts.npy"}
    assert names == arrays | {"settings.json", "passages.arrow", ".dupmae"}


def test_ranking_is_a_run_without_padding(tmp_path: Path) -> None:
    vectors = encoded(np.array([[1.0], [3.0], [2.0]]), np.zeros((3, 2)))
    queries = encoded(np.array([[1.0], [-1.0]]), np.zeros((2, 2)))
    run = build(tmp_path / "index", vectors).ranking(["a", "b"], queries, 5)
    assert run == {"a": {"p1": 3.0, "p2": 2.0, "p0": 1.0}, "b": {"p0": -1.0, "p2": -2.0, "p1": -3.0}}
    assert list(run["a"]) == ["p1", "p2", "p0"]


def test_no_queries_give_an_empty_result(tmp_path: Path) -> None:
    vectors = encoded(np.ones((2, 1)), np.ones((2, 2)))
    scores, positions = build(tmp_path / "index", vectors).search(vectors.rows(0, 0), 3)
    assert scores.shape == positions.shape == (0, 3)


def test_encoded_refuses_parts_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="3 rows, sparse has 2"):
        Encoded(np.zeros((3, 1), np.float32), csr_array((2, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="float32"):
        Encoded(np.zeros((2, 1)), csr_array((2, 5), dtype=np.float32))
    with pytest.raises(ValueError, match="two axes"):
        Encoded(np.zeros(2, np.float32), csr_array((2, 5), dtype=np.float32))


def test_queries_of_another_width_and_k_below_one_are_refused(tmp_path: Path) -> None:
    vectors = encoded(np.ones((2, 3)), np.ones((2, 4)))
    index = build(tmp_path / "index", vectors)
    with pytest.raises(DupmaeError, match=r"widths \(3, 5\), the index has \(3, 4\) .*retriever"):
        index.search(encoded(np.ones((1, 3)), np.ones((1, 5))), 1)
    with pytest.raises(DupmaeError, match="k: 0 passages"):
        index.search(vectors, 0)
