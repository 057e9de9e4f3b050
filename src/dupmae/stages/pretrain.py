"""`dupmae pretrain`: tokenised shards to a retrieval-oriented encoder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dupmae.batches import PretrainingSteps
from dupmae.console import logger
from dupmae.corpus.shards import Shards
from dupmae.corpus.tokenizers import fingerprint, load_tokenizer
from dupmae.errors import DupmaeError
from dupmae.files import new_folder
from dupmae.models import new_backbone, open_backbone, resolve_dtype
from dupmae.nn.backbone import Backbone, set_dropout
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.recipe import Pretrain
from dupmae.stages.start import head_from_text
from dupmae.stages.training import Plan, parameter_groups, steps_within, train


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
    torch.manual_seed(settings.seed)
    shards = Shards.open(settings.data)
    tokenizer = shards.tokenizer()
    backbone, brought = _backbone(settings, shards, tokenizer)
    dtype = resolve_dtype(settings.dtype)

    def data(steps: int) -> PretrainingSteps:
        return PretrainingSteps(
            shards,
            steps=steps,
            batch_tokens=settings.batch_tokens,
            seed=settings.seed,
            pad_id=tokenizer.pad_token_id,
            special_ids=tokenizer.all_special_ids,
        )

    if settings.model is not None:
        batches = data(len(shards))
        head_from_text(backbone, map(batches.__getitem__, range(len(shards))), dtype, settings.head_start, brought)
    objective = DuplexMAE(
        backbone, settings.objective, settings.masking, mask_id=tokenizer.mask_token_id, seed=settings.seed
    )
    if settings.dropout is not None:
        set_dropout(objective, settings.dropout)
    model = LowPrecision(objective, dtype)
    plan = _plan(settings, new_head=not brought)
    steps = settings.steps or _steps(settings, model, data, plan)
    logger.info(f"pre-training {settings.objective.kind} for {steps:,} steps on {len(shards):,} records")
    plan = replace(plan, save_every=settings.save_every or steps)
    log = train(model, data, plan, steps=steps)
    encoder = settings.out / "encoder"
    with new_folder(encoder) as folder:
        backbone.lm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return Pretrained(encoder, log, steps)


def _steps(settings: Pretrain, model: LowPrecision, data: Any, plan: Plan) -> int:
    if settings.minutes is None:
        raise DupmaeError("neither steps nor minutes is given", where="pretrain", fix="set one, e.g. minutes=8")
    described = settings.model_dump(mode="json", exclude={"out", "data", "minutes", "steps", "seed", "resume"})
    return steps_within(settings.minutes, model, data, plan, described)


def _backbone(settings: Pretrain, shards: Shards, tokenizer: Any) -> tuple[Backbone, bool]:
    """The model to start from, checked against the shards."""
    if settings.model is None:
        return new_backbone(settings.from_scratch, tokenizer, shards.manifest.max_length), True
    backbone, brought = open_backbone(settings.model)
    if fingerprint(load_tokenizer(settings.model)) != shards.manifest.tokenizer:
        raise DupmaeError(
            f"the shards were made with another tokenizer than {settings.model}'s",
            where=settings.data,
            fix=f"prepare them again with tokenizer={settings.model}",
        )
    if shards.manifest.max_length > backbone.max_length:
        raise DupmaeError(
            f"records have up to {shards.manifest.max_length} tokens, the model takes {backbone.max_length}",
            where=settings.data,
            fix=f"prepare them again with max_length={backbone.max_length}",
        )
    return backbone, brought


def _plan(settings: Pretrain, *, new_head: bool) -> Plan:
    def groups(module: Any) -> list[dict[str, Any]]:
        objective = module.inner
        new = [] if objective.decoder is None else list(objective.decoder.parameters())
        new += objective.backbone.head_parameters() if new_head else []
        return parameter_groups(
            module,
            new,
            rate=settings.learning_rate,
            new_rate=settings.new_learning_rate or settings.learning_rate,
            weight_decay=settings.weight_decay,
        )

    def terms(module: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = Batch(inputs["input_ids"], inputs["word_starts"], inputs["special"], inputs["valid"])
        result: dict[str, Tensor] = module(
            batch, getattr(module, "module", module).inner.draw(batch, int(inputs["step"]))
        )
        return result

    return Plan(
        out=settings.out,
        groups=groups,
        terms=terms,
        title="pre-training",
        warmup=settings.warmup,
        log_every=settings.log_every,
        seed=settings.seed,
        resume=settings.resume,
    )
