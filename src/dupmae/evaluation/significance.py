"""Is the difference between two systems more than chance? Paired tests, and Holm's correction for several."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from scipy import stats

# Signs held at once: 4 million float64 take 32 MB.
_CHUNK = 4_000_000


def paired_randomization(a: npt.ArrayLike, b: npt.ArrayLike, *, permutations: int = 10_000, seed: int = 0) -> float:
    """Two-sided paired randomisation test (Fisher's) of the difference in means.

    If the systems were alike, each query's two values could as well be swapped: the p-value is the share of
    random swaps whose mean difference is at least the one seen, which itself counts as one of them, so the
    least p-value is 1 / (1 + permutations).

    Args:
        a: values of one system, [Q], a query a place.
        b: values of the other on the same queries, [Q].
        permutations: how many random swaps.
        seed: of the swaps; the same seed gives the same p-value.
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    # A pair of equal values adds nothing, swapped or not.
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    # Sums of the same numbers in another order differ in the last digits: a tie must stay a tie.
    seen = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    generator = np.random.default_rng(seed)
    extreme, left = 0, permutations
    while left:
        rows = min(left, max(1, _CHUNK // len(differences)))
        signs = 2.0 * generator.integers(0, 2, size=(rows, len(differences)), dtype=np.int8) - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= seen))
        left -= rows
    return (1 + extreme) / (1 + permutations)


def paired_t_test(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Two-sided p-value of Student's t-test on the differences of pairs.

    1 when all pairs are equal or there is one pair alone: no evidence is no difference.

    Args:
        a: values of one system, [Q], a query a place.
        b: values of the other on the same queries, [Q].
    """
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if len(differences) < 2 or not differences.any():
        return 1.0
    # Differences that are all the same have an infinite t, of which scipy warns.
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(stats.ttest_1samp(differences, 0).pvalue)


def mean_interval(differences: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a mean, by Student's t; one value alone has none but itself.

    Args:
        differences: the values, [Q], Q at least 1.
        level: share of such intervals that hold the true mean.
    """
    values = np.asarray(differences, dtype=np.float64)
    if len(values) == 1 or not np.ptp(values):
        return float(values[0]), float(values[0])
    low, high = stats.t.interval(level, len(values) - 1, values.mean(), stats.sem(values))
    return float(low), float(high)


def holm(p_values: dict[str, float]) -> dict[str, float]:
    """Correct p-values for being several, step down (Holm, 1979): the chance of one false alarm among all.

    >>> holm({"bm25": 0.01, "base": 0.04, "dense": 0.03})
    {'bm25': 0.03, 'base': 0.06, 'dense': 0.06}
    """
    corrected: dict[str, float] = {}
    floor = 0.0
    for done, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - done) * p_values[name]))
        corrected[name] = floor
    return {name: corrected[name] for name in p_values}
