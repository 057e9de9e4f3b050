"""Batches by token budget, in an order that depends on nothing but (seed, step).

A batch is a pure function of its step, so a resumed run, or one with another number of loader
workers, sees the same batches without replaying the ones before.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

# Records are sorted by length inside pools of this many batches: enough to leave under 3% padding
# while keeping the mix of an epoch random.
POOL_BATCHES = 64


def budget_batches(lengths: np.ndarray, batch_tokens: int, order: np.ndarray) -> list[np.ndarray]:
    """Cut `order` into batches whose longest length times count stays within `batch_tokens`.

    Lengths are assumed to grow along `order`; a single record over the budget gets a batch of its own.
    """
    batches, start, longest = [], 0, 0
    for place, record in enumerate(order):
        longest = max(longest, int(lengths[record]))
        if place > start and longest * (place + 1 - start) > batch_tokens:
            batches.append(order[start:place])
            start, longest = place, int(lengths[record])
    if start < len(order):
        batches.append(order[start:])
    return batches


def epoch_batches(lengths: np.ndarray, batch_tokens: int, seed: int, epoch: int) -> list[np.ndarray]:
    """All batches of one epoch: shuffled, sorted by length inside pools, cut, and shuffled again."""
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(len(lengths))
    pool = max(1, POOL_BATCHES * batch_tokens // max(1, int(lengths.mean())))
    batches = []
    for start in range(0, len(shuffled), pool):
        records = shuffled[start : start + pool]
        batches += budget_batches(lengths, batch_tokens, records[np.argsort(lengths[records], kind="stable")])
    random.shuffle(batches)
    return batches


class BatchOrder:
    """Which records the batch of a step holds, over as many epochs as it takes."""

    def __init__(self, lengths: np.ndarray, batch_tokens: int, seed: int) -> None:
        self._lengths, self._batch_tokens, self._seed = lengths, batch_tokens, seed
        self._epochs: list[list[np.ndarray]] = []
        self._ends: list[int] = []

    def __getitem__(self, step: int) -> np.ndarray:
        """Record indices of step `step` (counted from 0)."""
        while not self._ends or step >= self._ends[-1]:
            self._epochs.append(epoch_batches(self._lengths, self._batch_tokens, self._seed, len(self._epochs)))
            self._ends.append((self._ends[-1] if self._ends else 0) + len(self._epochs[-1]))
        epoch = int(np.searchsorted(self._ends, step, side="right"))
        return self._epochs[epoch][step - (self._ends[epoch - 1] if epoch else 0)]


class Records(Protocol):
    """What pre-training reads: records of (input_ids int32 [L], word_starts bool [L])."""

    lengths: np.ndarray

    def get(self, indices: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """The records at `indices`, in that order."""
        ...


class PretrainingSteps(Dataset[dict[str, Tensor]]):
    """The batches of a whole run as a data set with one padded batch a step.

    Items hold `input_ids` int64, `word_starts`, `special`, `valid` bool [B, L], and `step` int64 [].
    """

    def __init__(
        self, records: Records, *, steps: int, batch_tokens: int, seed: int, pad_id: int, special_ids: list[int]
    ) -> None:
        self.records, self.steps, self.pad_id = records, steps, pad_id
        self.order = BatchOrder(records.lengths, batch_tokens, seed)
        self._special = np.asarray(special_ids)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        rows = self.records.get(np.sort(self.order[step]))
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
        }
