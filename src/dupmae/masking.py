"""Whole-word masks and the decoder's visibility, drawn vectorised for a padded batch.

`Layout` says what each position is; `encoder_mask` and `decoder_visibility` draw from a
generator that `generator_for` makes from (seed, step), so a resumed run draws the same masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

_MIX = 0x9E3779B97F4A7C15


def generator_for(seed: int, step: int, stream: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on nothing but (seed, step, stream)."""
    mixed = ((seed + 1) * _MIX ^ (step + 1) * 0xBF58476D1CE4E5B9 ^ (stream + 1) * 0x94D049BB133111EB) & (2**63 - 1)
    return torch.Generator(device=device).manual_seed(mixed)


@dataclass(frozen=True)
class Layout:
    """What each position of a padded batch is; all tensors [B, L].

    Attributes:
        words: index of the word a position belongs to, counted from 0 in each row, specials included.
        ordinary: true at tokens that are neither special nor padding.
        valid: true at everything but padding.
    """

    words: Tensor
    ordinary: Tensor
    valid: Tensor

    @classmethod
    def of(cls, word_starts: Tensor, special: Tensor, valid: Tensor) -> Layout:
        """Build from word starts, special-token flags and validity, each bool [B, L]."""
        words = (word_starts.long().cumsum(1) - 1).clamp_(min=0)
        return cls(words=words, ordinary=valid & ~special, valid=valid)


def choose_words(keys: Tensor, layout: Layout, rate: float) -> Tensor:
    """Mark whole words until `rate` of the ordinary tokens are marked; returns bool [B, L].

    Words are taken in the order of `keys` (float [B, L], one key per word index, the smallest first).
    A word is taken while the middle of its span lies within the budget, which keeps the expected
    rate right to half a word; the first word is always taken, so no row goes without a mask.
    """
    sizes = torch.zeros_like(layout.words).scatter_add_(1, layout.words, layout.ordinary.long())
    order = keys.masked_fill(sizes == 0, float("inf")).argsort(dim=1)
    ordered = sizes.gather(1, order)
    middle = ordered.cumsum(1) - ordered / 2
    budget = rate * layout.ordinary.sum(1, keepdim=True)
    taken = (middle <= budget) & (ordered > 0)
    taken[:, 0] = ordered[:, 0] > 0
    by_word = torch.zeros_like(taken).scatter_(1, order, taken)
    return by_word.gather(1, layout.words) & layout.ordinary


def encoder_mask(layout: Layout, rate: float, generator: torch.Generator) -> Tensor:
    """Draw a whole-word mask over the ordinary tokens; bool [B, L] (RetroMAE, section 3.1)."""
    keys = torch.rand(layout.words.shape, generator=generator, device=layout.words.device)
    return choose_words(keys, layout, rate)


def corrupt(
    input_ids: Tensor,
    masked: Tensor,
    *,
    mask_id: int,
    vocabulary: int,
    keep: bool,
    generator: torch.Generator,
) -> Tensor:
    """Replace masked tokens; with `keep`, 10% become random and 10% stay as they are (BERT, section 3.1)."""
    corrupted = input_ids.masked_fill(masked, mask_id)
    if not keep:
        return corrupted
    draw = torch.rand(input_ids.shape, generator=generator, device=input_ids.device)
    random_ids = torch.randint(vocabulary, input_ids.shape, generator=generator, device=input_ids.device)
    corrupted = torch.where(masked & (draw < 0.1), random_ids, corrupted)
    return torch.where(masked & (draw >= 0.9), input_ids, corrupted)


def _hidden(shape: tuple[int, int, int], rate: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """True with probability `rate`: one random byte a decision, two when the rate is no multiple of 1/256."""
    count = shape[0] * shape[1] * shape[2]
    exact = (rate * 256).is_integer()
    kind = torch.uint8 if exact else torch.int16
    words = torch.empty(-(-count * (1 if exact else 2) // 8), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    draws = words.view(kind)[:count].view(shape)
    return draws < (int(rate * 256) if exact else round(rate * 65536) - 32768)


def decoder_visibility(
    layout: Layout, rate: float, unit: Literal["word", "token"], generator: torch.Generator
) -> Tensor:
    """Draw which positions each decoder row may attend to; bool [B, L, L], true where visible.

    Row i sees a random subset, drawn anew for each row, of the ordinary positions (each word, or token,
    hidden with probability `rate`) and every special token, never padding and never itself. Column 0
    is visible to every row but row 0; row 0 sees at least position 1 (RetroMAE, equation 5).
    """
    rows, length = layout.words.shape
    if unit == "token":
        hidden = _hidden((rows, length, length), rate, generator, layout.words.device)
    else:
        width = int(layout.words.max()) + 1
        by_word = _hidden((rows, length, width), rate, generator, layout.words.device)
        hidden = by_word.gather(2, layout.words[:, None].expand(rows, length, length))
    hidden.logical_and_(layout.ordinary[:, None, :])
    visible = hidden.logical_not_().logical_and_(layout.valid[:, None, :])
    visible.diagonal(dim1=1, dim2=2).fill_(False)
    visible[:, 1:, 0] = True
    if length > 1:
        visible[:, 0, 1] = True
    return visible
