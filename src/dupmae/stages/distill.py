"""`dupmae distill`: a retriever trained towards a teacher's scores (DupMAE, section 3.3, third step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dupmae.console import logger
from dupmae.corpus.negatives import read_mined, read_scores, score_of
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from dupmae.files import training_folder
from dupmae.nn.backbone import set_dropout
from dupmae.nn.contrastive import loss_weights
from dupmae.nn.distillation import DistillationObjective
from dupmae.retriever.backbones import device, resolve_dtype
from dupmae.retriever.model import Retriever
from dupmae.settings import Distill
from dupmae.stages.finetune import Finetuned
from dupmae.training import processes
from dupmae.training.loop import Training, names_of
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData
from dupmae.training.prefetch import Prefetched
from dupmae.training.run import Run, check_options

# What the authors give InfoNCE beside a divergence that is a mean over queries and passages.
AUTHORS_WEIGHT = 1e-4


@dataclass(frozen=True)
class Judged:
    """Training pairs, and the teacher's score of each passage of a query by the passage's position."""

    pairs: PairData
    scores: list[dict[int, float]]


def distill(settings: Distill) -> Finetuned:
    """Train a retriever on what a teacher thinks of mined negatives, and save it to `out`.

    Raises:
        DupmaeError: for data that cannot be read, unknown ids, a blank passage, and a pair without a score.
    """
    check_options(settings, "distill")
    processes.join()
    torch.manual_seed(settings.seed)
    judged = read_judged(settings)
    retriever = Retriever.load(settings.retriever)
    encoder = retriever.encoder.to(device()).train()
    kept = retriever.settings
    if settings.dropout is not None:
        set_dropout(encoder, settings.dropout)
    negatives = HardNegatives(judged.pairs, settings.negative_depth)

    def data(steps: int) -> DistillationSteps:
        return DistillationSteps(
            judged,
            negatives,
            retriever.tokenizer,
            steps=steps,
            batch_size=settings.batch_size,
            per_query=settings.negatives,
            lengths=(kept.query_length, kept.passage_length),
            prefixes=(kept.query_prefix, kept.passage_prefix),
            seed=settings.seed,
            counts=encoder.has_counts,
            query_terms_only=encoder.scores_query_terms_only,
        )

    model = DistillationObjective(encoder, resolve_dtype(settings.dtype), settings.chunk_size, settings.loss)
    training = Training(model, _weights(settings, retriever), names_of(model, encoder.new_parameters()))
    facts, folder = {"queries": len(judged.pairs.queries)}, training_folder(settings.out)
    run = Run(training, lambda steps: Prefetched(data(steps)), settings, folder, "distilling", facts)
    steps = run.steps()
    if processes.rank() == 0:
        logger.info(f"distilling for {steps:,} steps on {len(judged.pairs.queries):,} queries")
    log = run.train(steps)
    if processes.rank() == 0:
        Retriever(encoder, retriever.tokenizer, kept).save(settings.out)
    processes.join().wait_for_everyone()
    return Finetuned(settings.out, log, steps)


def read_judged(settings: Distill) -> Judged:
    """The mined pairs of a data set with the teacher's scores; queries left without a negative are passed over.

    Raises:
        DupmaeError: for unknown ids, a blank passage, a pair without a score, and fewer than two queries.
    """
    data = open_training(settings.data, settings.split)
    scores = read_scores(settings.scores)
    items = [item for item in read_mined(settings.mined, data.queries) if item.negatives]
    if len(items) < 2:
        raise DupmaeError("fewer than two queries with a negative", where=settings.mined, fix="mine more queries")
    passages = [(item, [*item.positives, *item.negatives[: settings.negative_depth]]) for item in items]
    texts = data.texts({name for _, names in passages for name in names}, settings.mined)
    position = {name: place for place, name in enumerate(texts)}
    judged = [
        {position[name]: score_of(scores, item.query, name, settings.scores) for name in names}
        for item, names in passages
    ]
    pairs = PairData(
        list(texts.values()),
        [data.queries[item.query] for item in items],
        [[position[name] for name in item.positives] for item in items],
        [[position[name] for name in item.negatives[: settings.negative_depth]] for item in items],
    )
    return Judged(pairs, judged)


class DistillationSteps(FinetuningSteps):
    """The batches of fine-tuning with the teacher's scores, as `DistillationObjective` takes them."""

    def __init__(self, judged: Judged, *arguments: Any, **options: Any) -> None:
        super().__init__(judged.pairs, *arguments, **options)
        self._scores = judged.scores

    def _item(
        self, queries: list[int], drawn: list[list[int]], passages: list[int], columns: list[int], start: int
    ) -> dict[str, Tensor]:
        """As for fine-tuning, with `group`, `teacher` and `group_valid` of its queries."""
        item = super()._item(queries, drawn, passages, columns, start)
        groups = [self._judged(*pair) for pair in zip(queries, drawn, strict=True)]
        # A part's passages stand rank by rank.
        item["group"] = start + torch.arange(len(passages)).view(-1, len(queries)).T
        item["teacher"] = torch.tensor([[score or 0.0 for score in group] for group in groups])
        item["group_valid"] = torch.tensor([[score is not None for score in group] for group in groups])
        return item

    def _judged(self, query: int, passages: Sequence[int]) -> list[float | None]:
        """The teacher's scores of a query's passages; None for one that only fills up, or that is there twice."""
        seen: set[int] = set()
        found: list[float | None] = []
        for place in passages:
            found.append(None if place in seen else self._scores[query].get(place))
            seen.add(place)
        return found


def _weights(settings: Distill, retriever: Retriever) -> dict[str, float]:
    """What each term counts: the loss once, and the contrastive terms of fine-tuning by their weight."""
    weight = settings.contrastive_weight
    if weight is None:
        weight = AUTHORS_WEIGHT * (1 + settings.negatives)
    terms = loss_weights(retriever.representation, settings.part_loss_weight)
    regularisers = ("query_flops", "passage_flops")
    scaled = {name: value * (1.0 if name in regularisers else weight) for name, value in terms.items()}
    return {settings.loss: 1.0} | scaled
