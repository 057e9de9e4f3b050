"""Opening the model a stage starts from: a masked LM, an encoder without a head, or nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from dupmae.console import logger, track
from dupmae.errors import DupmaeError
from dupmae.nn.backbone import Backbone, autocast
from dupmae.nn.head_start import start_head
from dupmae.recipe import FromScratch

START_TOKENS = 100_000


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_backbone(model: str) -> tuple[Backbone, bool]:
    """Load a masked LM or plain encoder; the flag says whether it brought its own vocabulary head.

    Raises:
        DupmaeError: when nothing loadable is there.
    """
    try:
        lm, info = AutoModelForMaskedLM.from_pretrained(model, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DupmaeError(f"no model can be loaded: {reason}", where=model, fix="give a Hugging Face folder") from None
    backbone = Backbone(lm)
    dense, norm = backbone.head_parts()
    head = {id(parameter) for parameter in (*dense.parameters(), *norm.parameters())}
    names = {name for name, parameter in lm.named_parameters() if id(parameter) in head}
    return backbone, not names & set(info["missing_keys"])


def new_backbone(shape: FromScratch, tokenizer: Any, max_length: int) -> Backbone:
    """A randomly started BERT of the given shape for a tokenizer."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Backbone(BertForMaskedLM(config))


def known_family(model: str) -> str:
    """The model type a folder or hub name declares."""
    return str(AutoConfig.from_pretrained(model).model_type)


def head_from_text(
    backbone: Backbone,
    batches: Sequence[dict[str, Tensor]],
    dtype: torch.dtype,
    wanted: Literal["auto", "ridge", "keep"],
    brought: bool,
) -> None:
    """Start the vocabulary head in closed form on the batches' text, where it is wanted and possible."""
    if wanted == "keep" or (wanted == "auto" and brought):
        return
    where = device()
    backbone.to(where).eval()
    states, ids, tokens = [], [], 0
    for batch in track(batches, "vocabulary head", len(batches), "batches"):
        valid = batch["valid"].to(where)
        with torch.no_grad(), autocast(dtype, where.type):
            hidden = backbone.hidden(batch["input_ids"].to(where), valid)
        ordinary = (batch["valid"] & ~batch["special"]).to(where)
        states.append(hidden[ordinary].float())
        ids.append(batch["input_ids"].to(where)[ordinary])
        tokens += len(ids[-1])
        if tokens >= START_TOKENS:
            break
    figures = start_head(backbone, torch.cat(states), torch.cat(ids))
    backbone.train()
    logger.info(
        f"vocabulary head started in closed form on {tokens:,} tokens: names {figures['accuracy']:.1%} of held-out "
        f"tokens, cross-entropy {figures['cross_entropy']:.2f}"
    )
