"""Mixed precision without autocast: master weights in float32, the network itself in a lower dtype."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dupmae.nn.backbone import Backbone
from dupmae.nn.decoder import DecoderLayer


class _Cast(torch.autograd.Function):
    """Copies of tensors in another dtype, by one kernel; their gradients come back by another."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *masters: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        return _copied(masters, dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wide = iter(_copied([grad for grad in grads if grad is not None], torch.float32))
        return None, *(None if grad is None else next(wide) for grad in grads)


def _copied(tensors: Any, dtype: torch.dtype) -> tuple[Tensor, ...]:
    copies = tuple(torch.empty_like(tensor, dtype=dtype) for tensor in tensors)
    if copies:
        torch._foreach_copy_(copies, list(tensors))
    return copies


class LowPrecision(nn.Module):
    """Runs `inner` with its layers' parameters cast to `dtype` once per call; gradients arrive in float32.

    Autocast would cast activations back and forth around every LayerNorm and residual, and every loss would have to
    mind it. Here the stream stays in `dtype`; losses and scores widen to float32 where they begin.
    Parameters outside Backbone, DecoderLayer and nn.Linear (part weights, term weights) are not cast.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner, dtype
        layers = [module for module in inner.modules() if isinstance(module, Backbone | DecoderLayer | nn.Linear)]
        cast = {id(parameter) for module in layers for parameter in module.parameters()}
        names = [name for name, parameter in inner.named_parameters() if id(parameter) in cast]
        # A layer at a time, so that several processes can exchange its gradients while those below it are computed.
        self._groups = [list(group) for _, group in groupby(names, _layer)]

    def forward(self, *args: Any) -> Any:
        """Whatever `inner` returns."""
        if self.dtype == torch.float32:
            return self.inner(*args)
        low: dict[str, Tensor] = dict(self.inner.named_parameters())
        for names in self._groups:
            copies = _Cast.apply(self.dtype, *(low[name] for name in names))  # type: ignore[no-untyped-call]
            low |= dict(zip(names, copies, strict=True))
        return functional_call(self.inner, low, args)


def _layer(name: str) -> str:
    """The name up to the number of a layer, empty for what is in none."""
    match = re.match(r".*?\.\d+\.", name)
    return match.group() if match else ""
