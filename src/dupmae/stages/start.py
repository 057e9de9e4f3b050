"""The closed-form start of the vocabulary head, on a stage's own text."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor

from dupmae.console import logger
from dupmae.models import device
from dupmae.nn.backbone import Backbone
from dupmae.nn.head_start import start_head

START_TOKENS = 60_000


def head_from_text(
    backbone: Backbone,
    batches: Iterable[dict[str, Tensor]],
    dtype: torch.dtype,
    wanted: Literal["auto", "ridge", "keep"],
    brought: bool,
) -> None:
    """Start the vocabulary head in closed form on the batches' text, where it is wanted and possible."""
    if wanted == "keep" or (wanted == "auto" and brought):
        return
    where = device()
    low = copy.deepcopy(backbone).to(where, dtype).eval()
    states, ids, tokens = [], [], 0
    for batch in batches:
        valid = batch["valid"].to(where)
        with torch.inference_mode():
            hidden = low.hidden(batch["input_ids"].to(where), valid)
        ordinary = (batch["valid"] & ~batch["special"]).to(where)
        states.append(hidden[ordinary].float())
        ids.append(batch["input_ids"].to(where)[ordinary])
        tokens += len(ids[-1])
        if tokens >= START_TOKENS:
            break
    figures = start_head(backbone.to(where), torch.cat(states), torch.cat(ids))
    logger.info(
        f"vocabulary head started in closed form on {tokens:,} tokens: names {figures['accuracy']:.1%} of held-out "
        f"tokens, cross-entropy {figures['cross_entropy']:.2f}"
    )
