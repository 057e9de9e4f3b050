"""Whole-word masks and the decoder's visibility, drawn vectorised for a padded batch.

`Layout` says what each position is; `encoder_mask`, `corrupt` and `decoder_visibility` draw from a `RowRandom`:
the masks of a row depend on (seed, step, row number) and its own tokens, on nothing else in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dupmae.nn.randomness import RowRandom, unit_interval

# Streams of a row's randomness.
ENCODER, CORRUPTION, DECODER, VISIBILITY = 0, 1, 2, 3
# Room for four times this many columns between the counters of two rows of a visibility mask.
_COLUMNS = 2**16


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
    rate right to half a word. The first word is always taken and the last one never, so a row of several words
    has something to predict and something to predict it from, and one of a single word stays as it is.
    """
    sizes = torch.zeros_like(layout.words).scatter_add_(1, layout.words, layout.ordinary.long())
    order = keys.masked_fill(sizes == 0, float("inf")).argsort(dim=1)
    ordered = sizes.gather(1, order)
    middle = ordered.cumsum(1) - ordered / 2
    budget = rate * layout.ordinary.sum(1, keepdim=True)
    taken = (middle <= budget) & (ordered > 0)
    taken[:, 0] = ordered[:, 0] > 0
    places = torch.arange(taken.shape[1], device=taken.device)
    taken &= places < (ordered > 0).sum(1, keepdim=True) - 1
    by_word = torch.zeros_like(taken).scatter_(1, order, taken)
    return by_word.gather(1, layout.words) & layout.ordinary


def encoder_mask(layout: Layout, rate: float, random: RowRandom, stream: int = ENCODER) -> Tensor:
    """Draw a whole-word mask over the ordinary tokens; bool [B, L] (RetroMAE, section 3.1)."""
    return choose_words(random.uniform(stream, layout.words.shape[1]), layout, rate)


def corrupt(
    input_ids: Tensor, masked: Tensor, *, mask_id: int, vocabulary: int, keep: bool, random: RowRandom
) -> Tensor:
    """Replace masked tokens; with `keep`, 10% become random and 10% stay as they are (BERT, section 3.1)."""
    corrupted = input_ids.masked_fill(masked, mask_id)
    if not keep:
        return corrupted
    bits = random.bits(CORRUPTION, torch.arange(input_ids.shape[1], device=input_ids.device))
    draw = unit_interval(bits)
    random_ids = ((bits >> 32) & 0xFFFFFFFF).mul_(vocabulary) >> 32
    corrupted = torch.where(masked & (draw < 0.1), random_ids, corrupted)
    return torch.where(masked & (draw >= 0.9), input_ids, corrupted)


def decoder_visibility(layout: Layout, rate: float, unit: Literal["word", "token"], random: RowRandom) -> Tensor:
    """Draw which positions each decoder row may attend to; bool [B, L, L], true where visible.

    Row i sees a random subset, drawn anew for each row, of the ordinary positions (each word, or token,
    hidden with probability `rate`, to 2^-16) and every special token, never padding and never itself. Column 0
    is visible to every row but row 0; row 0 sees at least position 1 (RetroMAE, equation 5).
    """
    (rows, length), device = layout.words.shape, layout.words.device
    # A number holds the draws of four words, or tokens, for one row.
    places = torch.arange(length, device=device)[:, None] * _COLUMNS + torch.arange(-(-length // 4), device=device)
    draws = random.bits(VISIBILITY, places).view(torch.int16)[..., :length]
    visible = draws >= min(round(rate * 2**16), 2**16 - 1) - 2**15
    if unit == "word":
        visible = visible.gather(2, layout.words[:, None].expand(rows, length, length))
    visible |= ~layout.ordinary[:, None]
    visible &= layout.valid[:, None]
    visible[:, :, 0] = True
    visible.diagonal(dim1=1, dim2=2).fill_(False)
    if length > 1:
        visible[:, 0, 1] = True
    return visible
