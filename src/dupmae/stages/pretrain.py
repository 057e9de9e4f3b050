"""`dupmae pretrain`: tokenised shards to a retrieval-oriented encoder."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import new_folder
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone, set_dropout
from dupmae.nn.objectives import Batch, Draws, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.recompute import recompute_activations, transformer_layers
from dupmae.nn.unified import TERM, UnifiedObjective
from dupmae.retriever.backbones import name_of, new_backbone, open_backbone, resolve_dtype, silent_library
from dupmae.settings import Pretrain
from dupmae.shards.batches import PretrainingSteps
from dupmae.shards.folder import Shards
from dupmae.shards.mixture import open_corpora, weights_of
from dupmae.shards.tokenizers import fingerprint, load_tokenizer
from dupmae.training import processes
from dupmae.training.checkpoints import gathered_weights
from dupmae.training.joint_steps import PairedText, UnifiedSteps, unified_inputs
from dupmae.training.loop import Plan
from dupmae.training.monitor import watcher
from dupmae.training.prefetch import Prefetched
from dupmae.training.run import parameter_groups, steps_within, train
from dupmae.training.start import ENCODER, head_from_text, is_run, load_decoder

# What a resumed run has to share with the first one, beside its precision and its data.
SAME = {"seed", "batch_tokens", "objective", "masking", "weights", "dropout", "weight_decay"}


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
    processes.join()
    torch.manual_seed(settings.seed)
    # Checksums are compared by one process of a machine: all of them read the same files.
    corpora = processes.together(lambda: open_corpora(settings.data, verify=processes.first_of_node()))
    records = sum(map(len, corpora))
    tokenizer = corpora[0].tokenizer()
    earlier = Path(settings.model) if settings.model is not None and is_run(settings.model) else None
    backbone, brought = _backbone(settings, corpora, tokenizer, started=earlier is not None)
    dtype = resolve_dtype(settings.dtype)

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

    paired = None
    if settings.contrastive is not None:
        paired = PairedText(settings.contrastive, tokenizer, longest=backbone.max_length, seed=settings.seed)

    def data(steps: int) -> PretrainingSteps | UnifiedSteps:
        return text(steps) if paired is None else paired.joined(text(steps))

    if settings.model is not None:
        batches = text(records)
        head_from_text(backbone, map(batches.__getitem__, range(records)), dtype, settings.head_start, brought)
    objective = DuplexMAE(
        backbone, settings.objective, settings.masking, mask_id=tokenizer.mask_token_id, seed=settings.seed
    )
    decoder = objective.decoder
    known_decoder = decoder is not None and earlier is not None and load_decoder(decoder, earlier)
    cpu.prepare(objective)
    if settings.dropout is not None:
        set_dropout(objective, settings.dropout)
    if settings.activation_checkpointing:
        recompute_activations(transformer_layers(backbone))
    model = _model(settings, objective, dtype)
    plan = _plan(settings, corpora, paired, dtype, new_head=not brought, new_decoder=not known_decoder)
    steps = settings.steps or _steps(settings, model, data, plan)
    beside = {} if paired is None else {"beside": paired.work}
    plan = replace(plan, watcher=watcher(settings, backbone, tokenizer, data(steps), dtype, steps, **beside))
    if processes.rank() == 0:
        told = f"{records:,} records" + ("" if paired is None else f" and {paired.queries:,} queries with passages")
        logger.info(f"pre-training {settings.objective.kind} for {steps:,} steps on {told}")
    log = train(model, lambda steps: Prefetched(data(steps)), plan, steps=steps)
    encoder = settings.out / ENCODER
    _export(model, backbone.config, tokenizer, encoder)
    return Pretrained(encoder, log, int(log[-1]["step"]) if log else steps)


def _model(settings: Pretrain, objective: DuplexMAE, dtype: torch.dtype) -> LowPrecision:
    if settings.contrastive is not None:
        return UnifiedObjective(objective, dtype, settings.contrastive)
    sharded = settings.sharding == "full" and processes.count() > 1
    # Sharded weights are cast while they are gathered.
    return LowPrecision(objective, torch.float32 if sharded else dtype)


def _export(model: LowPrecision, config: Any, tokenizer: Any, folder: Path) -> None:
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
    processes.join().wait_for_everyone()


def _steps(settings: Pretrain, model: LowPrecision, data: Any, plan: Plan) -> int:
    if settings.epochs is not None:
        per_epoch: float = data(1).per_epoch
        return math.ceil(settings.epochs * per_epoch)
    if settings.minutes is None:
        problem = "neither steps nor minutes nor epochs is given"
        raise DupmaeError(problem, where="pretrain", fix="set one, e.g. minutes=8")
    described = settings.model_dump(
        mode="json", exclude={"out", "data", "minutes", "steps", "seed", "resume", "save_every"}
    )
    return steps_within(settings.minutes, model, data, plan, described)


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


def _plan(
    settings: Pretrain,
    corpora: list[Shards],
    paired: PairedText | None,
    dtype: torch.dtype,
    *,
    new_head: bool,
    new_decoder: bool,
) -> Plan:
    def groups(module: Any) -> list[dict[str, Any]]:
        objective = module.inner
        new = list(objective.decoder.parameters()) if objective.decoder is not None and new_decoder else []
        new += objective.backbone.head_parameters() if new_head else []
        return parameter_groups(
            module,
            new,
            rate=settings.learning_rate,
            new_rate=settings.new_learning_rate or settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def inputs(module: Any, item: dict[str, Tensor]) -> tuple[list[tuple[Batch, Draws]], dict[str, Tensor]]:
        batch = Batch(item["input_ids"], item["word_starts"], item["special"], item["valid"])
        draws = module.inner.draw(batch, int(item["step"]), item["rows"])
        return [(batch, draws)], module.inner.counts(batch, draws)

    def layers(module: Any) -> list[torch.nn.Module]:
        decoder = module.inner.decoder
        return [*transformer_layers(module.inner.backbone), *([] if decoder is None else [decoder])]

    objective = settings.objective
    weights = {"mlm": objective.mlm_weight}
    if objective.decodes:
        weights["decoder"] = objective.decoder_weight
    if objective.has_bow:
        weights["bow"] = objective.bow_weight
    if settings.contrastive is not None:
        weights[TERM] = settings.contrastive.weight
    described = settings.model_dump(mode="json", include=SAME)
    return Plan(
        out=settings.out,
        groups=groups,
        inputs=inputs if paired is None else unified_inputs,
        weights=weights,
        layers=layers,
        title="pre-training",
        warmup=settings.warmup,
        log_every=settings.log_every,
        seed=settings.seed,
        max_bad_steps=settings.max_bad_steps,
        sharding=settings.sharding,
        dtype=dtype,
        accumulate=settings.accumulate,
        compile=settings.compile,
        same={
            **described,
            "dtype": name_of(dtype),
            "records": [len(shards) for shards in corpora],
            "data": [shards.manifest.fingerprint for shards in corpora],
            "tokenizer": corpora[0].manifest.tokenizer,
            "contrastive": None if paired is None else paired.same,
        },
        save_every=settings.save_every,
        checkpoints=True,
        resume=settings.resume,
    )
