from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dupmae.evaluation import significance
from dupmae.evaluation.significance import holm, paired_randomization
from tests.reference.metrics import exact_randomization

values = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1.0])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=9))
def test_close_to_all_swaps_counted(pairs: list[tuple[float, float]]) -> None:
    a, b = [list(side) for side in zip(*pairs, strict=True)]
    exact = exact_randomization(a, b)
    # Four standard errors of a share estimated from 20,000 draws.
    assert paired_randomization(a, b, permutations=20_000) == pytest.approx(exact, abs=4 * 0.5 / 20_000**0.5)


def test_agrees_with_the_t_test_on_many_queries() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(0.50, 0.3, 1500)
    b = a - rng.normal(0.012, 0.25, 1500)
    assert paired_randomization(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.015)


def test_bounds_and_symmetry() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.random(400), rng.random(400)
    assert paired_randomization(a, a) == 1.0
    assert paired_randomization(a + 1, a, permutations=999) == 1 / 1000
    assert paired_randomization(a, b) == paired_randomization(b, a)
    assert paired_randomization(a, b, seed=3) == paired_randomization(a, b, seed=3)


def test_one_pair_is_never_evidence() -> None:
    assert paired_randomization([1.0, 0.5], [0.0, 0.5]) == 1.0


def test_counts_every_permutation_over_several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(50), rng.random(50)
    whole = paired_randomization(a, b, permutations=5000)
    monkeypatch.setattr(significance, "_CHUNK", 50 * 300)
    assert paired_randomization(a, b, permutations=5000) == pytest.approx(whole, abs=0.03)


def test_holm_known_values() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )
    assert holm({}) == {}
    assert holm({"only": 0.2}) == {"only": 0.2}


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p: list[float]) -> None:
    raw = {str(i): value for i, value in enumerate(p)}
    corrected = holm(raw)
    assert list(corrected) == list(raw)
    for name, value in raw.items():
        assert value <= corrected[name] <= min(1.0, len(p) * value)
        assert all(corrected[name] <= corrected[other] for other in raw if raw[other] > value)
