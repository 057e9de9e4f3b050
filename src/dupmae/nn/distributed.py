"""What several processes hold together, with exact gradients; in a run of one process, what it has itself.

Each process minimises its share of the joint loss. The backward passes add the gradients that every process has
for a row to those of the process that the row belongs to.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def _alone() -> bool:
    return not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, start: int, total: int) -> Tensor:
        ctx.rows = slice(start, start + len(own))
        whole = own.new_zeros(total, *own.shape[1:])
        whole[ctx.rows] = own
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad[ctx.rows], None, None


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        whole = own.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        grad = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return (grad,)


def joined(own: Tensor, start: int, total: int) -> Tensor:
    """The rows of all processes, [total, ..]; every process has to call this.

    Args:
        own: [n, ..], the rows from `start` on.
    """
    if _alone():
        return own
    whole: Tensor = _Joined.apply(own, start, total)  # type: ignore[no-untyped-call]
    return whole


def summed(own: Tensor) -> Tensor:
    """The element-wise sum over all processes; every process has to call this."""
    if _alone():
        return own
    whole: Tensor = _Summed.apply(own)  # type: ignore[no-untyped-call]
    return whole
