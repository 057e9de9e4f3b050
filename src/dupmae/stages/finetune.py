"""`dupmae finetune`: an encoder and pairs to a retriever (DupMAE, section 3.3, first step)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from dupmae.console import logger
from dupmae.corpus.sts_pairs import read_sts_pairs
from dupmae.errors import DupmaeError
from dupmae.files import training_folder
from dupmae.nn.backbone import set_dropout
from dupmae.nn.contrastive import ContrastiveObjective, loss_weights
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import device, open_backbone, resolve_dtype
from dupmae.retriever.model import SETTINGS_FILE, Retriever, read_settings, refuse_misfit
from dupmae.retriever.pooling import as_tuned
from dupmae.settings import Finetune, RetrieverSettings
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.training import processes
from dupmae.training.calibration import calibrate, count_terms, weigh_parts
from dupmae.training.log import read_log
from dupmae.training.loop import Training, names_of
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData, read_pair_data
from dupmae.training.prefetch import Prefetched
from dupmae.training.remining import Positions, ReminingSteps, mine_again
from dupmae.training.run import Run, check_options
from dupmae.training.selection import Selection
from dupmae.training.start import head_from_text

CALIBRATION_STEPS = 4
# Queries at once while nothing is learned yet: what is measured there needs no larger batch.
CALIBRATION_BATCH = 64
WEIGHING_QUERIES = 1000


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning leaves: the retriever's folder, the log lines, and the number of steps done."""

    retriever: Path
    log: list[dict[str, float]]
    steps: int


def finetune(settings: Finetune) -> Finetuned:
    """Train a retriever on pairs with in-batch and hard negatives, and save it to `out`.

    A retriever that is trained on keeps its representation, lengths and prefixes where `settings` gives no others.

    Raises:
        DupmaeError: for data or a model that cannot be read, and for more processes than queries in a batch.
    """
    check_options(settings, "finetune", settings.steps_of)
    if settings.steps_of is not None:
        steps = int(read_log(training_folder(settings.steps_of))[-1]["step"])
        settings = settings.model_copy(update={"steps": steps})
    settings = _continued(settings) if _is_retriever(settings.model) else settings
    processes.join()
    torch.manual_seed(settings.seed)
    every = settings.remine_every
    pairs = read_pair_data(settings.data, settings.mined, settings.split, whole=every is not None)
    dev = None if settings.dev is None else read_sts_pairs(settings.dev)
    encoder, tokenizer, brought = _model(settings)
    _check(settings, encoder, tokenizer)
    dtype = resolve_dtype(settings.dtype)
    negatives = HardNegatives(pairs, settings.negative_depth)

    def data(steps: int, batch_size: int = settings.batch_size) -> FinetuningSteps:
        return FinetuningSteps(
            pairs,
            negatives,
            tokenizer,
            steps=steps,
            batch_size=batch_size,
            per_query=settings.negatives,
            lengths=(settings.query_length, settings.passage_length),
            prefixes=(settings.query_prefix, settings.passage_prefix),
            seed=settings.seed,
            counts=encoder.has_counts,
            query_terms_only=encoder.scores_query_terms_only,
        )

    if not _is_retriever(settings.model):
        _say_of_width(encoder)
        _start(encoder, brought, pairs, tokenizer, data, dtype, settings)
    if settings.dropout is not None:
        set_dropout(encoder, settings.dropout)
    model = ContrastiveObjective(encoder, dtype, settings.chunk_size)
    weights = loss_weights(settings.representation, settings.part_loss_weight)
    training = Training(model, weights, names_of(model, encoder.new_parameters()))
    folder, kept = training_folder(settings.out), _kept(settings)
    facts = {"queries": len(pairs.queries)}
    run = Run(training, lambda steps: Prefetched(data(steps)), settings, folder, "fine-tuning", facts)
    selection = None
    if dev is not None:
        selection = run.watcher = Selection(
            dev, encoder, tokenizer, kept, dtype=settings.dtype, every=settings.dev_every, folder=folder
        )
    steps = run.steps()
    if every is not None:
        mine = partial(_mine, pairs, encoder, tokenizer, kept, settings.negative_depth)
        again = partial(ReminingSteps, negatives=negatives, mine=mine, every=every, folder=folder)
        run.data = lambda steps: again(data(steps), resume=settings.resume)
    if processes.rank() == 0:
        queries = len(pairs.queries)
        logger.info(f"fine-tuning {settings.representation.kind} for {steps:,} steps on {queries:,} queries")
    log = run.train(steps)
    if processes.rank() == 0:
        if selection is not None:
            selection.restore()
        retriever = Retriever(encoder, tokenizer, kept)
        if kept.representation.kind == "hybrid" and kept.representation.part_weights is None:
            weigh_parts(retriever, pairs, data(steps).last_queries(WEIGHING_QUERIES))
        retriever.save(settings.out)
    processes.join().wait_for_everyone()
    return Finetuned(settings.out, log, steps)


def _mine(pairs: PairData, encoder: HybridEncoder, tokenizer: Any, kept: RetrieverSettings, depth: int) -> Positions:
    """Hard negatives by the weights as they are."""
    training = encoder.training
    positions = mine_again(pairs, Retriever(encoder, tokenizer, kept), depth)
    encoder.train(training)
    return positions


def _kept(settings: Finetune) -> RetrieverSettings:
    """What the retriever remembers."""
    return RetrieverSettings.model_validate(settings.model_dump(include=set(RetrieverSettings.model_fields)))


def _continued(settings: Finetune) -> Finetune:
    kept, given = read_settings(Path(settings.model)).model_dump(), settings.model_dump(exclude_unset=True)
    representation = kept["representation"] | given.get("representation", {})
    try:
        return Finetune.model_validate({**kept, **given, "representation": representation})
    except ValidationError as error:
        fix = "give settings that go with the retriever's, or start from an encoder"
        raise DupmaeError(error.errors()[0]["msg"], where=settings.model, fix=fix) from None


def _is_retriever(model: str) -> bool:
    return (Path(model) / SETTINGS_FILE).exists()


def _model(settings: Finetune) -> tuple[HybridEncoder, Any, bool]:
    """The encoder to train, its tokenizer, and whether it came with a vocabulary head."""
    if _is_retriever(settings.model):
        earlier = Retriever.load(settings.model, settings=_kept(settings))
        return earlier.encoder.to(device()), earlier.tokenizer, True
    backbone, brought = open_backbone(settings.model)
    tokenizer = load_tokenizer(settings.model)
    return HybridEncoder(backbone, as_tuned(settings.representation, settings.model)).to(device()), tokenizer, brought


def _say_of_width(encoder: HybridEncoder) -> None:
    width, dimensions = encoder.backbone.width, encoder.settings.dimensions
    if encoder.has_dense and dimensions != width and processes.rank() == 0:
        own = f"representation.dimensions={width} would start as the encoder's own vectors"
        logger.info(f"dense part: {dimensions} numbers from the encoder's {width}, by a random projection; {own}")


def _check(settings: Finetune, encoder: HybridEncoder, tokenizer: Any) -> None:
    refuse_misfit(encoder, tokenizer, _kept(settings))
    if settings.batch_size < processes.count():
        problem = f"{settings.batch_size} queries a step cannot be dealt out to {processes.count()} processes"
        raise DupmaeError(problem, where="batch_size", fix=f"set batch_size={processes.count()} or more")


def _start(
    encoder: HybridEncoder,
    brought: bool,
    pairs: PairData,
    tokenizer: Any,
    data: Callable[[int, int], FinetuningSteps],
    dtype: torch.dtype,
    settings: Finetune,
) -> None:
    """Set what an encoder needs to be a retriever: head, idf, second tower, threshold, part weights."""
    batch_size = min(settings.batch_size, CALIBRATION_BATCH)
    if encoder.has_sparse:
        batches = _passage_batches(data(len(pairs.queries), batch_size))
        head_from_text(encoder.backbone, batches, dtype, "auto", brought)
        count_terms(encoder, pairs, tokenizer)
    if settings.representation.tied is False:
        encoder.query_backbone = copy.deepcopy(encoder.backbone)
    calibrate(encoder, data(CALIBRATION_STEPS, batch_size), dtype)


def _passage_batches(data: FinetuningSteps) -> Iterator[dict[str, Tensor]]:
    for step in range(len(data)):
        item = data[step]
        yield {name: item[f"passage_{source}"] for name, source in _NAMES.items()}


_NAMES = {"input_ids": "ids", "valid": "valid", "special": "special"}
