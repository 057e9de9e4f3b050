"""Batches by token budget, in an order that depends on nothing but (seed, step).

A batch is computed from its step alone, without the batches before it and without a list of records, so a resumed
run, or one on another number of processes, sees the same batches, and memory does not grow with the corpus.
`BatchOrder` is the order of one corpus, `MixedOrder` of several by weight, `PretrainingSteps` the padded batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dupmae.shards.lengths import LengthIndex
from dupmae.shards.permutation import permuted

Indices = NDArray[np.int64]
# Weights are kept to a thousandth.
PERIOD = 1000


def budget_batches(lengths: NDArray[np.integer], batch_tokens: int, order: NDArray[np.int64]) -> list[Indices]:
    """Cut `order` into batches whose longest length times count stays within `batch_tokens`.

    Lengths are assumed to grow along `order`; a single record over the budget gets a batch of its own.
    """
    different, counts = np.unique(lengths[order], return_counts=True)
    batches: list[Indices] = []
    start = 0
    for size, times in _batch_sizes(different, counts, batch_tokens):
        for _ in range(times):
            batches.append(order[start : start + size])
            start += size
    return batches


def _batch_sizes(lengths: Indices, counts: Indices, batch_tokens: int) -> Iterator[tuple[int, int]]:
    """How records sorted by length fall into batches: (records of a batch, batches of that size), shortest first.

    Every batch takes the next records as long as longest length times count stays within the budget, and at least
    one. At most two entries for each different length.
    """
    ends = counts.cumsum()
    start, at = 0, 0
    while at < len(lengths):
        full = max(1, batch_tokens // int(lengths[at]))
        times = (int(ends[at]) - start) // full
        if times:
            yield full, times
            start += full * times
        if start < ends[at]:
            # The rest of this length, filled up with longer records while the budget allows.
            end = int(np.minimum(ends[at:], start + batch_tokens // lengths[at:]).max())
            yield end - start, 1
            start = end
        at = int(np.searchsorted(ends, start, side="right"))


class BatchOrder:
    """Which records of one corpus the batch of a step holds, over as many epochs as it takes.

    Batches are cut from the records sorted by length, so they hold records of one length but where one length
    passes into the next. Each epoch anew, records of the same length are shuffled among themselves, and the batches
    as a whole: both by permutations computed in place.

    Attributes:
        batches: number of batches of an epoch, the same for every epoch.
        padding: share of padding in an epoch's tokens.
    """

    def __init__(self, index: LengthIndex, batch_tokens: int, seed: int) -> None:
        self._index, self._seed = index, seed
        self._ends = index.counts.cumsum()
        sizes = np.array(list(_batch_sizes(index.lengths, index.counts, batch_tokens)), dtype=np.int64)
        # Runs of batches of one size: the size, the number of the first batch, and the place of its first record.
        self._size, times = sizes.T
        self._first_batch = np.concatenate([[0], times.cumsum()])
        self._first_place = np.concatenate([[0], (self._size * times).cumsum()])
        self.batches = int(self._first_batch[-1])
        longest = index.lengths[np.searchsorted(self._ends, self._first_place[1:] - 1, side="right")]
        self.padding = 1 - float(index.lengths @ index.counts) / float((longest * self._size * times).sum())

    def __getitem__(self, step: int) -> tuple[Indices, Indices]:
        """Records of step `step` (counted from 0) in rising order, and their lengths: two int64 [B]."""
        epoch, place = divmod(step, self.batches)
        batch = permuted(np.array([place]), self.batches, (self._seed, epoch))[0]
        run = int(np.searchsorted(self._first_batch, batch, side="right")) - 1
        first = self._first_place[run] + (batch - self._first_batch[run]) * self._size[run]
        places = np.arange(first, first + self._size[run])
        buckets = np.searchsorted(self._ends, places, side="right")
        for bucket in np.unique(buckets):
            here = buckets == bucket
            count = int(self._index.counts[bucket])
            begin = self._ends[bucket] - count
            places[here] = begin + permuted(places[here] - begin, count, (self._seed, epoch, int(bucket)))
        records = self._index.records[places].astype(np.int64)
        rising = np.argsort(records)
        return np.asarray(records[rising]), self._index.lengths[buckets[rising]]


class MixedOrder:
    """Which corpus the batch of a step is from, and which of its records.

    Each corpus has the share of the batches that its weight says, spread evenly: after any number of steps it is
    within one or two batches of it. Each is gone through in epochs of its own.
    """

    def __init__(self, orders: Sequence[BatchOrder], weights: Sequence[float]) -> None:
        self.orders = orders
        shares = _shares(np.asarray(weights, dtype=np.float64))
        owners = np.repeat(np.arange(len(shares)), shares)
        turns = np.concatenate([(np.arange(share) + 0.5) / share for share in shares])
        self._turns = owners[np.argsort(turns, kind="stable")]
        self._shares = shares

    def __getitem__(self, step: int) -> tuple[int, Indices, Indices]:
        """The corpus of step `step`, records of it in rising order, and their lengths."""
        period, turn = divmod(step, PERIOD)
        corpus = int(self._turns[turn])
        own = period * int(self._shares[corpus]) + int(np.count_nonzero(self._turns[:turn] == corpus))
        return corpus, *self.orders[corpus][own]


def _shares(weights: NDArray[np.float64]) -> Indices:
    """Batches of each corpus in a period: in proportion to the weights, at least one, together `PERIOD`."""
    exact = weights / weights.sum() * PERIOD
    shares: Indices = np.maximum(1, np.floor(exact)).astype(np.int64)
    while shares.sum() != PERIOD:
        step = 1 if shares.sum() < PERIOD else -1
        lacking = step * (exact - shares)
        lacking[(shares + step) < 1] = -np.inf
        shares[np.argmax(lacking)] += step
    return shares


class Records(Protocol):
    """What pre-training reads of one corpus: records of (input_ids int32 [L], word_starts bool [L])."""

    @property
    def index(self) -> LengthIndex:
        """The records by length."""
        ...

    @property
    def lengths(self) -> NDArray[np.integer]:
        """Tokens of each record [N]."""
        ...

    def get(self, indices: Indices) -> list[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """The records at `indices`, in that order."""
        ...


class PretrainingSteps(Dataset[dict[str, Tensor]]):
    """The batches of a whole run as a data set with one padded batch a step.

    Items hold `input_ids` int64, `word_starts`, `special`, `valid` bool [B, L], `step` int64 [] and
    `rows` int64 [B], the rows' numbers in the joint batch of the step.

    Args:
        corpora: where the records come from.
        weights: share of the steps that each corpus has, to a thousandth of all.
        batch_tokens: tokens of a batch, padding included.
    """

    def __init__(
        self,
        corpora: Sequence[Records],
        weights: Sequence[float] = (1.0,),
        *,
        steps: int,
        batch_tokens: int,
        seed: int,
        pad_id: int,
        special_ids: list[int],
    ) -> None:
        self.corpora, self.steps, self.pad_id = corpora, steps, pad_id
        orders = [BatchOrder(records.index, batch_tokens, seed) for records in corpora]
        self.order = MixedOrder(orders, weights)
        self._special = np.asarray(special_ids)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        batch = self.part(step, 0, 1)
        assert batch is not None
        return batch

    @property
    def per_epoch(self) -> int:
        """Steps that go through as many batches as all corpora have."""
        return sum(order.batches for order in self.order.orders)

    def step_lengths(self, step: int) -> Indices:
        """Tokens of each row of the joint batch of a step, int64 [B]; the widest says how much of it is padding."""
        return self.order[step][2]

    def part(self, step: int, part: int, parts: int) -> dict[str, Tensor] | None:
        """Every `parts`-th row of the batch of a step from row `part` on; None where there is no such row."""
        corpus, whole, _ = self.order[step]
        if part >= len(whole):
            return None
        rows = self.corpora[corpus].get(whole[part::parts])
        width = max(len(ids) for ids, _ in rows)
        input_ids = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        word_starts = np.zeros((len(rows), width), dtype=bool)
        valid = np.zeros((len(rows), width), dtype=bool)
        for row, (ids, starts) in enumerate(rows):
            input_ids[row, : len(ids)] = ids
            word_starts[row, : len(ids)] = starts
            valid[row, : len(ids)] = True
        return {
            "input_ids": torch.from_numpy(input_ids),
            "word_starts": torch.from_numpy(word_starts),
            "special": torch.from_numpy(np.isin(input_ids, self._special)),
            "valid": torch.from_numpy(valid),
            "step": torch.tensor(step),
            "rows": torch.arange(part, len(whole), parts),
        }
