"""What a retriever learns from a teacher: the distribution of its scores over a query's passages, or their margins.

Groups are one positive and a query's negatives, [B, G] with the positive in column 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from dupmae.nn.contrastive import ContrastiveObjective, contrastive_terms
from dupmae.nn.regularise import flops
from dupmae.nn.representation import HybridEncoder


def distillation_kl(scores: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(scores)) over each query's group, in nats, mean over queries.

    Its gradient is that of the cross-entropy - sum softmax(teacher) log softmax(scores) (DupMAE, section 3.3).

    Args:
        scores, teacher: [B, G], of the same passages.
        valid: bool [B, G], places that hold a passage; every row has one.
    """
    scores, teacher = scores.to(_precise(scores)), teacher.to(_precise(scores))
    own = scores.masked_fill(~valid, float("-inf")).log_softmax(1)
    target = teacher.masked_fill(~valid, float("-inf")).log_softmax(1)
    # Empty places are 0 times minus infinity: left out before the product, so that no gradient is NaN.
    gap = torch.where(valid, target, 0.0) - torch.where(valid, own, 0.0)
    return (target.exp() * gap).sum(1).mean()


def margin_mse(scores: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of the margins that scores and teacher put between positive and negatives.

    Hofstaetter et al. 2020 (arXiv 2010.02666), equation 2; the mean is over all pairs of a batch. Shapes as in
    `distillation_kl`; a batch without negatives costs nothing.
    """
    scores, teacher = scores.to(_precise(scores)), teacher.to(_precise(scores))
    pairs = valid[:, 1:]
    gap = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    return torch.where(pairs, gap, 0.0).square().sum() / pairs.sum().clamp(min=1)


def _precise(scores: Tensor) -> torch.dtype:
    return torch.promote_types(scores.dtype, torch.float32)


LOSSES = {"kl": distillation_kl, "margin_mse": margin_mse}


class DistillationObjective(ContrastiveObjective):
    """Distillation beside the contrastive terms, by name.

    Beside what `ContrastiveObjective` takes, a batch has for each query [B] a group of passages [B, G]: `group`
    int64, their columns among those of all processes, the positive first; `teacher`, their scores; `group_valid`
    bool, the places that hold a passage.
    """

    def __init__(
        self, encoder: HybridEncoder, dtype: torch.dtype, chunk_size: int | None, loss: Literal["kl", "margin_mse"]
    ) -> None:
        super().__init__(encoder, dtype, chunk_size)
        self.loss = loss

    def forward(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        """The term named as the loss, and those of fine-tuning."""
        queries, passages = self.pairs(item)
        dense, sparse = self.shares(queries, passages, item)
        terms = contrastive_terms(dense, sparse, item["targets"], item["ignored"])
        for name, side in (("query", queries), ("passage", passages)):
            if side.sums is not None:
                terms[f"{name}_flops"] = flops(side.sums, len(item[f"{name}_ids"]))
        scores = sum(share for share in (*dense[:1], sparse) if share is not None)
        assert isinstance(scores, Tensor)
        group = scores.gather(1, item["group"])
        terms[self.loss] = LOSSES[self.loss](group, item["teacher"], item["group_valid"])
        return terms

    def counts(self, item: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """As for fine-tuning; a divergence counts its queries, margins their pairs."""
        pairs = item["group_valid"][:, 1:].sum()
        queries = item["targets"].new_tensor(len(item["targets"]))
        return super().counts(item) | {self.loss: queries if self.loss == "kl" else pairs}
