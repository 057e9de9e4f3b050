"""Prefetched batches are those of the data, made ahead by one thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest
import torch

from dupmae.training.prefetch import Item, Prefetched

STEPS = 6


@dataclass
class Data:
    """Batches that say their step and part, with two rows each; notes who makes them."""

    made: list[tuple[int, int, int]] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return STEPS

    def part(self, step: int, part: int, parts: int) -> Item | None:
        self.made.append((step, part, parts))
        self.threads.add(threading.get_ident())
        if step == 4:
            raise OSError("a shard has gone")
        return {"rows": torch.tensor([step, part])} if part < 2 else None


def rows(batch: Item | None) -> list[int]:
    assert batch is not None
    return batch["rows"].tolist()


def wait_for(data: Data, count: int) -> None:
    until = time.monotonic() + 10
    while len(data.made) < count and time.monotonic() < until:
        time.sleep(0.001)


def test_the_next_batch_is_made_unasked_in_another_thread() -> None:
    data = Data()
    batches = Prefetched(data)
    assert len(batches) == STEPS
    assert rows(batches[0]) == [0, 0]
    wait_for(data, 2)
    assert data.made == [(0, 0, 1), (1, 0, 1)]
    assert [rows(batches[step]) for step in (1, 2, 3)] == [[1, 0], [2, 0], [3, 0]]
    assert rows(batches[5]) == [5, 0]
    assert data.made[:4] == [(step, 0, 1) for step in range(4)]
    assert (6, 0, 1) not in data.made
    assert len(data.threads) == 1
    assert threading.get_ident() not in data.threads


def test_the_parts_of_a_step_and_those_that_are_not_there() -> None:
    data = Data()
    batches = Prefetched(data)
    for step in (0, 1, 2):
        assert [rows(batches.part(step, part, 3)) for part in (0, 1)] == [[step, 0], [step, 1]]
        assert batches.part(step, 2, 3) is None
    wait_for(data, 12)
    # Each was made once.
    assert sorted(data.made) == [(step, part, 3) for step in range(4) for part in range(3)]


def test_a_run_that_goes_back_or_on_elsewhere_gets_its_own_batches() -> None:
    batches = Prefetched(Data())
    assert [rows(batches[step]) for step in (0, 3, 1, 5)] == [[0, 0], [3, 0], [1, 0], [5, 0]]
    assert rows(batches.part(2, 1, 2)) == [2, 1]


def test_an_error_comes_with_the_step_that_it_is_of() -> None:
    batches = Prefetched(Data())
    assert rows(batches[3]) == [3, 0]
    with pytest.raises(OSError, match="a shard has gone"):
        batches[4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_batches_for_a_gpu_are_in_page_locked_memory() -> None:
    assert Prefetched(Data())[0]["rows"].is_pinned()
