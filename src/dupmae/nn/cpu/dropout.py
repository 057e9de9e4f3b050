"""Dropout from raw random bits: on a CPU several times faster than drawing one Bernoulli number an element."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def keep_bits(like: Tensor, rate: float) -> Tensor:
    """All ones (probability 1 - rate) or all zeros for every element, as integers as wide as `like`'s elements.

    A bitwise and with them is dropout without its scale. Booleans would first have to become numbers, which
    costs a CPU more than the random draws do. The rate is met to 2^-16 for 16-bit elements, closer for wider ones.
    """
    size = like.element_size()
    half = 2 ** (8 * size - 1)
    words = torch.empty(-(-like.numel() * size // 8), dtype=torch.int64, device=like.device).random_(-(2**63), None)
    draws = words.view(_INTEGER[size])[: like.numel()].view(like.shape)
    bound = min(max(round((1 - rate) * 2 * half) - half, 1 - half), half - 1)
    return draws.clamp_(bound - 1, bound).sub_(bound)


def apply_bits(values: Tensor, bits: Tensor, out: Tensor | None = None) -> Tensor:
    """`values` where the bits are ones, zero elsewhere; written to `out` where that is given."""
    place = None if out is None else out.view(bits.dtype)
    return torch.bitwise_and(values.view(bits.dtype), bits, out=place).view(values.dtype)


class _Dropout(torch.autograd.Function):
    """Inverted dropout; the bits are kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        bits = keep_bits(values, rate)
        ctx.save_for_backward(bits)
        ctx.scale = 1 / (1 - rate)
        return apply_bits(values, bits).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (bits,) = ctx.saved_tensors
        return apply_bits(grads[0], bits).mul_(ctx.scale), None


class Dropout(nn.Dropout):
    """`nn.Dropout` that draws its own bits on a CPU; elsewhere torch's fused kernel."""

    def forward(self, input: Tensor) -> Tensor:
        """Inverted dropout of any shape."""
        plain = input.device.type != "cpu" or torch.compiler.is_compiling()
        if plain or not self.training or not self.p or math.isclose(self.p, 1):
            return super().forward(input)
        done: Tensor = _Dropout.apply(input, self.p)  # type: ignore[no-untyped-call]
        return done


def use_fast_dropout(module: nn.Module) -> None:
    """Put `Dropout` in the place of every plain nn.Dropout below `module`."""
    for part in module.modules():
        for name, child in part.named_children():
            if type(child) is nn.Dropout:
                setattr(part, name, Dropout(child.p).train(child.training))
