"""LayerNorm and Embedding whose gradients are summed in float32 on a CPU.

torch's CPU kernels add up a low-precision gradient over the rows in that precision. A bfloat16 sum stops growing
after a few hundred rows, so over thousands of tokens biases, gains and frequent embeddings would get a fraction
of their gradient. CUDA's kernels sum in float32 themselves.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_normalised = torch.ops.aten.native_layer_norm
_backward = torch.ops.aten.native_layer_norm_backward


def _wide(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.float()


def _narrow(values: Tensor) -> bool:
    """Whether the kernels of this tensor's device would sum in its own low precision."""
    low = values.dtype in (torch.bfloat16, torch.float16)
    return low and values.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()


class _LayerNorm(torch.autograd.Function):
    """Statistics and gradients in float32, states as they are given."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
        done: Tensor
        done, mean, scale = _normalised(values, weight.shape, weight.float(), _wide(bias), eps)
        ctx.save_for_backward(values, weight, bias, mean, scale)
        return done

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, bias, mean, scale = ctx.saved_tensors
        given = grads[0].float(), values.float(), weight.shape, mean, scale, weight.float(), _wide(bias)
        states, gain, shift = _backward(*given, [True, True, bias is not None])
        return states.to(values.dtype), gain.to(weight.dtype), None if bias is None else shift.to(bias.dtype), None


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` with both parameters' gradients summed in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise over the last dimension."""
        if not self.elementwise_affine or not _narrow(input):
            return super().forward(input)
        done: Tensor = _LayerNorm.apply(input, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        return done


class _Embedding(torch.autograd.Function):
    """Rows of a table; the gradient of a row is the float32 sum over its occurrences."""

    @staticmethod
    def forward(ctx: Any, ids: Tensor, weight: Tensor, padding: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.dtype, ctx.padding = weight.shape, weight.dtype, padding
        return F.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (ids,) = ctx.saved_tensors
        present, places = ids.flatten().unique(return_inverse=True)
        sums = torch.zeros(len(present), ctx.shape[1]).index_add_(0, places, grads[0].flatten(0, -2).float())
        table = torch.zeros(ctx.shape, dtype=ctx.dtype)
        table[present] = sums.to(ctx.dtype)
        if ctx.padding is not None:
            table[ctx.padding] = 0
        return None, table, None


class Embedding(nn.Embedding):
    """`nn.Embedding` with the gradients of a row summed in float32."""

    def forward(self, input: Tensor) -> Tensor:
        """Rows of the table for ids of any shape."""
        if not _narrow(self.weight):
            return super().forward(input)
        done: Tensor = _Embedding.apply(input, self.weight, self.padding_idx)  # type: ignore[no-untyped-call]
        return done


def use_wide_sums(module: nn.Module) -> None:
    """Make every plain LayerNorm and Embedding of `module` sum its gradients in float32, parameters untouched."""
    for part in module.modules():
        if type(part) is nn.LayerNorm and len(part.normalized_shape) == 1:
            part.__class__ = LayerNorm
        elif type(part) is nn.Embedding and part.max_norm is None and not part.scale_grad_by_freq and not part.sparse:
            part.__class__ = Embedding
