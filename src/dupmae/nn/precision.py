"""Mixed precision without autocast: master weights in float32, the network itself in a lower dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from dupmae.nn.backbone import Backbone
from dupmae.nn.decoder import DecoderLayer


class LowPrecision(nn.Module):
    """Runs `inner` with its layers' parameters cast to `dtype` once per call; gradients arrive in float32.

    Autocast casts activations back and forth around every LayerNorm and residual, a quarter of a training
    step on a CPU. Here the stream stays in `dtype`; losses and scores widen to float32 where they begin.
    Parameters outside Backbone, DecoderLayer and nn.Linear (part weights, term weights) are not cast.
    """

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner, self.dtype = inner, dtype
        layers = [module for module in inner.modules() if isinstance(module, Backbone | DecoderLayer | nn.Linear)]
        cast = {id(parameter) for module in layers for parameter in module.parameters()}
        self._cast = {name for name, parameter in inner.named_parameters() if id(parameter) in cast}

    def forward(self, *args: Any) -> Any:
        """Whatever `inner` returns."""
        if self.dtype == torch.float32:
            return self.inner(*args)
        low = {name: p.to(self.dtype) if name in self._cast else p for name, p in self.inner.named_parameters()}
        return functional_call(self.inner, low, args)
