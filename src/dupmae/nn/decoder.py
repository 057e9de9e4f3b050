"""The decoder of the [CLS] reconstruction: one transformer layer with two input streams (RetroMAE, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dupmae.nn.backbone import family_of
from dupmae.nn.wide_sums import LayerNorm

# The slowest wavelength of rotary positions is 2 pi times this (RoFormer, section 3.2.2).
ROTARY_BASE = 10_000.0


class DecoderLayer(nn.Module):
    """One post-LayerNorm transformer layer whose queries and context come from different streams.

    A = softmax(Q K^T / sqrt(d_head) + M) V with Q from the query stream, K and V from the context
    stream; the residual comes from the query stream (RetroMAE, equations 4 and 5). Initialised
    as the backbone initialises its own layers. Where the backbone has no position embeddings,
    so that the query stream cannot carry them, Q and K are rotated by their positions.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, _setting(config, "intermediate_size", "hidden_dim")
        self.heads = int(config.num_attention_heads)
        # What computes attention, in the form of torch's own: see `dupmae.nn.cpu`.
        self.attend: Callable[..., Tensor] = F.scaled_dot_product_attention
        self.rotary = not family_of(config.model_type).absolute(config)
        # DistilBERT's, which no setting of its configuration gives.
        eps = _setting(config, "layer_norm_eps", "norm_eps", default=1e-12)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = LayerNorm(width, eps=eps)
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.norm = LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(_setting(config, "hidden_dropout_prob", "dropout", "mlp_dropout"))
        self.attention_dropout = nn.Dropout(_setting(config, "attention_probs_dropout_prob", "attention_dropout"))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                nn.init.zeros_(module.bias)

    def _split(self, states: Tensor) -> Tensor:
        rows, length, width = states.shape
        return states.view(rows, length, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, queries: Tensor, context: Tensor, visible: Tensor) -> Tensor:
        """Decode.

        Args:
            queries: H1, [B, L, d].
            context: H2, [B, L, d].
            visible: bool [B, L, L] or [B, 1, L], true where row i may attend to column j.

        Returns:
            [B, L, d].
        """
        query, key = self._split(self.query(queries)), self._split(self.key(context))
        if self.rotary:
            query, key = rotate(query), rotate(key)
        attended = self.attend(
            query,
            key,
            self._split(self.value(context)),
            attn_mask=visible[:, None],
            dropout_p=self.attention_dropout.p if self.training else 0.0,
        )
        joined = attended.transpose(1, 2).flatten(2)
        states = self.attention_norm(queries + self.dropout(self.attention_output(joined)))
        done: Tensor = self.norm(states + self.dropout(self.outer(F.gelu(self.inner(states)))))
        return done


def _setting(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these that the configuration has: families name the same setting differently."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), default)


def rotate(states: Tensor) -> Tensor:
    """Rotary positions 0 .. L-1 on [.., L, d_head]: entries n and n + d_head / 2 turn by position x base^(-2n/d_head).

    Computed in float32 at least (RoFormer, equation 34, with the two halves of a head as pairs).
    """
    length, size = states.shape[-2:]
    wide = states.to(torch.promote_types(states.dtype, torch.float32))
    frequencies = ROTARY_BASE ** (-torch.arange(0, size, 2, device=states.device, dtype=torch.float64) / size)
    angles = torch.arange(length, device=states.device, dtype=torch.float64)[:, None] * frequencies
    cosine, sine = angles.cos().to(wide.dtype), angles.sin().to(wide.dtype)
    left, right = wide.chunk(2, -1)
    turned = torch.cat([left * cosine - right * sine, right * cosine + left * sine], -1)
    return turned.to(states.dtype)
