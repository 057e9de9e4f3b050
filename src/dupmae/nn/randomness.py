"""Random bits as a function of (seed, step, row, place) alone, on any device.

A counter goes through the mixing function of SplitMix64 (Steele, Lea and Flood, 2014), so a row's bits depend on
no other row of the batch, on no padding, and on no draw before them: a resumed run and one
spread over several processes draw the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GOLDEN = -0x61C8864680B583EB
_STREAM = 2**48


def _signed(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


def _mix(state: Tensor) -> Tensor:
    """SplitMix64's output function, in place; >> is arithmetic in torch, so the sign bits are cut off."""
    for shift, factor in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):
        state.bitwise_xor_((state >> shift).bitwise_and_(2 ** (64 - shift) - 1)).mul_(factor)
    return state.bitwise_xor_((state >> 31).bitwise_and_(2**33 - 1))


@dataclass(frozen=True)
class RowRandom:
    """A source of random bits for every row of a batch; `keys` is int64 [B]."""

    keys: Tensor

    @classmethod
    def of(cls, seed: int, step: int, rows: Tensor) -> RowRandom:
        """The source of the rows numbered `rows` (int64 [B]) in a step."""
        key = _mix(torch.tensor([_signed(seed * 0x9E3779B97F4A7C15 + 1)]))
        key = _mix(key + _signed(step * 0xD1342543DE82EF95 + 1))
        return cls(_mix(rows * 0x2545F4914F6CDD1D + int(key)))

    def bits(self, stream: int, places: Tensor) -> Tensor:
        """64 random bits for every row and place, int64 [B, *places.shape]; places are below 2^48."""
        counters = (places + _signed(stream * _STREAM)) * _GOLDEN
        return _mix(counters + self.keys.view(-1, *(1 for _ in places.shape)))

    def uniform(self, stream: int, count: int) -> Tensor:
        """Uniform numbers in [0, 1), float32 [B, count]."""
        return unit_interval(self.bits(stream, torch.arange(count, device=self.keys.device)))


def unit_interval(bits: Tensor) -> Tensor:
    """The lowest 24 bits as float32 numbers in [0, 1)."""
    return (bits & 0xFFFFFF).float().mul_(2.0**-24)
