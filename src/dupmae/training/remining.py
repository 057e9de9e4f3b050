"""Hard negatives that follow the model: mined anew every so many steps, with the weights as they are then.

The loop of ANCE (Xiong et al. 2021, arXiv 2007.00808) inside one run: training waits for the mining. What was mined is
kept by position in the run's folder, so that a resumed run goes on with the negatives of the stopped one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.corpus.training_data import TrainingData
from dupmae.files import new_file
from dupmae.retriever.model import Retriever
from dupmae.search.topk import NOTHING
from dupmae.training import checkpoints, processes
from dupmae.training.candidates import RetrieverRanker, best_negatives
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData
from dupmae.training.prefetch import Prefetched

Positions = NDArray[np.int32]


class ReminingSteps:
    """Batches of fine-tuning whose hard negatives are replaced before the steps `every`, 2 `every`, and so on.

    Args:
        negatives: those that `steps` draws from.
        mine: gives positions in the passages [Q, depth], -1 past the last, with the weights as they are.
        folder: of the run; `negatives-<step>.npy` are kept there.
        resume: whether the run goes on from its last checkpoint, if there is one.
    """

    def __init__(
        self,
        steps: FinetuningSteps,
        negatives: HardNegatives,
        mine: Callable[[], Positions],
        *,
        every: int,
        folder: Path,
        resume: bool,
    ) -> None:
        self._steps, self._negatives, self._mine = steps, negatives, mine
        self._every, self._folder, self._block = every, folder, 0
        self._batches = Prefetched(steps)
        if processes.rank() == 0 and not (resume and checkpoints.listed(folder)):
            for file in folder.glob("negatives-*.npy"):
                file.unlink()

    @property
    def per_epoch(self) -> float:
        """Steps that go through all queries once."""
        return self._steps.per_epoch

    def part(self, step: int, part: int, parts: int) -> dict[str, Tensor] | None:
        """As `FinetuningSteps.part`; every process has to ask for a part of every step."""
        if step // self._every != self._block:
            self._block = step // self._every
            self._refresh(self._block * self._every)
            # The batch that was made ahead has negatives of the block before.
            self._batches = Prefetched(self._steps)
        return self._batches.part(step, part, parts)

    def _refresh(self, step: int) -> None:
        file = self._folder / f"negatives-{step}.npy"
        if processes.rank() == 0 and not file.exists():
            logger.info(f"step {step:,}: mining negatives with the present weights")
            # A resumed run reads the file instead, and has to draw the same dropout afterwards.
            with torch.random.fork_rng():
                found = self._mine()
            with new_file(file) as temporary, temporary.open("wb") as handle:
                np.save(handle, found, allow_pickle=False)
            self._forget(step)
        processes.join().wait_for_everyone()
        rows: Positions = np.load(file, allow_pickle=False)
        self._negatives.replace([row[row != NOTHING].tolist() for row in rows])

    def _forget(self, step: int) -> None:
        """Delete what no checkpoint can go on from."""
        oldest = min((int(path.name.partition("-")[2]) for path in checkpoints.listed(self._folder)), default=0)
        for file in self._folder.glob("negatives-*.npy"):
            began = int(file.stem.partition("-")[2])
            if began + self._every <= min(oldest, step):
                file.unlink()


def mine_again(pairs: PairData, retriever: Retriever, depth: int) -> Positions:
    """The `depth` best passages of every query by a retriever, less those that answer it: positions [Q, depth]."""
    passages = [Passage(str(place), "", text) for place, text in enumerate(pairs.passages)]
    names = [str(row) for row in range(len(pairs.queries))]
    data = TrainingData(
        dict(zip(names, pairs.queries, strict=True)),
        {name: [str(place) for place in found] for name, found in zip(names, pairs.positives, strict=True)},
        {},
        lambda: enumerate(passages, 1),
        Path("passages"),
    )
    found = best_negatives(data, RetrieverRanker(retriever, pairs.queries), depth).positions
    kept = np.full(found.shape, NOTHING, dtype=np.int32)
    for query, row in enumerate(found):
        chosen = pairs.answers.removed(query, row[row != NOTHING].tolist())
        kept[query, : len(chosen)] = chosen
    return kept
