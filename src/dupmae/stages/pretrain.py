"""`dupmae pretrain`: tokenised shards to a retrieval-oriented encoder."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForMaskedLM

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import new_folder
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone, set_dropout
from dupmae.nn.objectives import DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.recompute import recompute_activations, transformer_layers
from dupmae.nn.unified import TERM, UnifiedObjective
from dupmae.retriever.backbones import new_backbone, open_backbone, resolve_dtype, silent_library
from dupmae.retriever.pooling import as_tuned, keep_modules
from dupmae.settings import Objective, Pretrain, Representation
from dupmae.shards.batches import PretrainingSteps
from dupmae.shards.folder import Shards
from dupmae.shards.mixture import open_corpora, weights_of
from dupmae.shards.tokenizers import fingerprint, load_tokenizer
from dupmae.stages.plan import step_operations
from dupmae.training import processes
from dupmae.training.checkpoints import gathered_weights
from dupmae.training.flops import Shape, Texts, step_flops
from dupmae.training.joint_steps import PairedText, TextTraining, UnifiedSteps, UnifiedTraining
from dupmae.training.loop import Training, names_of
from dupmae.training.monitor import Monitor, probe_interval
from dupmae.training.prefetch import Prefetched
from dupmae.training.probe import Probe, halves, judged
from dupmae.training.run import Run, check_options
from dupmae.training.start import ENCODER, head_from_text, is_run, load_decoder

Batches = PretrainingSteps | UnifiedSteps


@dataclass(frozen=True)
class Pretrained:
    """What pre-training leaves: the exported encoder, the log lines, and the number of steps done."""

    encoder: Path
    log: list[dict[str, float]]
    steps: int


def pretrain(settings: Pretrain) -> Pretrained:
    """Pre-train and export a plain Hugging Face masked LM to `out/encoder`.

    Raises:
        DupmaeError: for data or a model that do not fit together or cannot be read.
    """
    check_options(settings, "pretrain", settings.flops)
    if settings.steps is None and settings.epochs is None and settings.flops is not None:
        settings = settings.model_copy(update={"steps": max(1, round(settings.flops / step_operations(settings)))})
    processes.join()
    torch.manual_seed(settings.seed)
    # Checksums are compared by one process of a machine: all of them read the same files.
    corpora = processes.together(lambda: open_corpora(settings.data, verify=processes.first_of_node()))
    tokenizer = corpora[0].tokenizer()
    earlier = Path(settings.model) if settings.model is not None and is_run(settings.model) else None
    backbone, has_head = _backbone(settings, corpora, tokenizer, started=earlier is not None)
    dtype = resolve_dtype(settings.dtype)
    paired = None
    if settings.contrastive is not None:
        paired = PairedText(settings.contrastive, tokenizer, longest=backbone.max_length, seed=settings.seed)

    def text(steps: int) -> PretrainingSteps:
        return PretrainingSteps(
            corpora,
            weights_of(corpora, settings.weights),
            steps=steps,
            batch_tokens=settings.batch_tokens,
            seed=settings.seed,
            pad_id=tokenizer.pad_token_id,
            special_ids=tokenizer.all_special_ids,
        )

    def data(steps: int) -> Batches:
        return text(steps) if paired is None else paired.joined(text(steps))

    records = sum(map(len, corpora))
    if settings.model is not None:
        batches = text(records)
        head_from_text(backbone, map(batches.__getitem__, range(records)), dtype, settings.head_start, has_head)
    objective = DuplexMAE(
        backbone, settings.objective, settings.masking, mask_id=tokenizer.mask_token_id, seed=settings.seed
    )
    new = [] if has_head else backbone.head_parameters()
    decoder = objective.decoder
    if decoder is not None and (earlier is None or not load_decoder(decoder, earlier)):
        new += decoder.parameters()
    cpu.prepare(objective)
    if settings.dropout is not None:
        set_dropout(objective, settings.dropout)
    if settings.activation_checkpointing:
        recompute_activations(transformer_layers(backbone))
    training = _training(settings, objective, new, dtype)
    facts = {
        "records": [len(shards) for shards in corpora],
        "data": [shards.manifest.fingerprint for shards in corpora],
        "tokenizer": corpora[0].manifest.tokenizer,
        "contrastive.queries": None if paired is None else paired.queries,
    }
    run = Run(
        training,
        lambda steps: Prefetched(data(steps), objective.add_draws),
        settings,
        settings.out,
        "pre-training",
        facts,
    )
    steps = run.steps()
    run.watcher = _monitor(settings, backbone, tokenizer, data(steps), dtype, steps, paired)
    if processes.rank() == 0:
        amount = f"{records:,} records" + ("" if paired is None else f" and {paired.queries:,} queries with passages")
        logger.info(f"pre-training {settings.objective.kind} for {steps:,} steps on {amount}")
    log = run.train(steps)
    encoder = settings.out / ENCODER
    _export(training.model, backbone.config, tokenizer, encoder, _start_folder(settings))
    return Pretrained(encoder, log, int(log[-1]["step"]) if log else steps)


def _training(settings: Pretrain, objective: DuplexMAE, new: list[torch.nn.Parameter], dtype: torch.dtype) -> Training:
    """What the loop optimises."""
    weights = _term_weights(settings.objective)
    if settings.contrastive is not None:
        pairs = settings.contrastive
        if (start := _start_folder(settings)) is not None:
            pooling = as_tuned(Representation(pooling=pairs.pooling), start).pooling
            pairs = pairs.model_copy(update={"pooling": pooling})
        model = UnifiedObjective(objective, dtype, pairs)
        weights[TERM] = pairs.weight
        return UnifiedTraining(model, weights, names_of(model, new), accumulate=settings.accumulate)
    sharded = settings.sharding == "full" and processes.count() > 1
    # Sharded weights are cast while they are gathered.
    plain = LowPrecision(objective, torch.float32 if sharded else dtype)
    return TextTraining(
        plain,
        weights,
        names_of(plain, new),
        layers=[*transformer_layers(objective.backbone), *([] if objective.decoder is None else [objective.decoder])],
        sharded=dtype if sharded else None,
        accumulate=settings.accumulate,
        compiled=settings.compile,
    )


def _term_weights(objective: Objective) -> dict[str, float]:
    weights = {"mlm": objective.mlm_weight}
    if objective.decodes:
        weights["decoder"] = objective.decoder_weight
    if objective.has_bow:
        weights["bow"] = objective.bow_weight
    return weights


def _monitor(
    settings: Pretrain,
    backbone: Backbone,
    tokenizer: Any,
    data: Batches,
    dtype: torch.dtype,
    steps: int,
    paired: PairedText | None,
) -> Monitor:
    """What looks on: utilisation, and the probe where there is one.

    Raises:
        DupmaeError: when the probe's BEIR folder cannot be read.
    """
    shape = Shape.of(backbone.config)

    def work(texts: Texts) -> float:
        return step_flops(shape, texts, settings.objective, settings.masking)

    probe, every = None, settings.probe_every
    if every != 0:
        if settings.probe is None:
            texts = halves(data.corpora, tokenizer, settings.seed)
        else:
            texts = judged(settings.probe, settings.probe_split, tokenizer, settings.seed, backbone.max_length)
        probe = None if texts is None else Probe(backbone, texts, tokenizer, dtype)
    if probe is not None and every is None:
        every = probe_interval(probe, data, work, steps)
    # RetroMAE trains nothing but the [CLS] state to hold a whole text.
    scores = ("cls",) if settings.objective.kind == "retromae" else ("cls", "bow")
    return Monitor(
        data,
        dtype,
        work,
        beside=(lambda step: 0.0) if paired is None else partial(paired.work, shape),
        parts=processes.count() * settings.accumulate,
        probe=probe if every else None,
        probe_every=every or 1,
        patience=settings.patience,
        stop_on=[f"probe_{score}_mrr@10" for score in scores],
    )


def _start_folder(settings: Pretrain) -> str | None:
    """The encoder that the run starts from; None: from nothing."""
    if settings.model is None:
        return None
    return str(Path(settings.model) / ENCODER) if is_run(settings.model) else settings.model


def _export(model: torch.nn.Module, config: Any, tokenizer: Any, folder: Path, start: str | None) -> None:
    """Write the masked LM as process 0 alone can put it together."""
    prefix = "inner.backbone.lm."
    weights = {
        name.removeprefix(prefix): weight for name, weight in gathered_weights(model).items() if name.startswith(prefix)
    }
    if processes.rank() == 0:
        lm = AutoModelForMaskedLM.from_config(config)  # type: ignore[no-untyped-call]
        # Tied weights are there once, under their first name.
        lm.load_state_dict(weights, strict=False)
        with new_folder(folder, "an encoder") as temporary, silent_library():
            lm.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            if start is not None:
                keep_modules(start, temporary)
    processes.join().wait_for_everyone()


def _backbone(settings: Pretrain, corpora: list[Shards], tokenizer: Any, *, started: bool) -> tuple[Backbone, bool]:
    """The model to start from, checked against the shards."""
    longest = max(corpora, key=lambda shards: shards.manifest.max_length)
    if settings.model is None:
        return new_backbone(settings.from_scratch, tokenizer, longest.manifest.max_length), True
    model = str(Path(settings.model) / ENCODER) if started else settings.model
    backbone, brought = open_backbone(model)
    if fingerprint(load_tokenizer(model)) != corpora[0].manifest.tokenizer:
        raise DupmaeError(
            f"the shards were made with another tokenizer than {settings.model}'s",
            where=corpora[0].path,
            fix=f"prepare them again with tokenizer={settings.model}",
        )
    if longest.manifest.max_length > backbone.max_length:
        raise DupmaeError(
            f"records have up to {longest.manifest.max_length} tokens, the model takes {backbone.max_length}",
            where=longest.path,
            fix=f"prepare them again with max_length={backbone.max_length}",
        )
    return backbone, brought
