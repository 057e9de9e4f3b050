"""Batches hold every record once an epoch, within the budget, and depend on (seed, step) alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.batches import BatchOrder, PretrainingSteps, budget_batches, epoch_batches

record_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)
budgets = st.integers(16, 300)


@settings(max_examples=60)
@given(record_lengths, budgets, st.integers(0, 100), st.integers(0, 3))
def test_an_epoch_holds_every_record_once_within_the_budget(
    lengths: np.ndarray, budget: int, seed: int, epoch: int
) -> None:
    batches = epoch_batches(lengths, budget, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        assert lengths[batch].max() * len(batch) <= budget or len(batch) == 1


@given(record_lengths, budgets)
def test_batches_are_filled(lengths: np.ndarray, budget: int) -> None:
    order = np.argsort(lengths, kind="stable")
    batches = budget_batches(lengths, budget, order)
    assert np.concatenate(batches).tolist() == order.tolist()
    for batch, following in pairwise(batches):
        assert lengths[following[0]] * (len(batch) + 1) > budget


@settings(max_examples=30)
@given(record_lengths, budgets, st.integers(0, 100), st.integers(0, 30))
def test_a_step_needs_no_replay(lengths: np.ndarray, budget: int, seed: int, step: int) -> None:
    walked = BatchOrder(lengths, budget, seed)
    for earlier in range(step):
        walked[earlier]
    assert walked[step].tolist() == BatchOrder(lengths, budget, seed)[step].tolist()


def test_order_joins_epochs() -> None:
    lengths = np.random.default_rng(0).integers(8, 40, 50)
    first, second = (epoch_batches(lengths, 128, 7, epoch) for epoch in (0, 1))
    order = BatchOrder(lengths, 128, 7)
    found = [order[step].tolist() for step in range(len(first) + len(second))]
    assert found == [batch.tolist() for batch in first + second]
    assert sorted(map(tuple, found[: len(first)])) != sorted(map(tuple, found[len(first) :]))


@pytest.mark.parametrize("shape", ["lognormal", "uniform"])
def test_little_padding_on_realistic_lengths(shape: str) -> None:
    random = np.random.default_rng(0)
    drawn = random.lognormal(4, 0.8, 20_000) if shape == "lognormal" else random.uniform(8, 512, 20_000)
    lengths = np.clip(drawn.astype(int), 8, 512)
    batches = epoch_batches(lengths, 4096, 0, 0)
    width = sum(int(lengths[batch].max()) * len(batch) for batch in batches)
    assert 1 - lengths.sum() / width < 0.03


class FewRecords:
    def __init__(self) -> None:
        self.rows = [
            (np.array([2, 7, 8, 3], np.int32), np.array([1, 1, 0, 1], bool)),
            (np.array([2, 9, 3], np.int32), np.array([1, 1, 1], bool)),
        ]
        self.lengths = np.array([4, 3])

    def get(self, indices: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.rows[index] for index in indices]


def test_a_padded_batch() -> None:
    steps = PretrainingSteps(FewRecords(), steps=5, batch_tokens=64, seed=0, pad_id=0, special_ids=[0, 2, 3])
    assert len(steps) == 5
    item = steps[3]
    assert item["input_ids"].tolist() == [[2, 7, 8, 3], [2, 9, 3, 0]]
    assert item["word_starts"].tolist() == [[True, True, False, True], [True, True, True, False]]
    assert item["special"].tolist() == [[True, False, False, True], [True, False, True, True]]
    assert item["valid"].tolist() == [[True] * 4, [True, True, True, False]]
    assert int(item["step"]) == 3
