"""Batches that are made while the step before them is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from torch import Tensor

from dupmae.retriever.backbones import device

Item = dict[str, Tensor]
# Step, part, and how many parts.
Key = tuple[int, int, int]


class Batches(Protocol):
    """Batches that are a function of their step."""

    def __len__(self) -> int:
        """How many steps there are."""
        ...

    @property
    def per_epoch(self) -> float:
        """Steps that go through the data once."""
        ...

    def part(self, step: int, part: int, parts: int) -> Item | None:
        """Part `part` of `parts` of a step's batch, None when there are fewer rows than parts."""
        ...


class Prefetched:
    """The batches of a run, the next one always in the making.

    A step ends with a wait for the GPU, so that without this the GPU would then wait for the next batch. A batch is a
    function of its step: nothing of this has to be kept for a resumed run. What it needs must not change in the
    course of the run. For a GPU tensors are put into page-locked memory, which it copies from on its own.
    """

    def __init__(self, data: Batches, finish: Callable[[Item], Item] = lambda item: item) -> None:
        self._data, self._finish, self._pinned = data, finish, device().type == "cuda"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._asked: dict[Key, Future[Item | None]] = {}

    def __len__(self) -> int:
        return len(self._data)

    @property
    def per_epoch(self) -> float:
        """Steps that go through the data once."""
        return self._data.per_epoch

    def __getitem__(self, step: int) -> Item:
        """The whole batch of a step (counted from 0)."""
        batch = self.part(step, 0, 1)
        assert batch is not None
        return batch

    def part(self, step: int, part: int, parts: int) -> Item | None:
        """Part `part` of `parts` of a step's batch, None when there are fewer rows than parts."""
        batch = self._ask((step, part, parts)).result()
        # Another number of parts, or a run that goes on elsewhere, leaves some that nobody takes.
        self._asked = {key: asked for key, asked in self._asked.items() if key[0] >= step}
        self._asked.pop((step, part, parts))
        if step + 1 < len(self):
            self._ask((step + 1, part, parts))
        return batch

    def _ask(self, key: Key) -> Future[Item | None]:
        if key not in self._asked:
            self._asked[key] = self._thread.submit(self._make, *key)
        return self._asked[key]

    def _make(self, step: int, part: int, parts: int) -> Item | None:
        batch = self._data.part(step, part, parts)
        if batch is None:
            return None
        batch = self._finish(batch)
        return {name: value.pin_memory() if self._pinned and value.dim() else value for name, value in batch.items()}
