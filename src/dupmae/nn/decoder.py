"""The decoder of the [CLS] reconstruction: one transformer layer with two input streams (RetroMAE, section 3.2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class DecoderLayer(nn.Module):
    """One post-LayerNorm transformer layer whose queries and context come from different streams.

    A = softmax(Q K^T / sqrt(d_head) + M) V with Q from the query stream, K and V from the context
    stream; the residual comes from the query stream (RetroMAE, equations 4 and 5). Initialised
    as the backbone initialises its own layers.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        width, inner = config.hidden_size, getattr(config, "intermediate_size", None) or config.hidden_dim
        self.heads = int(config.num_attention_heads)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", 1e-12))
        self.inner = nn.Linear(width, inner)
        self.outer = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=getattr(config, "layer_norm_eps", 1e-12))
        rate = getattr(config, "hidden_dropout_prob", None)
        self.dropout = nn.Dropout(config.dropout if rate is None else rate)
        attention_rate = getattr(config, "attention_probs_dropout_prob", None)
        self.attention_dropout = nn.Dropout(config.attention_dropout if attention_rate is None else attention_rate)
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
        attended = F.scaled_dot_product_attention(
            self._split(self.query(queries)),
            self._split(self.key(context)),
            self._split(self.value(context)),
            attn_mask=visible[:, None],
            dropout_p=self.attention_dropout.p if self.training else 0.0,
        )
        joined = attended.transpose(1, 2).flatten(2)
        states = self.attention_norm(queries + self.dropout(self.attention_output(joined)))
        done: Tensor = self.norm(states + self.dropout(self.outer(F.gelu(self.inner(states)))))
        return done
