"""Weights chosen on sentence pairs with gold scores while fine-tuning goes on, as SimCSE chooses them on STS-B's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from dupmae.console import logger
from dupmae.corpus.sts_pairs import Alike
from dupmae.files import new_file
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.model import Retriever
from dupmae.settings import RetrieverSettings
from dupmae.training import processes
from dupmae.training.checkpoints import weights_of
from dupmae.training.loop import Line
from dupmae.training.run import Lines, Watcher

NAME = "probe_spearman"
BEST = "best.safetensors"


class Selection(Watcher):
    """Looks on while a retriever is trained, and keeps the weights with the best correlation.

    A resumed run knows the best from its log, and measures what came after its checkpoint again.

    Args:
        dtype: what is measured runs in, as for `Retriever`.
        every: steps between measurements; the last step has one too.
        folder: of the run, where the best weights are kept.
    """

    def __init__(
        self,
        pairs: Sequence[Alike],
        encoder: HybridEncoder,
        tokenizer: Any,
        settings: RetrieverSettings,
        *,
        dtype: Literal["auto", "bf16", "fp32"],
        every: int,
        folder: Path,
    ) -> None:
        self._pairs, self._encoder, self._tokenizer, self._settings = pairs, encoder, tokenizer, settings
        self._dtype, self._every, self._file = dtype, every, folder / BEST
        self._steps, self._best = 0, -math.inf
        self._pending: Line = {}

    def begin(self, done: int, steps: int, lines: Lines) -> None:
        """Take up the measurements of an earlier part of the run."""
        self._steps = steps
        self._best = max((line[NAME] for line in lines if NAME in line), default=-math.inf)

    def after_step(self, done: int) -> bool:
        """Measure when it is time to; process 0 alone does it."""
        if done % self._every and done != self._steps:
            return False
        if processes.rank() == 0:
            # A retriever puts its encoder into evaluation mode.
            training = self._encoder.training
            retriever = Retriever(self._encoder, self._tokenizer, self._settings, dtype=self._dtype)
            value = correlation(self._pairs, retriever)
            self._encoder.train(training)
            self._pending = {NAME: value}
            if value > self._best:
                self._best = value
                self._keep()
        return True

    def complete(self, line: Line) -> None:
        """Add the correlation to the line of its step."""
        line |= self._pending
        self._pending = {}

    def _keep(self) -> None:
        weights = {name: value.detach().cpu().contiguous() for name, value in weights_of(self._encoder)}
        with new_file(self._file) as temporary:
            save_file(weights, temporary)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the best weights back, at the end of the run."""
        best = load_file(self._file)
        for name, value in weights_of(self._encoder):
            value.copy_(best[name])
        logger.info(f"the weights with the best correlation on {len(self._pairs):,} pairs are kept")


def correlation(pairs: Sequence[Alike], retriever: Retriever) -> float:
    """Spearman's rank correlation of the gold scores with the cosine of the dense vectors; 0 where one is constant."""
    left, right = (
        retriever.encode_queries(texts).dense.astype(np.float64)
        for texts in ([pair.left for pair in pairs], [pair.right for pair in pairs])
    )
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(1) / np.maximum(norms, np.finfo(np.float64).tiny)
    gold = np.array([pair.gold for pair in pairs])
    if not np.ptp(gold) or not np.ptp(cosines):
        return 0.0
    return float(spearmanr(gold, cosines).statistic)
