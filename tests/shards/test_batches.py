"""Batches hold every record once an epoch, within the budget, and depend on (seed, step) alone."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.shards.batches import BatchOrder, MixedOrder, PretrainingSteps, budget_batches
from dupmae.shards.lengths import LengthIndex

record_lengths = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(np.array)
budgets = st.integers(16, 300)


def epoch_of(order: BatchOrder, epoch: int) -> list[np.ndarray]:
    return [order[step][0] for step in range(epoch * order.batches, (epoch + 1) * order.batches)]


@settings(max_examples=60)
@given(record_lengths, budgets, st.integers(0, 100), st.integers(0, 3))
def test_an_epoch_holds_every_record_once_within_the_budget(
    lengths: np.ndarray, budget: int, seed: int, epoch: int
) -> None:
    order = BatchOrder(LengthIndex.of(lengths), budget, seed)
    batches = epoch_of(order, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    padded = 0
    for step, batch in enumerate(batches, start=epoch * order.batches):
        assert lengths[batch].max() * len(batch) <= budget or len(batch) == 1
        assert (np.diff(batch) > 0).all()
        assert order[step][1].tolist() == lengths[batch].tolist()
        padded += int(lengths[batch].max()) * len(batch)
    assert order.padding == pytest.approx(1 - lengths.sum() / padded)


@given(record_lengths, budgets)
def test_batches_are_filled(lengths: np.ndarray, budget: int) -> None:
    order = np.argsort(lengths, kind="stable")
    batches = budget_batches(lengths, budget, order)
    assert np.concatenate(batches).tolist() == order.tolist()
    for batch, following in pairwise(batches):
        assert lengths[following[0]] * (len(batch) + 1) > budget


def test_nothing_makes_no_batches() -> None:
    nothing = np.array([], dtype=np.int64)
    assert budget_batches(nothing, 64, nothing) == []


def test_epochs_differ_and_so_do_seeds() -> None:
    lengths = np.random.default_rng(0).integers(8, 40, 500)
    order = BatchOrder(LengthIndex.of(lengths), 256, 7)
    first, second = ([batch.tolist() for batch in epoch_of(order, epoch)] for epoch in (0, 1))
    assert sorted(first) != sorted(second)
    other = BatchOrder(LengthIndex.of(lengths), 256, 8)
    assert [batch.tolist() for batch in epoch_of(other, 0)] != first
    # Batches of one length come at any time of an epoch.
    widths = [int(lengths[batch].max()) for batch in first]
    assert abs(np.corrcoef(widths, np.arange(len(widths)))[0, 1]) < 0.2


@pytest.mark.parametrize("shape", ["lognormal", "uniform"])
def test_next_to_no_padding_on_realistic_lengths(shape: str) -> None:
    random = np.random.default_rng(0)
    drawn = random.lognormal(4, 0.8, 20_000) if shape == "lognormal" else random.uniform(8, 512, 20_000)
    lengths = np.clip(drawn.astype(int), 8, 512)
    assert BatchOrder(LengthIndex.of(lengths), 4096, 0).padding < 0.01


def test_a_corpus_of_any_size_costs_no_memory() -> None:
    """A hundred million records: any step, from anywhere in the run, within the memory of its own records.

    Step 10**9 would take minutes if those before it were walked through.
    """
    lengths, counts = np.arange(8, 129), np.full(121, 826_447)
    places = np.lib.stride_tricks.as_strided(np.arange(1, dtype=np.uint32), (int(counts.sum()),), (0,))
    tracemalloc.start()
    order = BatchOrder(LengthIndex(places, lengths, counts), 4096, 0)
    for step in (0, 5, 10**7, 10**9):
        order[step]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4e6


def mixed(weights: list[float], sizes: list[int]) -> MixedOrder:
    return MixedOrder([BatchOrder(LengthIndex.of(np.full(size, 16)), 64, 3) for size in sizes], weights)


def test_corpora_have_their_shares_at_any_time() -> None:
    order = mixed([3, 1, 0.5], [400, 40, 4])
    owners = np.array([order[step][0] for step in range(1100)])
    for count in (9, 45, 450, 1100):
        shares = np.bincount(owners[:count], minlength=3)
        assert np.abs(shares - count * np.array([3, 1, 0.5]) / 4.5).max() <= 2, count


def test_each_corpus_is_gone_through_in_epochs_of_its_own() -> None:
    order = mixed([3, 1], [400, 40])
    steps = [order[step] for step in range(300)]
    for corpus, size in enumerate([400, 40]):
        own = [records for owner, records, _ in steps if owner == corpus]
        epoch = size // 4
        for start in range(0, len(own) - epoch + 1, epoch):
            assert sorted(np.concatenate(own[start : start + epoch])) == list(range(size))
    lone = BatchOrder(LengthIndex.of(np.full(40, 16)), 64, 3)
    assert [records.tolist() for owner, records, _ in steps if owner][:50] == [lone[s][0].tolist() for s in range(50)]


@pytest.mark.parametrize("weights", [[1.0], [1e-9, 1.0], [1, 1, 1], [1e9, 1e-9, 3e8, 7]])
def test_no_corpus_is_left_out(weights: list[float]) -> None:
    order = mixed(weights, [8] * len(weights))
    assert set(range(len(weights))) == {order[step][0] for step in range(1000)}


class FewRecords:
    def __init__(self, token: int = 7) -> None:
        self.rows = [
            (np.array([2, token, 8, 3], np.int32), np.array([1, 1, 0, 1], bool)),
            (np.array([2, 9, 3], np.int32), np.array([1, 1, 1], bool)),
        ]
        self.lengths = np.array([4, 3])
        self.index = LengthIndex.of(self.lengths)

    def get(self, indices: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.rows[index] for index in indices]


def test_a_padded_batch() -> None:
    steps = PretrainingSteps([FewRecords()], steps=5, batch_tokens=64, seed=0, pad_id=0, special_ids=[0, 2, 3])
    assert len(steps) == 5
    item = steps[3]
    assert item["input_ids"].tolist() == [[2, 7, 8, 3], [2, 9, 3, 0]]
    assert item["word_starts"].tolist() == [[True, True, False, True], [True, True, True, False]]
    assert item["special"].tolist() == [[True, False, False, True], [True, False, True, True]]
    assert item["valid"].tolist() == [[True] * 4, [True, True, True, False]]
    assert int(item["step"]) == 3
    assert item["rows"].tolist() == [0, 1]
    assert steps.step_lengths(3).tolist() == [4, 3]


def test_parts_are_the_rows_dealt_out() -> None:
    steps = PretrainingSteps([FewRecords()], steps=5, batch_tokens=64, seed=0, pad_id=0, special_ids=[0, 2, 3])
    parts = [steps.part(1, part, 3) for part in range(3)]
    assert parts[2] is None
    assert [part["rows"].tolist() for part in parts if part is not None] == [[0], [1]]
    assert [part["input_ids"].tolist() for part in parts if part is not None] == [[[2, 7, 8, 3]], [[2, 9, 3]]]


def test_batches_are_of_one_corpus() -> None:
    corpora = [FewRecords(7), FewRecords(6)]
    steps = PretrainingSteps(corpora, [1, 3], steps=8, batch_tokens=64, seed=0, pad_id=0, special_ids=[0, 2, 3])
    tokens = [int(steps[step]["input_ids"][0, 1]) for step in range(8)]
    assert sorted(tokens) == [6] * 6 + [7] * 2
