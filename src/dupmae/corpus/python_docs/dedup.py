"""Near-identical texts, found by MinHash.

Two texts are near-identical when the Jaccard similarity of their sets of three-word shingles is at least
`threshold`, as estimated from 64 minima (Broder 1997; standard error 0.05 at 0.8). Candidates share one of 16
bands of 4 minima, which a pair of similarity 0.8 does with probability 0.9998.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

SHINGLE = 3
BANDS, ROWS = 16, 4
BATCH = 8192
WORD = re.compile(r"\w+")

Hashes = NDArray[np.uint64]


def unlike(texts: Sequence[str], *, threshold: float = 0.8) -> NDArray[np.bool_]:
    """Which texts to keep so that none is near-identical to an earlier kept one.

    Returns:
        Booleans [N]; the first of each family of copies is kept.
    """
    signatures = minima(texts)
    keep = np.ones(len(texts), dtype=np.bool_)
    bands = _bands(signatures).tolist()
    kept: dict[int, list[int]] = {}
    for index, keys in enumerate(bands):
        candidates = list(set(chain.from_iterable(kept.get(key, ()) for key in keys)))
        if candidates:
            alike = (signatures[candidates] == signatures[index]).mean(axis=1)
            keep[index] = alike.max() < threshold
        if keep[index]:
            for key in keys:
                kept.setdefault(key, []).append(index)
    return keep


def minima(texts: Sequence[str]) -> Hashes:
    """The MinHash signature of each text: [N, 64], the least value of 64 hashes over its shingles."""
    vocabulary: dict[str, int] = {}
    parts = [_signatures(texts[start : start + BATCH], vocabulary) for start in range(0, len(texts), BATCH)]
    return np.concatenate(parts) if parts else np.zeros((0, BANDS * ROWS), dtype=np.uint64)


def _signatures(texts: Sequence[str], vocabulary: dict[str, int]) -> Hashes:
    shingles, starts = _shingles(texts, vocabulary)
    masks = np.random.default_rng(0).integers(0, 2**64, BANDS * ROWS, dtype=np.uint64)
    return np.stack([np.minimum.reduceat(_mix(shingles ^ mask), starts) for mask in masks], axis=1)


def _shingles(texts: Sequence[str], vocabulary: dict[str, int]) -> tuple[Hashes, NDArray[np.intp]]:
    """Hashed shingles of all texts in a row, and where each text starts; short texts are filled up to one."""
    numbers: list[int] = []
    ends: list[int] = []
    for text in texts:
        words = WORD.findall(text.lower())
        words += [""] * (SHINGLE - len(words))
        numbers.extend(vocabulary.setdefault(word, len(vocabulary)) for word in words)
        ends.append(len(numbers))
    values = np.array(numbers, dtype=np.uint64)
    shingles = values[: len(values) - SHINGLE + 1]
    for shift in range(1, SHINGLE):
        shingles = _mix(shingles) + values[shift : shift + len(shingles)]
    inside = np.ones(len(values), dtype=np.bool_)
    for shift in range(1, SHINGLE):
        # The last words of a text start no shingle of it: those would reach into the next text.
        inside[np.array(ends) - shift] = False
    starts = np.array([0, *ends[:-1]]) - (SHINGLE - 1) * np.arange(len(ends))
    return _mix(shingles)[inside[: len(shingles)]], starts


def _mix(values: Hashes) -> Hashes:
    """A bijective scramble of 64-bit numbers (the finaliser of SplitMix64; Steele, Lea, Flood 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _bands(signatures: Hashes) -> Hashes:
    """One key for each band of each text: [N, 16]; equal keys mean equal bands."""
    keys = np.arange(BANDS, dtype=np.uint64)[None, :].repeat(len(signatures), axis=0)
    grouped = signatures.reshape(-1, BANDS, ROWS)
    for row in range(ROWS):
        keys = _mix(keys ^ grouped[:, :, row])
    return keys
