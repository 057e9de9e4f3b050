"""One view of every supported masked language model.

`Backbone` gives the parts the objectives need under one name: hidden states, embeddings, positions, and the
vocabulary head split into its transform and its output matrix. `FAMILIES` is the table behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from dupmae.errors import DupmaeError
from dupmae.nn.wide_sums import use_wide_sums


class Output(NamedTuple):
    """The vocabulary head's last step: `weight` [|V|, e] (tied to the input embeddings) and `bias` [|V|]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, transformed: Tensor) -> Tensor:
        """Logits [.., |V|] of head outputs [.., e]."""
        return F.linear(transformed, self.weight, self.bias)


@dataclass(frozen=True)
class Family:
    """Where a model family keeps its parts, and how it counts positions.

    Attributes:
        parts: dense layer, activation and LayerNorm of the head's transform, which maps hidden states [.., d] to
            head inputs [.., e].
        output: the output projection.
        offset: rows of the position table in front of position 0, from the configuration.
        absolute: whether there is a position table, from the configuration.
        takes_whole_masks: whether all layers take an attention mask [B, 1, 1, L] and add nothing of their own to it.
        project: the map from the embedding layer's width e to d, where they differ.
    """

    parts: Callable[[Any], tuple[nn.Linear, Callable[[Tensor], Tensor], nn.LayerNorm]]
    output: Callable[[Any], Output]
    offset: Callable[[Any], int] = lambda config: 0
    absolute: Callable[[Any], bool] = lambda config: True
    takes_whole_masks: bool = True
    project: Callable[[Any], nn.Linear | None] = lambda lm: None


def _of_linear(layer: nn.Linear) -> Output:
    # ModernBERT may leave the bias out.
    return Output(layer.weight, layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias)


def _bert_parts(lm: Any) -> tuple[nn.Linear, Callable[[Tensor], Tensor], nn.LayerNorm]:
    transform = lm.cls.predictions.transform
    return transform.dense, transform.transform_act_fn, transform.LayerNorm


def _deberta_parts(lm: Any) -> tuple[nn.Linear, Callable[[Tensor], Tensor], nn.LayerNorm]:
    if lm.config.legacy:
        return _bert_parts(lm)
    head = lm.lm_predictions.lm_head
    return head.dense, head.transform_act_fn, head.LayerNorm


def _deberta_output(lm: Any) -> Output:
    if lm.config.legacy:
        return _of_linear(lm.cls.predictions.decoder)
    return Output(lm.get_input_embeddings().weight, lm.lm_predictions.lm_head.bias)


_ROBERTA = Family(
    parts=lambda lm: (lm.lm_head.dense, F.gelu, lm.lm_head.layer_norm),
    output=lambda lm: _of_linear(lm.lm_head.decoder),
    offset=lambda config: int(config.pad_token_id) + 1,
)
FAMILIES: dict[str, Family] = {
    "bert": Family(parts=_bert_parts, output=lambda lm: _of_linear(lm.cls.predictions.decoder)),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "distilbert": Family(
        parts=lambda lm: (lm.vocab_transform, lm.activation, lm.vocab_layer_norm),
        output=lambda lm: _of_linear(lm.vocab_projector),
    ),
    "mpnet": Family(
        parts=_ROBERTA.parts,
        output=_ROBERTA.output,
        # Whatever the padding id, its embedding layer leaves out two rows.
        offset=lambda config: 2,
        takes_whole_masks=False,
    ),
    "electra": Family(
        parts=lambda lm: (
            lm.generator_predictions.dense,
            lm.generator_predictions.activation,
            lm.generator_predictions.LayerNorm,
        ),
        output=lambda lm: _of_linear(lm.generator_lm_head),
        project=lambda lm: getattr(lm.electra, "embeddings_project", None),
    ),
    "deberta-v2": Family(
        parts=_deberta_parts,
        output=_deberta_output,
        absolute=lambda config: bool(config.position_biased_input),
        takes_whole_masks=False,
    ),
    "modernbert": Family(
        parts=lambda lm: (lm.head.dense, lm.head.act, lm.head.norm),
        output=lambda lm: _of_linear(lm.decoder),
        absolute=lambda config: False,
        takes_whole_masks=False,
    ),
}


def family_of(kind: str) -> Family:
    """The table's row for a `model_type`.

    Raises:
        DupmaeError: for a family that is not in `FAMILIES`.
    """
    if kind not in FAMILIES:
        raise DupmaeError(
            f"model family '{kind}' is not supported",
            where="model",
            fix=f"use one of: {', '.join(FAMILIES)}",
        )
    return FAMILIES[kind]


class Backbone(nn.Module):
    """A Hugging Face masked LM (`lm`) seen through its family's adapter.

    Raises:
        DupmaeError: for a family that is not in `FAMILIES`, or a shape of it that has no whole masked LM.
    """

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self._family = family_of(lm.config.model_type)
        if lm.config.model_type == "deberta-v2" and lm.get_input_embeddings().embedding_dim != lm.config.hidden_size:
            raise DupmaeError(
                "a DeBERTa-v2 whose embeddings are narrower than its hidden states is not supported",
                where="model",
                fix="use one with embedding_size equal to hidden_size",
            )
        self.lm = lm
        use_wide_sums(lm)

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
        """Longest input in tokens (RoBERTa and MPNet keep the position table's first rows for padding)."""
        return int(self.config.max_position_embeddings) - self._family.offset(self.config)

    def hidden(self, input_ids: Tensor, valid: Tensor, padded: bool = True) -> Tensor:
        """Final hidden states [B, L, d] for ids and validity [B, L]; no pooler is involved.

        Args:
            padded: whether there may be padding; without it no mask is handed on, which the fastest kernels require.
        """
        given: dict[str, Any] = {"input_ids": input_ids}
        # Looking is free on a CPU alone.
        looked_at = valid.device.type == "cpu" and not torch.compiler.is_compiling()
        if padded and not (looked_at and valid.all()):
            given["attention_mask"] = self._attention_mask(valid)
        offset = self._family.offset(self.config)
        if offset:
            # These count positions by ids that are not padding, and a random replacement may draw that id.
            given["position_ids"] = (valid.long().cumsum(1) * valid) + offset - 1
        with attention_kernels(input_ids.device):
            states: Tensor = self.lm.base_model(**given).last_hidden_state
        return states

    def _attention_mask(self, valid: Tensor) -> Tensor:
        """The mask [B, 1, 1, L] as layers take it where they do: the library would look into one of [B, L]."""
        whole = self._family.takes_whole_masks and self.config._attn_implementation != "eager"
        return valid[:, None, None] if whole else valid.long()

    def positions(self, length: int) -> Tensor:
        """Position embeddings p_0 .. p_(length-1), [length, d]; zeros where the family has none.

        Where the embedding layer is narrower than d they are mapped to d as its output is, without the bias.
        """
        words: Tensor = self.lm.get_input_embeddings().weight
        if not self._family.absolute(self.config):
            return words.new_zeros(length, self.width)
        offset, project = self._family.offset(self.config), self._family.project(self.lm)
        rows: Tensor = self.lm.base_model.embeddings.position_embeddings.weight[offset : offset + length]
        return rows if project is None else F.linear(rows, project.weight)

    def _embedding_layer(self, length: int, **given: Any) -> Tensor:
        """The family's embedding layer over positions 0 to length - 1, before any projection to d."""
        if self._family.absolute(self.config):
            offset = self._family.offset(self.config)
            given["position_ids"] = torch.arange(offset, offset + length, device=self.lm.device)[None]
        done: Tensor = self.lm.base_model.embeddings(**given)
        return done

    def embed(self, input_ids: Tensor) -> Tensor:
        """Embedding layer output of ids [B, L], with positions, segment, LayerNorm and dropout, as [B, L, d]."""
        embedded = self._embedding_layer(input_ids.shape[1], input_ids=input_ids)
        project = self._family.project(self.lm)
        return embedded if project is None else project(embedded)

    def embed_sentence(self, sentence: Tensor, length: int) -> Tensor:
        """The embedding layer with the sentence's state [B, d] in place of every token's embedding, [B, length, d].

        Raises:
            DupmaeError: where the embedding layer is narrower than d.
        """
        if self._family.project(self.lm) is not None:
            raise DupmaeError(
                f"this {self.config.model_type}'s embedding layer is narrower than its hidden states",
                where="objective.decoder_queries=embedded",
                fix="set objective.decoder_queries=sum",
            )
        every = sentence[:, None].expand(-1, length, -1)
        return self._embedding_layer(length, input_ids=None, inputs_embeds=every)

    def transform(self, hidden: Tensor) -> Tensor:
        """The vocabulary head up to its output matrix, [.., d] to [.., e]; e is d but in some ELECTRA."""
        dense, activation, norm = self._family.parts(self.lm)
        done: Tensor = norm(activation(dense(hidden)))
        return done

    @property
    def output(self) -> Output:
        """The head's output projection."""
        return self._family.output(self.lm)

    def head_parts(self) -> tuple[nn.Linear, nn.LayerNorm]:
        """Dense layer and LayerNorm of the head's transform."""
        dense, _, norm = self._family.parts(self.lm)
        return dense, norm

    def give_head_bias(self) -> None:
        """Give the head's dense layer the bias that ModernBERT leaves out unless its configuration asks for it."""
        dense, _ = self.head_parts()
        if "bias" not in dict(dense.named_parameters()):
            dense.bias = nn.Parameter(dense.weight.new_zeros(dense.out_features))
            self.config.classifier_bias = True

    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the head that are not shared with the encoder."""
        dense, norm = self.head_parts()
        bias = self.output.bias
        return [*dense.parameters(), *norm.parameters(), *([bias] if isinstance(bias, nn.Parameter) else [])]


def attention_kernels(device: torch.device) -> AbstractContextManager[Any]:
    """Which kernels attention may use: on a GPU all but cuDNN's, which plans anew for every shape of a batch.

    Its backward pass has also given nan for masked batches (pytorch issue 196678).
    """
    if device.type != "cuda":
        return nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


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
        elif isinstance(getattr(part, "attention_dropout", None), int | float):
            # ModernBERT keeps the rate itself where others keep a layer.
            part.__dict__["attention_dropout"] = rate
