"""Floating-point operations of a pre-training step, counted from shapes.

Counted are the matrix products that the equations need, two operations a multiply-add: linear layers, attention
over all pairs of a text's tokens, and the vocabulary. Elementwise work, softmax, the optimizer and padding are
not, and neither are attention windows or the relative positions of DeBERTa. A backward pass costs twice its
forward pass (Kaplan et al. 2020, section 2.1), except that of the bag of words, whose gradient reaches one
position for each vocabulary entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dupmae.settings import Masking, Objective

# [CLS] and [SEP], or what a family has in their place.
SPECIALS = 2


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder that decide its work.

    Attributes:
        embedding: width of the vocabulary matrix; None: hidden.
        gated: whether the feed-forward layer has a gate, a third matrix (ModernBERT).
    """

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    embedding: int | None = None
    gated: bool = False

    @classmethod
    def of(cls, config: Any) -> Shape:
        """Read a Hugging Face configuration."""
        return cls(
            layers=int(config.num_hidden_layers),
            hidden=int(config.hidden_size),
            intermediate=int(getattr(config, "intermediate_size", None) or config.hidden_dim),
            vocabulary=int(config.vocab_size),
            embedding=getattr(config, "embedding_size", None),
            gated=config.model_type == "modernbert",
        )

    def layer_weights(self) -> int:
        """Weights in the matrices of one encoder layer."""
        return 4 * self.hidden**2 + (3 if self.gated else 2) * self.hidden * self.intermediate

    def head_weights(self) -> int:
        """Weights in the matrix of the vocabulary head's transform."""
        return self.hidden * (self.embedding or self.hidden)

    def output_weights(self) -> int:
        """Weights in the vocabulary matrix."""
        return self.vocabulary * (self.embedding or self.hidden)


@dataclass(frozen=True)
class Texts:
    """How much text is worked on, padding left out.

    Attributes:
        count: number of texts.
        tokens: tokens of all of them, specials included.
        pairs: sum of their squared lengths.
    """

    count: float
    tokens: float
    pairs: float

    @classmethod
    def of(cls, lengths: Iterable[int]) -> Texts:
        """Texts of the given lengths in tokens."""
        known = [int(length) for length in lengths]
        return cls(len(known), sum(known), sum(length**2 for length in known))

    @property
    def ordinary(self) -> float:
        """Tokens that are not special."""
        return max(0.0, self.tokens - SPECIALS * self.count)


@dataclass(frozen=True)
class Part:
    """Operations of one part of a step."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Forward and backward together."""
        return self.forward + self.backward


def encoder_forward(shape: Shape, texts: Texts) -> float:
    """The encoder's forward pass, vocabulary head left out."""
    return shape.layers * _layer(shape.layer_weights(), shape.hidden, texts)


def vocabulary_forward(shape: Shape, positions: float) -> float:
    """The vocabulary head, transform and output, at a number of positions."""
    return 2 * positions * (shape.head_weights() + shape.output_weights())


def step_parts(shape: Shape, texts: Texts, objective: Objective, masking: Masking) -> dict[str, Part]:
    """Operations of one pre-training step by part.

    Returns:
        `encoder`, `mlm` (head at the masked positions), and with the objective `decoder` (its layer),
        `decoder_vocabulary` (head at the positions it is scored on), `bow`.
    """
    masked = masking.encoder_rate * texts.ordinary
    parts = {
        "encoder": _dense(encoder_forward(shape, texts)),
        "mlm": _dense(vocabulary_forward(shape, masked)),
    }
    if objective.decodes:
        # The decoder is one layer of BERT's kind, whatever the backbone.
        weights = 4 * shape.hidden**2 + 2 * shape.hidden * shape.intermediate
        scored = texts.ordinary if objective.decoder == "enhanced" else masking.decoder_rate * texts.ordinary
        parts["decoder"] = _dense(_layer(weights, shape.hidden, texts))
        parts["decoder_vocabulary"] = _dense(vocabulary_forward(shape, scored))
    if objective.has_bow:
        kept = texts.ordinary - masked if objective.bow == "paper" else texts.tokens - texts.count
        parts["bow"] = _bag_of_words(shape, kept, texts.count)
    return parts


def step_flops(shape: Shape, texts: Texts, objective: Objective, masking: Masking) -> float:
    """Operations of one pre-training step, forward and backward."""
    return sum(part.total for part in step_parts(shape, texts, objective, masking).values())


def paired_flops(shape: Shape, texts: Texts) -> Part:
    """Queries and passages through the encoder; a second pass of gradient caching and the scores are not counted."""
    return _dense(encoder_forward(shape, texts))


def _layer(weights: int, hidden: int, texts: Texts) -> float:
    """Forward pass of a transformer layer: its matrices for every token, Q K^T and A V for every pair."""
    return 2 * weights * texts.tokens + 4 * hidden * texts.pairs


def _dense(forward: float) -> Part:
    return Part(forward, 2 * forward)


def _bag_of_words(shape: Shape, kept: float, texts: float) -> Part:
    """Logits of every kept position forward; backward one position for each text and vocabulary entry."""
    transform = 2 * kept * shape.head_weights()
    return Part(
        transform + 2 * kept * shape.output_weights(),
        2 * transform + 4 * texts * shape.output_weights(),
    )
