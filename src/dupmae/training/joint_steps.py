"""Unlabelled text and pairs in one run: the batches of its steps, and what the training loop has to know of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dupmae.errors import DupmaeError
from dupmae.settings import Contrastive
from dupmae.shards.batches import PretrainingSteps
from dupmae.training import processes
from dupmae.training.flops import Shape, Texts, paired_flops
from dupmae.training.loop import Training
from dupmae.training.pairs import FinetuningSteps, HardNegatives, read_pair_data

Item = dict[str, Tensor]


class UnifiedSteps:
    """The joint batches of a run: text, pairs, or both in a step, by ratio; a function of (seed, step).

    Over any number of steps the batches of each kind are within one of their share, and the first step has both.
    Items hold what those of `PretrainingSteps` and `FinetuningSteps` do, and with text `counted`, bool []: whether its
    rows count.

    Args:
        text, pairs: batches by their own numbers: no batch of a kind is left out.
        ratio: batches of pairs for each of text.
        among: processes that each batch of pairs is dealt out to, whatever the passes of each.
        lengths: takes up the lengths of this process's queries and passages, by step.
    """

    def __init__(
        self,
        text: PretrainingSteps,
        pairs: FinetuningSteps,
        *,
        ratio: Fraction,
        among: int,
        lengths: dict[int, NDArray[np.int64]],
    ) -> None:
        self.text, self.pairs, self._among, self._lengths = text, pairs, among, lengths
        self._text_share, self._pair_share = min(Fraction(1), 1 / ratio), min(Fraction(1), ratio)

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, step: int) -> Item:
        return self.part(step, 0, 1)

    @property
    def per_epoch(self) -> float:
        """Steps that go through the unlabelled text once."""
        return float(self.text.per_epoch / self._text_share)

    @property
    def corpora(self) -> Any:
        """Where the unlabelled text comes from."""
        return self.text.corpora

    def step_lengths(self, step: int) -> NDArray[np.int64]:
        """Tokens of each row of unlabelled text in a step, int64 [B]; [0] where it has none."""
        number = place(step, self._text_share)
        return np.zeros(0, dtype=np.int64) if number is None else self.text.step_lengths(number)

    def part(self, step: int, part: int, parts: int) -> Item:
        """Part `part` of `parts` of a step's batches; the pairs are dealt out to the first parts alone.

        In-batch negatives need the whole batch at once, and gradient caching bounds its memory, so further passes of
        a process have none. A part without a row of text has one that does not count.
        """
        item: Item = {}
        number = place(step, self._text_share)
        if number is not None:
            own = self.text.part(number, part, parts)
            item = own or self.text.part(number, 0, parts) or {}
            item["counted"] = torch.tensor(own is not None)
        number = place(step, self._pair_share)
        if number is not None and part < self._among:
            pairs = self.pairs.part(number, part, self._among)
            assert pairs is not None
            sides = (pairs["query_valid"], pairs["passage_valid"])
            self._lengths[step] = np.concatenate([valid.sum(1).numpy() for valid in sides])
            item |= pairs
        return item


def place(step: int, share: Fraction) -> int | None:
    """The number of the batch that a step has of a kind with this share of the steps; None: it has none."""
    before = math.ceil(step * share)
    return before if math.ceil((step + 1) * share) > before else None


class PairedText:
    """The pairs of a run, to be joined with its unlabelled text.

    Args:
        longest: tokens that the model takes.

    Raises:
        DupmaeError: for pairs that cannot be read, texts longer than the model takes, and more processes than
            queries in a batch.
    """

    def __init__(self, settings: Contrastive, tokenizer: Any, *, longest: int, seed: int) -> None:
        _check(settings, longest)
        self._settings, self._tokenizer, self._seed = settings, tokenizer, seed
        self._data = read_pair_data(settings.data, settings.mined, settings.split)
        self._negatives = HardNegatives(self._data, settings.negative_depth)
        self._lengths: dict[int, NDArray[np.int64]] = {}
        self._ratio = Fraction(settings.ratio).limit_denominator(1000)
        if min(settings.batch_size, len(self._data.queries)) < processes.count():
            problem = f"{len(self._data.queries)} queries cannot be dealt out to {processes.count()} processes"
            raise DupmaeError(problem, where=settings.data, fix="start fewer processes")

    @property
    def queries(self) -> int:
        """How many queries there are."""
        return len(self._data.queries)

    def joined(self, text: PretrainingSteps) -> UnifiedSteps:
        """The steps of a run with these pairs."""
        settings = self._settings
        pairs = FinetuningSteps(
            self._data,
            self._negatives,
            self._tokenizer,
            steps=math.ceil(len(text) * min(Fraction(1), self._ratio)),
            batch_size=settings.batch_size,
            per_query=settings.negatives,
            lengths=(settings.query_length, settings.passage_length),
            prefixes=(settings.query_prefix, settings.passage_prefix),
            seed=self._seed,
        )
        return UnifiedSteps(text, pairs, ratio=self._ratio, among=processes.count(), lengths=self._lengths)

    def work(self, shape: Shape, step: int) -> float:
        """Counted operations of a step's pairs over all processes, by this one's share; 0 for a step not done here."""
        texts = Texts.of(self._lengths.pop(step, ()))
        return paired_flops(shape, texts).total * processes.count()


def _check(settings: Contrastive, longest: int) -> None:
    for name in ("query_length", "passage_length"):
        if getattr(settings, name) > longest:
            where = f"contrastive.{name}"
            raise DupmaeError(f"the model takes {longest} tokens", where=where, fix=f"set {where}={longest} or less")
    if settings.batch_size < processes.count():
        where = "contrastive.batch_size"
        problem = f"{settings.batch_size} queries a step cannot be dealt out to {processes.count()} processes"
        raise DupmaeError(problem, where=where, fix=f"set {where}={processes.count()} or more")


class TextTraining(Training):
    """Pre-training on text alone: masks are drawn where the batch is."""

    def inputs(self, item: Item) -> tuple[Sequence[Any], dict[str, Tensor]]:
        """The arguments of `DuplexMAE` from an item of `PretrainingSteps`."""
        model: Any = self.model
        texts = model.inner.arguments(item)
        return [texts], model.inner.counts(*texts)


class UnifiedTraining(Training):
    """Pre-training on text and pairs, by `UnifiedObjective`."""

    def inputs(self, item: Item) -> tuple[Sequence[Any], dict[str, Tensor]]:
        """The arguments from an item of `UnifiedSteps`.

        Pairs and text are a pass each, so that memory holds the activations of one of them. The text comes last,
        since it uses the decoder too.
        """
        model: Any = self.model
        passes: list[tuple[Any, Any]] = []
        counts: dict[str, Tensor] = {}
        if "targets" in item:
            passes.append((None, item))
            counts |= model.counts(None, item)
        if "counted" in item:
            texts = model.inner.arguments(item)
            passes.append((texts, None))
            counts |= {name: value * item["counted"] for name, value in model.counts(texts, None).items()}
        return passes, counts
