"""What the cells of a study say: means, spread over seeds, differences and whether they are more than chance.

A cell's figure is nDCG@10 averaged over the queries of each collection, then over the collections. Two cells are
compared over the seeds that both have: query by query, a collection's queries weighing as much as its share of the
average.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dupmae.evaluation.significance import holm, paired_randomization

COMPARED, SECOND = "ndcg@10", "recall@100"
# Holm's correction keeps the chance of one false alarm among all below this.
LEVEL = 0.05
Levels = Mapping[str, str]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One cell over its seeds, or a system without training.

    Attributes:
        sets: mean nDCG@10 by collection.
        average: its mean over collections; `spread` the standard deviation of that over seeds, None for one seed.
        recall: mean Recall@100 over collections.
        steps, minutes: of pre-training and processor minutes of everything, means over seeds.
    """

    levels: Levels
    seeds: tuple[int, ...]
    sets: Mapping[str, float]
    average: float
    spread: float | None
    recall: float
    steps: float
    minutes: float


@dataclass(frozen=True)
class Difference:
    """How much one cell is above another: on average and by collection, with p-values corrected by Holm's method.

    Attributes:
        p: over queries, the seeds being fixed.
        seeds: those that both cells have.
        by_seed: the average of each of them.
        low, high: 95% interval of the average over other seeds and other queries; with one seed over queries alone.
    """

    average: float
    sets: Mapping[str, float]
    p: float
    sets_p: Mapping[str, float]
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    low: float
    high: float


class Cells:
    """The cells of a `study.json` that belong to its present settings; `older` counts those that do not."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        self.study: Mapping[str, Any] = record["study"]
        self.tests: list[str] = self.study["tests"]
        self._runs: dict[tuple[tuple[str, str], ...], dict[int, Mapping[str, Any]]] = {}
        self.older = sum(not cell["current"] for cell in record["cells"])
        for cell in record["cells"]:
            if cell["current"]:
                self._runs.setdefault(_key(cell["settings"]), {})[cell["seed"]] = cell

    def row(self, levels: Levels) -> Row | None:
        """The cell at some levels, None when it has not been run."""
        runs = self._runs.get(_key(levels), {})
        if not runs:
            return None
        averages = [self._average(run, COMPARED) for run in runs.values()]
        return Row(
            levels,
            tuple(sorted(runs)),
            {test: _mean(run["metrics"][test][COMPARED] for run in runs.values()) for test in self.tests},
            _mean(averages),
            statistics.stdev(averages) if len(averages) > 1 else None,
            _mean(self._average(run, SECOND) for run in runs.values()),
            _mean(_steps(run) for run in runs.values()),
            _mean(_seconds(run) / 60 for run in runs.values()),
        )

    def runs(self) -> list[Mapping[str, Any]]:
        """Every run of every trained cell."""
        return [run for runs in self._runs.values() for run in runs.values() if "system" not in run["settings"]]

    def differences(self, pairs: Mapping[str, tuple[Levels, Levels]]) -> dict[str, Difference]:
        """Every pair's first cell less its second, by name; pairs without a common seed are left out.

        Holm's correction is over all pairs for the averages, and over all pairs and collections for the latter.
        """
        found: dict[str, tuple[dict[str, Array], tuple[int, ...]]] = {}
        for name, (levels, other) in pairs.items():
            runs, others = self._runs.get(_key(levels), {}), self._runs.get(_key(other), {})
            # What is not trained has one run, which stands for every seed.
            if "system" in other or "system" in levels:
                seeds = tuple(sorted(others if "system" in levels else runs))
                both = [(_any(runs, seed), _any(others, seed)) for seed in seeds]
            else:
                seeds = tuple(sorted(runs.keys() & others.keys()))
                both = [(runs[seed], others[seed]) for seed in seeds]
            if seeds and all(a is not None and b is not None for a, b in both):
                found[name] = ({test: _difference(both, test) for test in self.tests}, seeds)
        # The test is over queries, their values averaged over the seeds.
        means = {
            name: {test: value.mean(axis=0) for test, value in values.items()} for name, (values, _) in found.items()
        }
        averages = holm({name: _p(_pooled(values)) for name, values in means.items()})
        by_set = holm({f"{name}\n{test}": _p(values[test]) for name, values in means.items() for test in values})
        return {
            name: Difference(
                float(np.mean([value.mean() for value in values.values()])),
                {test: float(value.mean()) for test, value in values.items()},
                averages[name],
                {test: by_set[f"{name}\n{test}"] for test in values},
                seeds,
                tuple(np.mean([value.mean(axis=1) for value in values.values()], axis=0).tolist()),
                *crossed_interval(list(values.values())),
            )
            for name, (values, seeds) in found.items()
        }

    def _average(self, run: Mapping[str, Any], metric: str) -> float:
        return _mean(run["metrics"][test][metric] for test in self.tests)


def _any(runs: Mapping[int, Mapping[str, Any]], seed: int) -> Mapping[str, Any] | None:
    return runs.get(seed) or next(iter(runs.values()), None)


def crossed_interval(collections: Sequence[Array], level: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the average over collections when seeds and queries are both draws.

    The variance of a mean over two crossed random factors, seeds and each collection's queries, from their mean
    squares, with Satterthwaite's degrees of freedom (Clark, 1973, "The language-as-fixed-effect fallacy", quasi-F).
    With one seed only the queries vary.

    Args:
        collections: differences of each collection, [S, Q]; the same seeds in each, S at least 1.
        level: share of such intervals that hold the true average.
    """
    seeds, weight = len(collections[0]), 1 / len(collections)
    by_seed = weight * np.sum([values.mean(axis=1) for values in collections], axis=0)
    # Variances of the average by the queries of each collection, and by both together, which is in the others as well.
    drawn = [values for values in collections if values.shape[1] > 1]
    parts = [
        (weight**2 * float(values.mean(axis=0).var(ddof=1)) / values.shape[1], values.shape[1] - 1) for values in drawn
    ]
    shared = 0.0
    if seeds > 1:
        parts.append((float(by_seed.var(ddof=1)) / seeds, seeds - 1))
        shared = sum(weight**2 * _residual(values) / values.size for values in drawn)
    # Where chance makes the difference negative, no less is left than the largest part.
    variance = max(sum(part for part, _ in parts) - shared, max((part for part, _ in parts), default=0.0))
    mean = float(by_seed.mean())
    if not variance:
        return mean, mean
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * variance**0.5
    return mean - reach, mean + reach


def _residual(values: Array) -> float:
    """Mean square of what neither seed nor query explains, [S, Q]."""
    rest = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float((rest**2).sum()) / float((values.shape[0] - 1) * (values.shape[1] - 1))


def _difference(both: Sequence[tuple[Any, Any]], test: str) -> Array:
    """Difference of every query's value with every seed, [S, Q]."""
    return np.array([np.subtract(a["per_query"][test], b["per_query"][test]) for a, b in both])


def _pooled(values: Mapping[str, Array]) -> Array:
    """All queries' differences, each by its share of the average over collections."""
    return np.concatenate([value / len(value) for value in values.values()])


def _p(differences: Array) -> float:
    return paired_randomization(differences, np.zeros_like(differences))


def _key(levels: Levels) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(levels.items()))


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)


def _steps(run: Mapping[str, Any]) -> float:
    return float(sum(run["steps"][stage]["steps"] for stage in ("pretrain", "second") if stage in run["steps"]))


def _seconds(run: Mapping[str, Any]) -> float:
    return float(sum(stage["processor"] for stage in run["seconds"].values()))
