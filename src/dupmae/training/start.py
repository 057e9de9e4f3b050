"""What a run starts from: an earlier run with its decoder, and the closed-form start of the vocabulary head."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import new_folder
from dupmae.nn.backbone import Backbone
from dupmae.nn.head_start import start_head
from dupmae.retriever.backbones import device, new_backbone
from dupmae.settings import FromScratch
from dupmae.shards.folder import Shards
from dupmae.training import checkpoints, processes

START_TOKENS = 40_000
ENCODER = "encoder"
_DECODER = "inner.decoder."


def is_run(model: str) -> bool:
    """Whether `model` is the folder of a run that exported its encoder.

    Raises:
        DupmaeError: when it is that of a run that did not get there.
    """
    folder = Path(model)
    if (folder / ENCODER).is_dir():
        return True
    if checkpoints.listed(folder):
        fix = "go on with that run first, by its own command with --resume"
        raise DupmaeError(f"is a run that has not ended: it has checkpoints and no {ENCODER}/", where=model, fix=fix)
    return False


def load_decoder(decoder: nn.Module, run: Path) -> bool:
    """Take over the decoder of an earlier run from its newest whole checkpoint; false when there is none.

    Raises:
        DupmaeError: when it has another shape, or no checkpoint is whole.
    """
    checkpoint = checkpoints.latest(run)
    weights = {} if checkpoint is None else _decoder_of(checkpoint.folder)
    if checkpoint is None or not weights:
        if processes.rank() == 0:
            lack = "no checkpoint is left" if checkpoint is None else "its checkpoint has no decoder"
            logger.warning(f"{run}: {lack}, the decoder starts anew")
        return False
    own = decoder.state_dict()
    if {n: w.shape for n, w in weights.items()} != {n: w.shape for n, w in own.items()}:
        fix = f"start from {ENCODER}/ beside it"
        raise DupmaeError("its decoder has another shape", where=checkpoint.folder, fix=fix)
    decoder.load_state_dict(weights)
    logger.info(f"decoder taken from {checkpoint.folder}")
    return True


def _decoder_of(checkpoint: Path) -> dict[str, Tensor]:
    with safe_open(checkpoint / checkpoints.MODEL, framework="pt") as file:
        names = [name for name in file.keys() if name.startswith(_DECODER)]  # noqa: SIM118
        return {name.removeprefix(_DECODER): file.get_tensor(name) for name in names}


def save_untrained(shape: FromScratch, shards: Shards, max_length: int, out: Path) -> Path:
    """Save a randomly started encoder with the tokenizer of some shards, for several runs to start from."""
    tokenizer = shards.tokenizer()
    backbone = new_backbone(shape, tokenizer, max_length)
    with new_folder(out, "an encoder") as folder:
        backbone.lm.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return out


def head_from_text(
    backbone: Backbone,
    batches: Iterable[dict[str, Tensor]],
    dtype: torch.dtype,
    wanted: Literal["auto", "ridge", "keep"],
    brought: bool,
) -> None:
    """Start the vocabulary head in closed form on the batches' text, where it is wanted and possible.

    A text counts once, so that no held-out token is among the others; a batch without a new one is the last.
    """
    if wanted == "keep" or (wanted == "auto" and brought):
        return
    where = device()
    low = copy.deepcopy(backbone).to(where, dtype).eval()
    states, ids, tokens = [], [], 0
    seen: set[bytes] = set()
    for batch in batches:
        batch = _unseen(batch, seen)
        if not len(batch["valid"]):
            break
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


def _unseen(batch: dict[str, Tensor], seen: set[bytes]) -> dict[str, Tensor]:
    """The rows of a batch whose text did not come before; their texts are added to those seen."""
    rows = []
    for row, (ids, valid) in enumerate(zip(batch["input_ids"], batch["valid"], strict=True)):
        text = ids[valid].numpy().tobytes()
        if text not in seen:
            seen.add(text)
            rows.append(row)
    return {name: batch[name][rows] for name in ("input_ids", "valid", "special")}
