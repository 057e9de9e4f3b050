"""The joint objective of the unified framework's second stage (arXiv 2208.00231): L_MAE + weight x L_contrastive."""

from __future__ import annotations

import torch
from torch import Tensor

from dupmae.nn.contrastive import ContrastiveObjective
from dupmae.nn.objectives import Batch, Draws, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.representation import HybridEncoder
from dupmae.settings import Contrastive, Representation

TERM, ACCURACY = "contrastive", "contrastive_accuracy"
Item = dict[str, Tensor]


class UnifiedObjective(LowPrecision):
    """A pre-training objective and InfoNCE on the sentence vectors of the same encoder.

    A sentence vector is the encoder's own state, [CLS] or the mean, without a projection: what training makes of it
    is in the encoder that is exported. The score of two is their inner product, or cosine, over the temperature.

    Args:
        inner: the pre-training objective, whose backbone encodes the pairs too.
        dtype: of both passes; parameters are cast once for each.
    """

    def __init__(self, inner: DuplexMAE, dtype: torch.dtype, settings: Contrastive) -> None:
        super().__init__(inner, dtype)
        vectors = Representation(
            kind="cls",
            # A square projection starts as the identity, and stays it here.
            dimensions=inner.backbone.width,
            pooling=settings.pooling,
            normalize=settings.similarity == "cosine",
            part_weights=[1 / settings.temperature, 1.0],
        )
        encoder = HybridEncoder(inner.backbone, vectors)
        for parameter in encoder.new_parameters():
            parameter.requires_grad_(False)
        self.contrastive = ContrastiveObjective(encoder, dtype, settings.chunk_size)

    def forward(self, texts: tuple[Batch, Draws] | None, pairs: Item | None) -> dict[str, Tensor]:
        """Every term of `DuplexMAE.forward` for the texts, `contrastive` and its accuracy for the pairs.

        Args:
            texts: a padded batch with its masks; None in a step without unlabelled text.
            pairs: as `ContrastiveObjective` takes them; None in a step without pairs.
        """
        terms: dict[str, Tensor] = {} if texts is None else super().forward(*texts)
        if pairs is not None:
            found = self.contrastive(pairs)
            terms |= {TERM: found["dense"], ACCURACY: found["accuracy"]}
        return terms

    def counts(self, texts: tuple[Batch, Draws] | None, pairs: Item | None) -> dict[str, Tensor]:
        """How many items each term of `forward` is the mean of."""
        assert isinstance(self.inner, DuplexMAE)
        counts = {} if texts is None else self.inner.counts(*texts)
        if pairs is not None:
            counts |= dict.fromkeys((TERM, ACCURACY), torch.tensor(len(pairs["targets"])))
        return counts
