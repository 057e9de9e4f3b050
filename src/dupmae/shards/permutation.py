"""A random permutation that is computed where it is asked for and never held: `permuted`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Four rounds are enough in theory (Luby and Rackoff, 1988); the sizes here may be as small as 2, where more mix better.
ROUNDS = 8
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def permuted(places: NDArray[np.integer], size: int, key: tuple[int, ...]) -> NDArray[np.int64]:
    """Where a random permutation of 0 .. size - 1 takes `places`, in time and memory of their number alone.

    A Feistel network over the next power of four, walked along its cycles until it is back below `size`
    (Black and Rogaway, 2002), so that every place below `size` is taken exactly once.

    Args:
        places: integers in [0, size), any shape.
        key: non-negative integers that choose the permutation.
    """
    half = np.uint64(max(1, -(-max(1, size - 1).bit_length() // 2)))
    keys = np.random.SeedSequence(key).generate_state(ROUNDS, np.uint64).astype(np.uint64)
    values = np.array(places, dtype=np.uint64)
    outside = np.ones(values.shape, dtype=np.bool_)
    while outside.any():
        values[outside] = _feistel(values[outside], half, keys)
        outside = values >= size
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_mixed(right + key) & mask)
    return (left << half) | right


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit moves every output bit."""
    for shift, factor in zip((30, 27), _MIX, strict=True):
        values = (values ^ (values >> np.uint64(shift))) * factor
    return values ^ (values >> np.uint64(31))
