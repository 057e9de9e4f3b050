"""Permutations hold every place once, depend on the key, and favour no place."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dupmae.shards.permutation import permuted


@given(st.integers(1, 3000), st.integers(0, 2**40), st.integers(0, 5))
def test_every_place_is_taken_once(size: int, seed: int, epoch: int) -> None:
    order = permuted(np.arange(size), size, (seed, epoch))
    assert np.sort(order).tolist() == list(range(size))


def test_some_places_give_what_all_give() -> None:
    order = permuted(np.arange(777), 777, (3,))
    some = np.array([[5, 700], [0, 5]])
    assert permuted(some, 777, (3,)).tolist() == order[some].tolist()
    assert permuted(np.array([], dtype=np.int64), 777, (3,)).tolist() == []


def test_large_sizes_cost_nothing() -> None:
    size = 10**12
    order = permuted(np.arange(1000), size, (0,))
    assert len(set(order.tolist())) == 1000
    assert order.min() >= 0
    assert order.max() < size
    assert 0.4 < order.mean() / size < 0.6


def test_every_order_is_as_likely() -> None:
    keys = 2000
    found = [tuple(permuted(np.arange(3), 3, (seed, 0)).tolist()) for seed in range(keys)]
    orders, counts = np.unique(found, axis=0, return_counts=True)
    assert len(orders) == 6
    # Five degrees of freedom: above 30 once in a hundred thousand times.
    assert ((counts - keys / 6) ** 2 / (keys / 6)).sum() < 30


def test_neighbours_are_parted() -> None:
    order = permuted(np.arange(4096), 4096, (1, 2))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.06
    assert abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.06
    assert 0 <= (order == np.arange(4096)).sum() < 9
