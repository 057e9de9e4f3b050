"""How pairs of systems differ on the same queries: in the mean, by chance or not, and query by query.

`differences` gives every pair, `moved` the queries that one pair disagrees on most.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dupmae.evaluation.significance import holm, mean_interval, paired_randomization, paired_t_test

# Two sums of the same numbers in another order differ by less than this; two ranks differ by more.
TIE = 1e-9
SIGNIFICANT = 0.05
Array = npt.NDArray[np.float64]
TESTS: dict[str, Callable[[Array, Array], float]] = {
    "randomization": paired_randomization,
    "t-test": paired_t_test,
}
TESTS_IN_WORDS = {"randomization": "paired randomisation test, 10,000 swaps", "t-test": "paired t-test"}

Values = Mapping[str, Mapping[str, float]]
"""System -> query id -> value of one metric; every system has the same queries."""


@dataclass(frozen=True)
class Difference:
    """One pair of systems on one metric.

    Attributes:
        mean: of system minus other over the queries.
        low: lower end of the mean's 95% confidence interval (Student's t).
        high: its upper end.
        p: two-sided p-value of the paired test.
        corrected: the same after Holm's correction over all pairs compared.
        wins: queries on which the system is better; losses: worse; ties: equal.
    """

    system: str
    other: str
    mean: float
    low: float
    high: float
    p: float
    corrected: float
    wins: int
    ties: int
    losses: int

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.corrected < SIGNIFICANT

    @property
    def better(self) -> str | None:
        """The one of the two that is significantly better, if one is."""
        if not self.significant or self.mean == 0:
            return None
        return self.system if self.mean > 0 else self.other


def differences(values: Values, *, baseline: str | None = None, test: str = "randomization") -> list[Difference]:
    """Compare every pair of systems, or every other system with the baseline.

    Args:
        values: of one metric, for two systems or more.
        baseline: the name of the system that all others are compared with; None: every pair.
        test: a key of `TESTS`.
    """
    order = list(next(iter(values.values())))
    arrays = {name: np.array([found[query] for query in order]) for name, found in values.items()}
    return corrected(
        [_difference(one, other, arrays[one], arrays[other], test) for one, other in pairs(list(values), baseline)]
    )


def corrected(pairs: Sequence[Difference]) -> list[Difference]:
    """The same pairs with their p-values corrected by Holm's method over all of them."""
    p_values = holm({str(place): pair.p for place, pair in enumerate(pairs)})
    return [replace(pair, corrected=p) for pair, p in zip(pairs, p_values.values(), strict=True)]


def pairs(names: Sequence[str], baseline: str | None) -> list[tuple[str, str]]:
    """The pairs (system, other) that are compared; of two given ones the later one is the system."""
    if baseline is None:
        return [(later, earlier) for earlier, later in itertools.combinations(names, 2)]
    return [(name, baseline) for name in names if name != baseline]


def _difference(system: str, other: str, ours: Array, theirs: Array, test: str) -> Difference:
    p, by_query = TESTS[test](ours, theirs), ours - theirs
    wins, losses = int((by_query > TIE).sum()), int((by_query < -TIE).sum())
    low, high = mean_interval(by_query)
    ties = len(by_query) - wins - losses
    return Difference(system, other, float(by_query.mean()), low, high, p, p, wins, ties, losses)


def moved(system: Mapping[str, float], other: Mapping[str, float], count: int) -> list[tuple[str, float]]:
    """The queries with the largest gains and then those with the largest losses of one system over another.

    Args:
        count: how many of each; queries that tie are none of them.

    Returns:
        (query id, difference): gains from the largest down, losses from the largest down; equal ones in the
        order of `system`.
    """
    by_query = [(query, value - other[query]) for query, value in system.items()]
    gains = sorted((pair for pair in by_query if pair[1] > TIE), key=lambda pair: -pair[1])
    losses = sorted((pair for pair in by_query if pair[1] < -TIE), key=lambda pair: pair[1])
    return gains[:count] + losses[:count]
