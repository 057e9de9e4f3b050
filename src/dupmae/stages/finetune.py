"""`dupmae finetune`: an encoder and pairs to a retriever (DupMAE, section 3.3, first step)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
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
from dupmae.retriever.backbones import device, name_of, open_backbone, resolve_dtype
from dupmae.retriever.model import SETTINGS_FILE, Retriever, read_settings, refuse_misfit
from dupmae.settings import Finetune, RetrieverSettings
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.training import processes
from dupmae.training.calibration import calibrate, idf_weights, weigh_parts
from dupmae.training.loop import Plan
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData, read_pair_data
from dupmae.training.prefetch import Prefetched
from dupmae.training.remining import Positions, ReminingSteps, mine_again
from dupmae.training.run import parameter_groups, steps_within, train
from dupmae.training.selection import Selection
from dupmae.training.start import head_from_text

CALIBRATION_STEPS = 4
# Queries at once while nothing is learned yet: what is measured there needs no larger batch.
CALIBRATION_BATCH = 64
WEIGHING_QUERIES = 1000
# What a resumed run must share with the first one.
SAME = (
    "seed",
    "batch_size",
    "negatives",
    "negative_depth",
    "remine_every",
    "query_length",
    "passage_length",
    "query_prefix",
    "passage_prefix",
    "part_loss_weight",
    "representation",
    "dropout",
    "weight_decay",
)


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
    settings = _continued(settings) if _is_retriever(settings.model) else settings
    processes.join()
    torch.manual_seed(settings.seed)
    whole = settings.remine_every is not None
    pairs = read_pair_data(settings.data, settings.mined, settings.split, whole=whole)
    dev = None if settings.dev is None else read_sts_pairs(settings.dev)
    encoder, tokenizer, brought = _model(settings)
    _check(settings, encoder, tokenizer)
    dtype = resolve_dtype(settings.dtype)
    negatives = HardNegatives(pairs, settings.negative_depth)
    # Batches are made by a thread, and a tokenizer serves one at a time.
    own_tokenizer = copy.deepcopy(tokenizer)

    def data(steps: int, batch_size: int = settings.batch_size) -> FinetuningSteps:
        return FinetuningSteps(
            pairs,
            negatives,
            own_tokenizer,
            steps=steps,
            batch_size=batch_size,
            per_query=settings.negatives,
            lengths=(settings.query_length, settings.passage_length),
            prefixes=(settings.query_prefix, settings.passage_prefix),
            seed=settings.seed,
        )

    if not _is_retriever(settings.model):
        _say_of_width(encoder)
        _start(encoder, brought, pairs, tokenizer, data, dtype, settings)
    if settings.dropout is not None:
        set_dropout(encoder, settings.dropout)
    model = ContrastiveObjective(encoder, dtype, settings.chunk_size)
    plan = _plan(settings, pairs)
    selection = None
    if dev is not None:
        selection = Selection(
            dev,
            encoder,
            tokenizer,
            _kept(settings),
            dtype=settings.dtype,
            every=settings.dev_every,
            folder=plan.out,
        )
        plan = replace(plan, watcher=selection)
    steps = settings.steps or _steps(settings, model, data, plan)
    if processes.rank() == 0:
        kind, queries = settings.representation.kind, len(pairs.queries)
        logger.info(f"fine-tuning {kind} for {steps:,} steps on {queries:,} queries")
    log = train(model, _refreshing(settings, data, negatives, pairs, encoder, tokenizer, plan), plan, steps=steps)
    if processes.rank() == 0:
        if selection is not None:
            selection.restore()
        kept = _kept(settings)
        retriever = Retriever(encoder, tokenizer, kept)
        if kept.representation.kind == "hybrid" and kept.representation.part_weights is None:
            weigh_parts(retriever, pairs, data(steps).last_queries(WEIGHING_QUERIES))
        retriever.save(settings.out)
    processes.join().wait_for_everyone()
    return Finetuned(settings.out, log, steps)


def _refreshing(
    settings: Finetune,
    data: Callable[[int], FinetuningSteps],
    negatives: HardNegatives,
    pairs: PairData,
    encoder: HybridEncoder,
    tokenizer: Any,
    plan: Plan,
) -> Callable[[int], Prefetched | ReminingSteps]:
    """The batches of training, made ahead: as they are, or with negatives that are mined anew as it goes."""
    every = settings.remine_every
    if every is None:
        return lambda steps: Prefetched(data(steps))

    def mine() -> Positions:
        training = encoder.training
        found = mine_again(pairs, Retriever(encoder, tokenizer, _kept(settings)), settings.negative_depth)
        encoder.train(training)
        return found

    return lambda steps: ReminingSteps(
        data(steps), negatives, mine, every=every, folder=plan.out, resume=settings.resume
    )


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
    return HybridEncoder(backbone, settings.representation).to(device()), tokenizer, brought


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
        if settings.representation.term_weights == "idf":
            known = (encoder.term_weights >= 0).cpu()
            weights = idf_weights(pairs, tokenizer, len(encoder.term_weights))
            encoder.term_weights.data.copy_(weights.where(known, -1.0))
    if settings.representation.tied is False:
        encoder.query_backbone = copy.deepcopy(encoder.backbone)
    calibrate(encoder, data(CALIBRATION_STEPS, batch_size), dtype)


def _passage_batches(data: FinetuningSteps) -> Iterator[dict[str, Tensor]]:
    for step in range(len(data)):
        item = data[step]
        yield {name: item[f"passage_{source}"] for name, source in _NAMES.items()}


_NAMES = {"input_ids": "ids", "valid": "valid", "special": "special"}


def _steps(settings: Finetune, model: ContrastiveObjective, data: Callable[[int], FinetuningSteps], plan: Plan) -> int:
    if settings.epochs is not None:
        return math.ceil(settings.epochs * data(1).per_epoch)
    if settings.minutes is None:
        problem = "neither steps nor minutes nor epochs is given"
        raise DupmaeError(problem, where="finetune", fix="set one, e.g. minutes=5")
    apart = {"out", "data", "mined", "split", "model", "minutes", "steps", "epochs", "seed", "resume", "save_every"}
    described = settings.model_dump(mode="json", exclude=apart)
    return steps_within(settings.minutes, model, lambda steps: Prefetched(data(steps)), plan, described)


def _plan(settings: Finetune, pairs: PairData) -> Plan:
    def groups(module: Any) -> list[dict[str, Any]]:
        return parameter_groups(
            module,
            module.encoder.new_parameters(),
            rate=settings.learning_rate,
            new_rate=settings.new_learning_rate,
            weight_decay=settings.weight_decay,
        )

    def inputs(module: Any, batch: dict[str, Tensor]) -> tuple[list[tuple[dict[str, Tensor]]], dict[str, Tensor]]:
        return [(batch,)], module.counts(batch)

    return Plan(
        out=training_folder(settings.out),
        groups=groups,
        inputs=inputs,
        weights=loss_weights(settings.representation, settings.part_loss_weight),
        title="fine-tuning",
        warmup=settings.warmup,
        log_every=settings.log_every,
        seed=settings.seed,
        max_bad_steps=settings.max_bad_steps,
        same=settings.model_dump(mode="json", include=set(SAME))
        | {"queries": len(pairs.queries), "dtype": name_of(resolve_dtype(settings.dtype))},
        save_every=settings.save_every or None,
        checkpoints=settings.save_every != 0,
        resume=settings.resume,
    )
