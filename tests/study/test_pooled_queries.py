"""What a study's p-values are of: queries averaged over seeds, each by its share of the average over collections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dupmae.evaluation.significance import paired_randomization
from dupmae.study.statistics import Cells

SIZES = {"large": 60, "small": 6}
SEEDS = (0, 1, 2)
GOOD, NONE = {"pre-training": "good"}, {"pre-training": "none"}


def values(seed: int) -> dict[str, np.ndarray]:
    """Differences of every query: without effect in the large collection, with one in the small, noise by seed."""
    generator = np.random.default_rng(seed)
    return {
        "large": 0.02 * generator.standard_normal(SIZES["large"]),
        "small": 0.02 + 0.03 * generator.standard_normal(SIZES["small"]),
    }


def record() -> dict[str, Any]:
    cells = []
    for levels, factor in ((GOOD, 1.0), (NONE, 0.0)):
        for seed in SEEDS:
            per_query = {name: (0.5 + factor * found).tolist() for name, found in values(seed).items()}
            cells.append({"settings": levels, "seed": seed, "current": True, "per_query": per_query})
    return {"study": {"tests": list(SIZES)}, "cells": cells}


def p_of(differences: np.ndarray) -> float:
    return paired_randomization(differences, np.zeros_like(differences))


def test_a_query_counts_once_and_a_collection_as_much_as_any_other() -> None:
    found = Cells(record()).differences({"pair": (GOOD, NONE)})["pair"]
    drawn = [values(seed) for seed in SEEDS]
    means = {name: np.mean([one[name] for one in drawn], axis=0) for name in SIZES}
    pooled = np.concatenate([means[name] / len(means[name]) for name in SIZES])
    assert found.average == pytest.approx(np.mean([means[name].mean() for name in SIZES]))
    assert found.p == pytest.approx(p_of(pooled), abs=0.005)
    unweighted = np.concatenate(list(means.values()))
    seeds_apart = np.concatenate([one[name] / len(one[name]) for one in drawn for name in SIZES])
    # The faults that this is to notice are far off.
    assert min(abs(found.p - p_of(wrong)) for wrong in (unweighted, seeds_apart)) > 0.01
    for name in SIZES:
        assert found.sets[name] == pytest.approx(means[name].mean())
    least = min(p_of(means[name]) for name in SIZES)
    assert min(found.sets_p.values()) == pytest.approx(2 * least, abs=0.005)
