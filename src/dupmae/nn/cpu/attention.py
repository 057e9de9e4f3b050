"""Attention for CPUs: batched products and a softmax in the dtype of the network, a block of heads at a time.

Torch's fused CPU kernel spends its time converting 16-bit numbers, and falls back to a slow path with dropout; at the
lengths of encoders plain products are faster: `python -m benchmarks.ablation` measures by how much. The scores of a
block stay in the processor's cache: with those of all heads at once, going through memory and faulting in fresh pages
cost more than the products. Longer inputs than `LONGEST` and other devices use torch's kernel, which needs no
[L, L] tensor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from dupmae.nn.decoder import DecoderLayer

NAME = "dupmae"
LONGEST = 1024
# Bytes of scores that each thread works on at a time.
BLOCK = 2**20
# A softmax takes up to twice the time an element where rows do not fill whole vectors.
VECTOR = 32
_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class _Attention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(d) + bias) V with dropout on the shares; Q, K, V are [B, H, L, d].

    If `graded` the shares stay for the backward pass; with dropout, the kept ones as negative numbers.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        scale: float,
        rate: float,
        graded: bool,
    ) -> Tensor:
        ctx.scale, ctx.rate, ctx.columns = scale, rate, key.shape[2]
        bias = _padded_bias(bias, key)
        query, key, value = (query * scale).contiguous(), _padded(key), _padded(value)
        output, shape = torch.empty_like(query), (*query.shape[:3], key.shape[2])
        stored = query.new_empty(shape if graded else 0)
        (room,) = _room(query, shape, 1)
        for heads in _blocks(query, shape):
            asked, answers = _of(query, heads), _of(key, heads)
            shares = _of(stored, heads) if graded else room[: len(asked)]
            torch.bmm(asked, answers.transpose(1, 2), out=shares)
            if bias is not None:
                _add_bias(shares, bias, heads)
            kept = torch.softmax(shares, -1, out=shares)
            if rate:
                kept = apply_bits(shares, keep_bits(shares, rate), out=room[: len(asked)])
                if graded:
                    shares.sub_(kept, alpha=2)
            torch.bmm(kept, _of(value, heads), out=_of(output, heads))
        if rate:
            output.mul_(1 / (1 - rate))
        ctx.save_for_backward(query, key, value, stored, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, stored, output = ctx.saved_tensors
        grad = grads[0].contiguous()
        # Sum over keys of share x its gradient, which is the same as output . its gradient.
        total = (grad * output).sum(-1, keepdim=True)
        if ctx.rate:
            # Negative as the kept shares are.
            grad = grad * (-1 / (1 - ctx.rate))
        grad_query, grad_key, grad_value = (torch.empty_like(part) for part in (query, key, value))
        rooms = _room(query, stored.shape, 2)
        for heads in _blocks(query, stored.shape):
            shares, arrived = _of(stored, heads), _of(grad, heads)
            room, scores = rooms[:, : len(arrived)]
            kept = torch.clamp_max(shares, 0, out=room) if ctx.rate else shares
            torch.bmm(kept.transpose(1, 2), arrived, out=_of(grad_value, heads))
            torch.bmm(arrived, _of(value, heads).transpose(1, 2), out=scores).mul_(kept)
            shares = torch.abs(shares, out=room) if ctx.rate else shares
            scores.addcmul_(shares, _of(total, heads), value=-1)
            torch.bmm(scores, _of(key, heads), out=_of(grad_query, heads))
            torch.bmm(scores.transpose(1, 2), _of(query, heads), out=_of(grad_key, heads))
        columns = slice(ctx.columns)
        return grad_query.mul_(ctx.scale), grad_key[:, :, columns], grad_value[:, :, columns], *[None] * 4


def _blocks(like: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Rows and heads of each block of the scores [B, H, L, M]: whole rows, or some heads of one."""
    rows, heads = shape[:2]
    fit = _fit(like, shape)
    rows_at_once, heads_at_once = max(fit // heads, 1), min(fit, heads)
    for row in range(0, rows, rows_at_once):
        for head in range(0, heads, heads_at_once):
            yield slice(row, min(row + rows_at_once, rows)), slice(head, min(head + heads_at_once, heads))


def _fit(like: Tensor, shape: tuple[int, ...]) -> int:
    """How many heads make a block."""
    size = shape[2] * shape[3] * like.element_size()
    return min(max(BLOCK * torch.get_num_threads() // size, 1), shape[0] * shape[1])


def _room(like: Tensor, shape: tuple[int, ...], count: int) -> Tensor:
    """Scores of `count` blocks, [count, heads of a block, L, M], for all blocks to use in turn."""
    return like.new_empty(count, _fit(like, shape), *shape[2:])


def _of(states: Tensor, heads: tuple[slice, slice]) -> Tensor:
    """A block of [B, H, ..] as a view of [N, ..]."""
    return states[heads].flatten(0, 1)


def _add_bias(scores: Tensor, bias: Tensor, heads: tuple[slice, slice]) -> None:
    rows, some = (part if size > 1 else slice(None) for part, size in zip(heads, bias.shape, strict=False))
    scores.view(-1, heads[1].stop - heads[1].start, *scores.shape[1:]).add_(bias[rows, some])


def _padded(states: Tensor) -> Tensor:
    """[B, H, L, d] with zeros up to a whole number of vectors in L, contiguous."""
    missing = -states.shape[2] % VECTOR
    return F.pad(states, (0, 0, 0, missing)) if missing else states.contiguous()


def _padded_bias(bias: Tensor | None, key: Tensor) -> Tensor | None:
    """The bias that hides what `_padded` appends, too."""
    missing = -key.shape[2] % VECTOR
    if not missing:
        return bias
    bias = key.new_zeros(1, 1, 1, key.shape[2]) if bias is None else bias
    return F.pad(bias.expand(*bias.shape[:-1], key.shape[2]), (0, missing), value=-math.inf)


def _attended(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scale: float, rate: float) -> Tensor:
    graded = torch.is_grad_enabled() and any(part.requires_grad for part in (query, key, value))
    done: Tensor = _Attention.apply(query, key, value, bias, scale, rate, graded)  # type: ignore[no-untyped-call]
    return done


def attend(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0
) -> Tensor:
    """`F.scaled_dot_product_attention`, softmax(Q K^T / sqrt(d) + M) V with dropout on the shares.

    Args:
        query, key, value: [B, H, L, d].
        attn_mask: bool, broadcastable to [B, H, L, L]; true where a row may attend to a column. None: everywhere.
        dropout_p: rate of the dropout.

    Returns:
        [B, H, L, d].
    """
    if not _fast(query, key):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask, dropout_p=dropout_p)
    bias = None if attn_mask is None else _as_bias(attn_mask, query.dtype)
    return _attended(query, key, value, bias, query.shape[-1] ** -0.5, dropout_p)


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
    output = _attended(query, key, value, bias, scale, dropout)
    return output.transpose(1, 2).contiguous(), None


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


def apply_bits(values: Tensor, bits: Tensor, out: Tensor) -> Tensor:
    """`values` where the bits are ones, zero elsewhere; written to `out`."""
    return torch.bitwise_and(values.view(bits.dtype), bits, out=out.view(bits.dtype)).view(values.dtype)


def prepare(module: nn.Module) -> None:
    """Make the transformers models and decoders in a module attend through here, in place; twice does no harm."""
    for part in module.modules():
        if isinstance(part, DecoderLayer):
            part.attend = attend
        elif isinstance(part, PreTrainedModel) and part.config._attn_implementation == "sdpa":
            part.set_attn_implementation(NAME)


AttentionInterface.register(NAME, _for_library)
AttentionMaskInterface.register(NAME, sdpa_mask)
