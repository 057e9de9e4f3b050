"""The pre-training objectives with loops over rows, heads and tokens (RetroMAE, section 3; DupMAE, section 3).

Everything works on torch tensors of one text at a time, so that autograd gives the gradients; nothing is
chunked, packed or shared. `naive_step` is the same mathematics as one would write it without care for
memory: whole-batch tensors and logits of every position; the benchmarks compare with it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.reference import masking

Weights = Mapping[str, Tensor]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps), scaled and shifted; x [d]."""
    centred = x - x.mean()
    return centred / torch.sqrt((centred * centred).mean() + eps) * weight + bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution function."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def linear(x: Tensor, weights: Weights, name: str) -> Tensor:
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def turned(head: Tensor, position: int) -> Tensor:
    """Rotary positions: entries n and n + d/2 of a head are a complex number, times exp(i position 10000^(-2n/d))."""
    half = len(head) // 2
    angles = [position * 10_000 ** (-2 * n / len(head)) for n in range(half)]
    factors = [complex(math.cos(angle), math.sin(angle)) for angle in angles]
    numbers = [torch.complex(head[n], head[n + half]) * factor for n, factor in enumerate(factors)]
    return torch.stack([number.real for number in numbers] + [number.imag for number in numbers])


def transformer_row(
    row: int,
    query_row: Tensor,
    context: Sequence[Tensor],
    visible: Sequence[bool],
    weights: Weights,
    heads: int,
    eps: float,
    rotary: bool = False,
) -> Tensor:
    """One output row of the layer: attention over the visible context, residual, norm, FFN, residual, norm."""
    query = linear(query_row, weights, "query")
    size = len(query) // heads
    outputs = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        seen = [column for column in range(len(context)) if visible[column]]
        keys = [linear(context[c], weights, "key")[part] for c in seen]
        own = turned(query[part], row) if rotary else query[part]
        if rotary:
            keys = [turned(key, c) for key, c in zip(keys, seen, strict=True)]
        scores = [own @ key / math.sqrt(size) for key in keys]
        shares = torch.softmax(torch.stack(scores), 0)
        values = [linear(context[c], weights, "value")[part] for c in seen]
        outputs.append(sum((share * value for share, value in zip(shares, values, strict=True)), torch.zeros(())))
    attended = linear(torch.cat(outputs), weights, "attention_output")
    norm = weights["attention_norm.weight"], weights["attention_norm.bias"]
    middle = layer_norm(query_row + attended, *norm, eps)
    outer = linear(gelu(linear(middle, weights, "inner")), weights, "outer")
    return layer_norm(middle + outer, weights["norm.weight"], weights["norm.bias"], eps)


def enhanced_decoding(
    sentence: Tensor,
    embedded: Sequence[Tensor],
    queries: Sequence[Tensor],
    visible: Sequence[Sequence[bool]],
    weights: Weights,
    heads: int,
    eps: float,
    rotary: bool = False,
) -> list[Tensor]:
    """Rows from H1 (`queries`) over H2: h in slot 0, then the embedded tokens."""
    context = [sentence, *embedded[1:]]
    return [
        transformer_row(i, queries[i], context, visible[i], weights, heads, eps, rotary) for i in range(len(context))
    ]


def basic_decoding(
    sentence: Tensor,
    embedded: Sequence[Tensor],
    valid: Sequence[bool],
    weights: Weights,
    heads: int,
    eps: float,
    rotary: bool = False,
) -> list[Tensor]:
    """An ordinary transformer layer over h and the embedded tokens, some of which are [MASK]."""
    states = [sentence, *embedded[1:]]
    return [transformer_row(i, state, states, valid, weights, heads, eps, rotary) for i, state in enumerate(states)]


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    """-log softmax(logits)[label]; logits [|V|]."""
    peak = logits.max()
    return torch.log(torch.exp(logits - peak).sum()) + peak - logits[label]


def mean_cross_entropy(logits: Sequence[Tensor], labels: Sequence[int]) -> Tensor:
    """L_mlm and L_dec: the mean over all labelled positions of the batch."""
    losses = [cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    return torch.stack(losses).mean()


def bag_of_words(logits: Sequence[Tensor], targets: Sequence[int], weight: float) -> Tensor:
    """-weight x sum over the distinct targets of log softmax(mu), mu the elementwise maximum of the logits."""
    mu = logits[0]
    for row in logits[1:]:
        mu = torch.maximum(mu, row)
    loss = torch.zeros((), dtype=mu.dtype)
    for token in sorted(set(targets)):
        loss = loss + weight * cross_entropy(mu, token)
    return loss


class Model:
    """The parts of a masked LM as its family's own code gives them, in evaluation mode."""

    def __init__(self, lm: Any) -> None:
        self.lm, self.kind = lm, lm.config.model_type
        eps = getattr(lm.config, "layer_norm_eps", None)
        self.eps = getattr(lm.config, "norm_eps", 1e-12) if eps is None else eps
        self.heads = lm.config.num_attention_heads
        self.layer = lm.base_model.embeddings
        self.rotary = getattr(self.layer, "position_embeddings", None) is None

    def _run(self, ids: Sequence[int]) -> Any:
        given = torch.tensor([list(ids)])
        return self.lm(input_ids=given, attention_mask=torch.ones_like(given), output_hidden_states=True)

    def states(self, ids: Sequence[int]) -> Tensor:
        """Final hidden states [N, d] of one text without padding."""
        last: Tensor = self._run(ids).hidden_states[-1][0]
        return last

    def embedded(self, ids: Sequence[int]) -> list[Tensor]:
        """What goes into the first layer, a list of [d]."""
        return list(self._run(ids).hidden_states[0][0])

    def positions(self, length: int) -> Tensor:
        """p_0, p_1, ... [length, d]; RoBERTa and MPNet start behind the padding index."""
        if self.rotary:
            return torch.zeros(length, self.lm.config.hidden_size, dtype=self.lm.dtype)
        first = 2 if self.kind in ("roberta", "xlm-roberta", "mpnet") else 0
        rows: Tensor = self.layer.position_embeddings.weight[first : first + length]
        if hasattr(self.lm.base_model, "embeddings_project"):
            rows = torch.stack([self.lm.base_model.embeddings_project.weight @ row for row in rows])
        return rows

    def embedding_norm(self, summed: Tensor) -> Tensor:
        """Segment, where the family has one, and LayerNorm; [d]."""
        if getattr(self.layer, "token_type_embeddings", None) is not None:
            summed = summed + self.layer.token_type_embeddings.weight[0]
        norm = self.layer.norm if self.kind == "modernbert" else self.layer.LayerNorm
        bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
        return layer_norm(summed, norm.weight, bias, self.eps)

    def logits(self, state: Tensor) -> Tensor:
        """The family's own vocabulary head on one state; [|V|]."""
        lm, given = self.lm, state[None]
        if self.kind == "distilbert":
            result: Tensor = lm.vocab_projector(lm.vocab_layer_norm(lm.activation(lm.vocab_transform(given))))
        elif self.kind == "electra":
            result = lm.generator_lm_head(lm.generator_predictions(given))
        elif self.kind == "modernbert":
            result = lm.decoder(lm.head(given))
        elif hasattr(lm, "lm_predictions"):
            result = lm.lm_predictions(given, lm.deberta.embeddings.word_embeddings)
        elif hasattr(lm, "cls"):
            result = lm.cls(given)
        else:
            result = lm.lm_head(given)
        return result[0]


def duplex_terms(
    model: Model,
    decoder: Weights | None,
    texts: Sequence[Mapping[str, Any]],
    *,
    kind: str,
    decoding: str,
    queries: str,
    bow: str,
) -> dict[str, Tensor]:
    """Unweighted loss terms of a batch of texts without padding.

    Each text has `ids`, `ordinary`, `masked`, `corrupted`, and `visible` [N][N] or `decoder_masked` and `mask_id`.
    """
    mlm: tuple[list[Tensor], list[int]] = ([], [])
    decoded: tuple[list[Tensor], list[int]] = ([], [])
    bags = []
    for text in texts:
        ids, length = text["ids"], len(text["ids"])
        states = model.states(text["corrupted"])
        for position in range(length):
            if text["masked"][position]:
                mlm[0].append(model.logits(states[position]))
                mlm[1].append(ids[position])
        if decoder is not None and decoding == "enhanced":
            slots = [states[0] + p for p in model.positions(length)]
            if queries == "embedded":
                slots = [model.embedding_norm(slot) for slot in slots]
            rows = enhanced_decoding(
                states[0], model.embedded(ids), slots, text["visible"], decoder, model.heads, model.eps, model.rotary
            )
            labelled = text["ordinary"]
        elif decoder is not None:
            hidden = [text["mask_id"] if text["decoder_masked"][p] else ids[p] for p in range(length)]
            every = [True] * length
            rows = basic_decoding(
                states[0], model.embedded(hidden), every, decoder, model.heads, model.eps, model.rotary
            )
            labelled = text["decoder_masked"]
        if decoder is not None:
            for position in range(length):
                if labelled[position]:
                    decoded[0].append(model.logits(rows[position]))
                    decoded[1].append(ids[position])
        if kind == "dupmae":
            ordinary = [p for p in range(length) if text["ordinary"][p]]
            if bow == "paper":
                places, weight = [p for p in ordinary if not text["masked"][p]], 1.0
            else:
                places, weight = list(range(1, length)), 1.0 / len(ordinary)
            bags.append(bag_of_words([model.logits(states[p]) for p in places], [ids[p] for p in ordinary], weight))
    terms = {"mlm": mean_cross_entropy(*mlm)}
    if decoder is not None:
        terms["decoder"] = mean_cross_entropy(*decoded)
    if bags:
        terms["bow"] = torch.stack(bags).mean()
    return terms


def naive_step(
    lm: Any, decoder: Any, batch: Mapping[str, Tensor], *, kind: str, mask_id: int, source: random.Random
) -> Tensor:
    """The loss as first written down: masks by Python loops, logits [B, L, |V|] of every position for each term.

    The decoder maps (queries, context, visible) to [B, L, d]; padding-free batches of BERT-shaped models only.
    """
    ids, ordinary = batch["input_ids"], batch["valid"] & ~batch["special"]
    masked, corrupted, visible = [], [], []
    for row in range(len(ids)):
        starts, usual = batch["word_starts"][row].tolist(), ordinary[row].tolist()
        masked.append(masking.choose_words([source.random() for _ in starts], starts, usual, 0.3))
        corrupted.append(masking.corrupt(ids[row].tolist(), masked[-1], mask_id, lm.config.vocab_size, source))
        if kind != "mlm":
            visible.append(masking.visibility(starts, usual, batch["valid"][row].tolist(), 0.5, "word", source))
    chosen, given = torch.tensor(masked).to(ids.device), torch.tensor(corrupted).to(ids.device)
    states = lm.base_model(input_ids=given, attention_mask=batch["valid"].long()).last_hidden_state
    logits = lm.cls(states).float()
    loss = F.cross_entropy(logits.flatten(0, 1), ids.masked_fill(~chosen, -100).flatten())
    if kind != "mlm":
        layer = lm.base_model.embeddings
        context = torch.cat([states[:, :1], layer(input_ids=ids)[:, 1:]], 1)
        queries = states[:, :1] + layer.position_embeddings.weight[: ids.shape[1]]
        decoded = lm.cls(decoder(queries, context, torch.tensor(visible).to(ids.device))).float()
        loss = loss + F.cross_entropy(decoded.flatten(0, 1), ids.masked_fill(~ordinary, -100).flatten())
    if kind == "dupmae":
        mu = logits.masked_fill(~(ordinary & ~chosen)[..., None], -torch.inf).amax(1)
        present = torch.zeros_like(mu).scatter_add_(1, ids, ordinary.to(mu.dtype)) > 0
        loss = loss - (torch.log_softmax(mu, 1) * present).sum(1).mean()
    return loss
