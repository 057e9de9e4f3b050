"""Attention for CPUs: three batched products and a softmax, in the dtype of the network.

Torch's fused CPU kernel spends its time converting 16-bit numbers, and falls back to a slow path with dropout;
at the lengths of encoders the plain products are 2 to 4 times faster. Longer inputs than `LONGEST` and other
devices use torch's kernel, which needs no [L, L] tensor.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from dupmae.nn.dropout import apply_bits, keep_bits

NAME = "dupmae"
LONGEST = 1024


class _Attention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(d) + bias) V with dropout on the shares; Q, K, V are [N, L, d] for N = rows x heads."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, rate: float
    ) -> Tensor:
        shape = (*query.shape[:3], key.shape[2])
        query, key, value = (part.flatten(0, 1) for part in (query * scale, key, value))
        scores = torch.bmm(query, key.transpose(1, 2))
        if bias is not None:
            scores = scores.view(shape).add_(bias).flatten(0, 1)
        shares = torch.softmax(scores, -1)
        kept = apply_bits(shares, keep_bits(shares, rate)) if rate else shares
        output = torch.bmm(kept, value)
        if rate:
            output.mul_(1 / (1 - rate))
        ctx.save_for_backward(query, key, value, shares, kept, output)
        ctx.shape, ctx.scale, ctx.keep = shape, scale, 1 - rate
        return output.view(*shape[:3], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, shares, kept, output = ctx.saved_tensors
        grad = grads[0].flatten(0, 1)
        # Sum over keys of share x its gradient, which is the same as output . its gradient.
        total = (grad * output).sum(-1, keepdim=True)
        if ctx.keep != 1:
            grad = grad * (1 / ctx.keep)
        grad_value = torch.bmm(kept.transpose(1, 2), grad)
        grad_scores = torch.bmm(grad, value.transpose(1, 2)).mul_(kept)
        grad_scores.sub_(shares * total)
        grad_query = torch.bmm(grad_scores, key).mul_(ctx.scale)
        grad_key = torch.bmm(grad_scores.transpose(1, 2), query)
        parts = (part.view(*ctx.shape[:2], *part.shape[1:]) for part in (grad_query, grad_key, grad_value))
        return *parts, None, None, None


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, rate: float = 0.0) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query, key, value: [B, H, L, d].
        visible: bool, broadcastable to [B, H, L, L]; true where a row may attend to a column. None: everywhere.
        rate: dropout of the attention shares.

    Returns:
        [B, H, L, d].
    """
    if not _fast(query, key):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=rate)
    bias = None if visible is None else _as_bias(visible, query.dtype)
    done: Tensor = _Attention.apply(query, key, value, bias, query.shape[-1] ** -0.5, rate)  # type: ignore[no-untyped-call]
    return done


def _fast(query: Tensor, key: Tensor) -> bool:
    """Whether the plain products win: on a CPU, at these lengths, and outside torch.compile, which fuses its own."""
    longest = max(query.shape[2], key.shape[2])
    return query.device.type == "cpu" and longest <= LONGEST and not torch.compiler.is_compiling()


def _as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible and half the lowest number elsewhere; a mask of numbers is one already.

    Not minus infinity: a row of padding outside its layer's window sees nothing, and would be nan.
    """
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min / 2)


def _for_library(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """The same in the form that transformers calls; whatever it does not cover goes to torch's kernel."""
    plain = query.shape[1] == key.shape[1] and not given.get("is_causal") and given.get("position_bias") is None
    if not plain or not _fast(query, key):
        done, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **given
        )
        return done, None
    bias = None if attention_mask is None else _as_bias(attention_mask, query.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = _Attention.apply(query, key, value, bias, scale, dropout)  # type: ignore[no-untyped-call]
    return output.transpose(1, 2).contiguous(), None


def use_fast_attention(lm: Any) -> None:
    """Make a transformers model attend through this module where it would use torch's kernel."""
    if lm.config._attn_implementation == "sdpa":
        lm.set_attn_implementation(NAME)


AttentionInterface.register(NAME, _for_library)
AttentionMaskInterface.register(NAME, sdpa_mask)
