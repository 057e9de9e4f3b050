"""InfoNCE over the hybrid score and over each of its parts."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dupmae.nn.representation import HybridEncoder, Vectors, forward_by_length

LENGTH_GROUPS = 4


def info_nce(scores: Tensor, targets: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of each query's positive among all passages, and the share ranked first.

    Args:
        scores: [Q, P].
        targets: [Q], column of each query's positive.
        ignored: bool [Q, P], passages that are no negatives of the query (its other positives, copies).
    """
    kept = scores.masked_fill(ignored, float("-inf"))
    return F.cross_entropy(kept, targets), (kept.argmax(1) == targets).float().mean()


def contrastive_terms(
    dense: Tensor | None, sparse: Tensor | None, targets: Tensor, ignored: Tensor, part_weight: float
) -> dict[str, Tensor]:
    """Loss terms by name: `loss`, `accuracy`, and with both parts `hybrid`, `dense`, `sparse`.

    Without a loss of its own a part stops learning as soon as the other solves the batch, so each part's
    InfoNCE joins the sum's with `part_weight`.
    """
    if dense is None or sparse is None:
        only = sparse if dense is None else dense
        assert only is not None
        loss, accuracy = info_nce(only, targets, ignored)
        return {"loss": loss, "accuracy": accuracy}
    hybrid, accuracy = info_nce(dense + sparse, targets, ignored)
    dense_loss, _ = info_nce(dense, targets, ignored)
    sparse_loss, _ = info_nce(sparse, targets, ignored)
    loss = hybrid + part_weight * (dense_loss + sparse_loss)
    return {"loss": loss, "hybrid": hybrid, "dense": dense_loss, "sparse": sparse_loss, "accuracy": accuracy}


def encode_pairs(encoder: HybridEncoder, item: dict[str, Tensor]) -> tuple[Vectors, Vectors]:
    """Query and passage vectors of a batch with `query_*` [B, Lq] and `passage_*` [P, Lp] ids, valid, special."""
    queries = encoder(item["query_ids"], item["query_valid"], item["query_special"])
    passages = forward_by_length(
        encoder, item["passage_ids"], item["passage_valid"], item["passage_special"], LENGTH_GROUPS
    )
    return queries, passages


class ContrastiveObjective(nn.Module):
    """Fine-tuning's objective: InfoNCE on the hybrid score, and with `part_weight` on each part."""

    def __init__(self, encoder: HybridEncoder, part_weight: float) -> None:
        super().__init__()
        self.encoder, self.part_weight = encoder, part_weight

    def forward(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss terms of a batch with `targets` [B] and `ignored` [B, P] beside the ids of `encode_pairs`."""
        dense, sparse = self.encoder.scores(*encode_pairs(self.encoder, item))
        return contrastive_terms(dense, sparse, item["targets"], item["ignored"], self.part_weight)


@torch.no_grad()
def best_scales(dense: Tensor | None, sparse: Tensor | None, targets: Tensor, ignored: Tensor) -> tuple[float, float]:
    """The pair of part weights with the lowest InfoNCE on a sample, from a geometric grid around each part's own best.

    Args:
        dense, sparse: unweighted shares [Q, P] of the sample's scores.
    """
    factors: list[float] = [2.0 ** (exponent / 2) for exponent in range(-20, 13)]

    def best_of(part: Tensor) -> float:
        losses = [float(info_nce(factor * part, targets, ignored)[0]) for factor in factors]
        return factors[losses.index(min(losses))]

    alone = [1.0 if part is None else best_of(part) for part in (dense, sparse)]
    if dense is None or sparse is None:
        return alone[0], alone[1]
    shares = [2.0 ** (exponent / 4) for exponent in range(-14, 3)]
    pairs = [(alone[0] * left, alone[1] * right) for left in shares for right in shares]
    losses = [float(info_nce(left * dense + right * sparse, targets, ignored)[0]) for left, right in pairs]
    return pairs[losses.index(min(losses))]
