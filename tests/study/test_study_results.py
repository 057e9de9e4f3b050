"""What a study concludes from its record: means, spread, differences, and words for them."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dupmae.evaluation.significance import paired_randomization
from dupmae.study import pages as results
from dupmae.study.pages import verdict, write_results
from dupmae.study.statistics import Cells, Difference, crossed_interval

BASE = np.linspace(0.1, 0.5, 40)
LIFT = {"none": 0.0, "good": 0.05, "bad": -0.05, "same": 0.0}


def run(level: str, seed: int, part: str = "x", shift: float = 0.0) -> dict[str, Any]:
    """A run whose queries are all lifted by what the level is worth."""
    values = {"a": BASE + LIFT[level] + shift, "b": BASE[:10] + LIFT[level] / 2 + shift}
    minutes = {stage: {"processor": 60.0, "clock": 90.0} for stage in ("pretrain", "finetune", "evaluate")}
    return {
        "settings": {"pre-training": level, "part": part},
        "seed": seed,
        "current": True,
        "metrics": {name: {"ndcg@10": float(found.mean()), "recall@100": 0.5} for name, found in values.items()},
        "per_query": {name: found.tolist() for name, found in values.items()},
        "steps": {"pretrain": {"steps": 7, "flops": 1.0}, "finetune": 2},
        "seconds": minutes,
        "hardware": {"device": "abacus", "threads": 1},
    }


def made(*cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
    study = {
        "title": "T",
        "flops": 1e9,
        "axes": {"pre-training": ["good", "none", "bad", "same"], "part": ["x", "y"]},
        "cross": [],
        "same": {},
        "baseline": {"pre-training": "none", "part": "x"},
        "references": ["BM25"],
        "tests": ["a", "b"],
        "pairs": ["p"],
        "rows": "cells",
        "findings": [],
    }
    return {"study": study | changes, "cells": list(cells)}


RECORD = made(*(run(level, seed, shift=seed / 100) for level in ("good", "none", "bad") for seed in (0, 1, 2)))


def test_rows_are_means_over_seeds() -> None:
    row = Cells(RECORD).row({"pre-training": "good", "part": "x"})
    assert row is not None
    averages = [((0.3 + 0.05) + (BASE[:10].mean() + 0.025)) / 2 + seed / 100 for seed in (0, 1, 2)]
    assert row.average == pytest.approx(statistics.fmean(averages))
    assert row.spread == pytest.approx(statistics.stdev(averages))
    assert row.sets["a"] == pytest.approx(0.36)
    assert (row.seeds, row.steps, row.minutes) == ((0, 1, 2), 7, 3.0)
    assert Cells(RECORD).row({"pre-training": "same", "part": "x"}) is None


def test_differences_are_paired_by_query_and_seed() -> None:
    none, good = ({"pre-training": level, "part": "x"} for level in ("none", "good"))
    # A seed that one of the two lacks does not count.
    cells = Cells(made(*RECORD["cells"], run("good", 3, shift=0.4)))
    found = cells.differences({"good": (good, none)})["good"]
    assert found.seeds == (0, 1, 2)
    assert found.average == pytest.approx((0.05 + 0.025) / 2)
    assert found.sets == {"a": pytest.approx(0.05), "b": pytest.approx(0.025)}
    pooled = np.concatenate([np.full(40, 0.05 / 40), np.full(10, 0.025 / 10)])
    assert found.p == pytest.approx(paired_randomization(pooled, 0 * pooled), abs=1e-3)
    assert found.sets_p["a"] == pytest.approx(2 * paired_randomization(np.full(40, 0.05), np.zeros(40)), abs=1e-3)
    bad = {"pre-training": "bad", "part": "x"}
    both = cells.differences({"good": (good, none), "bad": (bad, none), "missing": (none, {"pre-training": "same"})})
    assert set(both) == {"good", "bad"}
    assert both["good"].p == pytest.approx(2 * found.p)


@pytest.mark.parametrize(
    ("average", "p", "seeds", "said"),
    [
        (0.1, 0.01, (0, 1), "holds"),
        (0.1, 0.2, (0, 1), "same direction, not significant"),
        (-0.1, 0.01, (0,), "does not hold: the opposite, one seed"),
        (-0.1, 0.05, (0, 1), "opposite direction, not significant"),
        (0.0, 1.0, (0, 1), "no difference"),
    ],
)
def test_verdicts(average: float, p: float, seeds: tuple[int, ...], said: str) -> None:
    assert verdict(Difference(average, {}, p, {}, seeds, (), 0.0, 0.0)) == said


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([1, 1], "one seed"),
        ([3, 2], "bars: standard deviation over 2 or more seeds"),
        ([1, 3], "bars: standard deviation over 2 or more seeds, without: one seed"),
    ],
)
def test_what_a_plot_says_of_seeds(seeds: list[int], said: str) -> None:
    cells = Cells(made(*(run(level, seed) for level, count in zip(LIFT, seeds) for seed in range(count))))  # noqa: B905
    rows = [row for level in LIFT if (row := cells.row({"pre-training": level, "part": "x"})) is not None]
    assert results._count(rows) == said


def test_the_page(tmp_path: Path) -> None:
    findings = [
        {"claim": "Better", "better": level("good"), "worse": level("none"), "quoted": "", "note": ""},
        {"claim": "Worse", "better": level("bad"), "worse": level("none"), "quoted": "", "note": ""},
        {"claim": "Open", "better": level("same"), "worse": level("none"), "quoted": "", "note": ""},
    ]
    bm25 = run("none", 0) | {"settings": {"system": "BM25"}, "steps": {}}
    stale = run("same", 0) | {"current": False}
    record = made(*RECORD["cells"], bm25, stale, findings=findings)
    text = write_results(record, tmp_path, plots=False).read_text()
    assert not list(tmp_path.glob("*.png"))
    assert "9 runs: 3 cells, seeds 0, 1 and 2, on abacus, 1 thread." in text
    assert "pre-training 1.0, fine-tuning 1.0, evaluation 1.0" in text
    assert "| Better | – | good / none | +0.0375 | p < 0.001 | holds | +++ | +0.0375 to +0.0375 |" in text
    assert "| Worse | – | bad / none | -0.0375 | p < 0.001 | does not hold: the opposite | −−− |" in text
    assert "| Open | – | same / none | – | – | not run yet | – | – |" in text
    assert "| good | 0.3600 | 0.1812 | 0.2706 ± 0.0100 | 0.5000 | 7 | 3.0 | 3 |" in text
    assert "| good | +0.0500 (p < 0.001) |" in text
    assert "Not run yet: same." in text
    assert "networks were computed as they are now: 1." in text


def test_the_interval_over_seeds_and_queries_of_seeds_that_agree_is_that_over_queries() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.1, 50)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for seeds in (1, 3):
        assert crossed_interval([np.tile(values, (seeds, 1))]) == pytest.approx((expected.low, expected.high))
    assert crossed_interval([np.full((3, 1), 0.5)]) == (0.5, 0.5)


def test_the_interval_of_queries_that_agree_is_that_over_seeds() -> None:
    values = np.array([[0.1], [0.2], [0.4]])
    expected = stats.ttest_1samp(values[:, 0], 0).confidence_interval(0.95)
    found = crossed_interval([np.tile(values, (1, 40)), np.tile(values, (1, 10))])
    assert found == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("seed_spread", "query_spread"), [(0.03, 0.1), (0.0, 0.1), (0.1, 0.0)])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(seed_spread: float, query_spread: float) -> None:
    """Draws of a world whose true difference is .02; an interval over queries alone would fail where seeds matter."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        seeds = rng.normal(0.02, seed_spread, (3, 1))
        collections = [
            seeds + rng.normal(0, query_spread, (1, size)) + rng.normal(0, 0.05, (3, size)) for size in (60, 20)
        ]
        low, high = crossed_interval(collections)
        held += low <= 0.02 <= high
    assert held / 400 > 0.93


def level(name: str) -> dict[str, str]:
    return {"pre-training": name, "part": "x"}


def test_sets_as_rows(tmp_path: Path) -> None:
    record = made(*RECORD["cells"], rows="sets")
    text = write_results(record, tmp_path, plots=False).read_text()
    assert "|  | good | none | bad |" in text
    assert "| a | **0.3600** | 0.3100 | 0.2600 |" in text
    assert "| average | **0.2706 ± 0.0100** | 0.2331 ± 0.0100 |" in text


def test_nothing_yet(tmp_path: Path) -> None:
    assert "No cell is finished yet." in write_results(made(), tmp_path, plots=True).read_text()
