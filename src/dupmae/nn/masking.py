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

# Streams of a row's randomness. Visibility uses one for every binary digit of its rate.
ENCODER, CORRUPTION, DECODER, VISIBILITY = 0, 1, 2, 16
# Room for 64 x this many positions between the counters of two words.
_BLOCKS = 2**16


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
    hidden with probability `rate`) and every special token, never padding and never itself. Column 0
    is visible to every row but row 0; row 0 sees at least position 1 (RetroMAE, equation 5).

    Sixty-four rows' decisions about a word are the bits of one number until the very end: a decision
    costs a sixty-fourth of the work it would cost as a boolean.
    """
    rows, length = layout.words.shape
    blocks, device = -(-length // 64), layout.words.device
    # A GPU draws for places that no word has rather than wait for how many there are.
    count = length if unit == "token" or device.type != "cpu" else int(layout.words.max()) + 1
    places = torch.arange(count, device=device)[:, None] * _BLOCKS + torch.arange(blocks, device=device)
    seen = random.packed(VISIBILITY, places, rate).bitwise_not_()
    if unit == "word":
        seen = seen.gather(1, layout.words[:, :, None].expand(rows, length, blocks))
    seen |= _as_bits(layout.valid & ~layout.ordinary)
    seen &= _as_bits(layout.valid)
    seen[:, 0] = -1
    padded = torch.nn.functional.pad(seen, (0, 0, 0, 64 * blocks - length)).view(rows, blocks, 64, blocks)
    by_row = _transpose_bits(padded).permute(0, 3, 2, 1).reshape(rows, 64 * blocks, blocks)
    visible = _spread_bits(by_row[:, :length])[:, :, :length]
    visible.diagonal(dim1=1, dim2=2).fill_(False)
    if length > 1:
        visible[:, 0, 1] = True
    return visible


def _as_bits(flags: Tensor) -> Tensor:
    """All ones or all zeros for every flag, int64 [B, L, 1]."""
    return flags.long().neg_()[:, :, None]


def _transpose_bits(words: Tensor) -> Tensor:
    """Transpose 64 x 64 blocks of bits in place: [.., 64, n] int64, bit k of word w becomes bit w of word k.

    Halves of ever smaller blocks change places (Warren, Hacker's Delight, section 7-3).
    """
    for size in (32, 16, 8, 4, 2, 1):
        low_bits = sum(1 << bit for bit in range(64) if bit % (2 * size) < size)
        mask = low_bits - 2**64 if low_bits >= 2**63 else low_bits
        pairs = words.view(*words.shape[:-2], 32 // size, 2, size, words.shape[-1])
        low, high = pairs[..., 0, :, :], pairs[..., 1, :, :]
        moved = (low >> size).bitwise_xor_(high).bitwise_and_(mask)
        high.bitwise_xor_(moved)
        low.bitwise_xor_(moved << size)
    return words


def _spread_bits(words: Tensor) -> Tensor:
    """The bits of int64 [.., n] as booleans [.., 64 n], the lowest first, by a table of all bytes."""
    table = ((torch.arange(256)[:, None] >> torch.arange(8)) & 1).bool().view(torch.int64).view(-1)
    flat = words.reshape(-1).contiguous().view(torch.uint8).int()
    return table.to(words.device).index_select(0, flat).view(torch.bool).view(*words.shape[:-1], -1)
