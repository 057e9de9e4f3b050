"""One view of every supported masked language model.

`Backbone` gives the parts the objectives need under one name: hidden states, the embedding layer,
position embeddings, and the vocabulary head split into its transform and its output matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from dupmae.errors import DupmaeError


@dataclass(frozen=True)
class Family:
    """Where a model family keeps the parts of its vocabulary head.

    Attributes:
        transform: maps (model, hidden [.., d]) to head inputs [.., d].
        output: the output projection with `weight` [|V|, d] and `bias` [|V|].
        parts: dense layer and LayerNorm of the transform, for the closed-form start.
    """

    transform: Callable[[Any, Tensor], Tensor]
    output: Callable[[Any], nn.Linear]
    parts: Callable[[Any], tuple[nn.Linear, nn.LayerNorm]]


def _roberta_transform(model: Any, hidden: Tensor) -> Tensor:
    normed: Tensor = model.lm_head.layer_norm(F.gelu(model.lm_head.dense(hidden)))
    return normed


def _distilbert_transform(model: Any, hidden: Tensor) -> Tensor:
    normed: Tensor = model.vocab_layer_norm(model.activation(model.vocab_transform(hidden)))
    return normed


_ROBERTA = Family(
    transform=_roberta_transform,
    output=lambda model: model.lm_head.decoder,
    parts=lambda model: (model.lm_head.dense, model.lm_head.layer_norm),
)
FAMILIES: dict[str, Family] = {
    "bert": Family(
        transform=lambda model, hidden: model.cls.predictions.transform(hidden),
        output=lambda model: model.cls.predictions.decoder,
        parts=lambda model: (
            model.cls.predictions.transform.dense,
            model.cls.predictions.transform.LayerNorm,
        ),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Family(
        transform=_distilbert_transform,
        output=lambda model: model.vocab_projector,
        parts=lambda model: (model.vocab_transform, model.vocab_layer_norm),
    ),
}


class Backbone(nn.Module):
    """A Hugging Face masked LM (`lm`) seen through its family's adapter.

    Raises:
        DupmaeError: for a family that is not in `FAMILIES`.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        kind = lm.config.model_type
        if kind not in FAMILIES:
            raise DupmaeError(
                f"model family '{kind}' is not supported",
                where="model",
                fix=f"use one of: {', '.join(FAMILIES)}",
            )
        self.lm = lm
        self._family = FAMILIES[kind]

    @property
    def config(self) -> Any:
        """The model's Hugging Face configuration."""
        return self.lm.config

    @property
    def width(self) -> int:
        """Hidden size d."""
        return int(self.config.hidden_size)

    @property
    def max_length(self) -> int:
        """Longest input in tokens (RoBERTa keeps padding_idx + 1 position slots for itself)."""
        return int(self.config.max_position_embeddings) - self._position_offset

    @property
    def _position_offset(self) -> int:
        return int(self.config.pad_token_id) + 1 if "roberta" in self.config.model_type else 0

    def hidden(self, input_ids: Tensor, valid: Tensor) -> Tensor:
        """Final hidden states [B, L, d] for ids and validity [B, L]; no pooler is involved."""
        given = {"input_ids": input_ids, "attention_mask": valid.long()}
        if self._position_offset:
            # RoBERTa counts positions by ids that are not padding, and a random replacement may draw that id.
            given["position_ids"] = (valid.long().cumsum(1) * valid) + self._position_offset - 1
        states: Tensor = self.lm.base_model(**given).last_hidden_state
        return states

    def positions(self, length: int) -> Tensor:
        """Position embeddings p_0 .. p_(length-1), [length, d]."""
        table: Tensor = self.lm.base_model.embeddings.position_embeddings.weight
        return table[self._position_offset : self._position_offset + length]

    def normalise_embedding(self, summed: Tensor) -> Tensor:
        """The embedding layer's segment embedding, LayerNorm and dropout over word + position sums [B, L, d]."""
        layer = self.lm.base_model.embeddings
        if hasattr(layer, "token_type_embeddings"):
            summed = summed + layer.token_type_embeddings.weight[0]
        done: Tensor = layer.dropout(layer.LayerNorm(summed))
        return done

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embedding layer output e_x + p of ids [B, L], as [B, L, d]."""
        words: Tensor = self.lm.get_input_embeddings()(input_ids)
        return self.normalise_embedding(words + self.positions(input_ids.shape[1]))

    def transform(self, hidden: Tensor) -> Tensor:
        """The vocabulary head up to its output matrix, [.., d] to [.., d]."""
        return self._family.transform(self.lm, hidden)

    @property
    def output(self) -> nn.Linear:
        """The head's output projection: `weight` [|V|, d] (tied to the input embeddings) and `bias` [|V|]."""
        return self._family.output(self.lm)

    def head_parts(self) -> tuple[nn.Linear, nn.LayerNorm]:
        """Dense layer and LayerNorm of the head's transform."""
        return self._family.parts(self.lm)

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head that are not shared with the encoder."""
        dense, norm = self.head_parts()
        return [*dense.parameters(), *norm.parameters(), self.output.bias]


def pooled(hidden: Tensor, valid: Tensor, how: str) -> Tensor:
    """One vector per sequence [B, d]: the [CLS] state, or the mean over valid positions."""
    if how == "cls":
        return hidden[:, 0]
    mask = valid.to(hidden.dtype)[..., None]
    return (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)


def set_dropout(module: nn.Module, rate: float) -> None:
    """Set every dropout rate below `module`."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = rate
