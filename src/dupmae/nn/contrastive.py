"""InfoNCE over the score and over each of its parts, on the passages of all processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dupmae.nn.distributed import joined
from dupmae.nn.gradient_cache import PairEncoder, Side
from dupmae.nn.regularise import flops
from dupmae.nn.representation import HybridEncoder, Vectors
from dupmae.settings import Representation


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
    dense: list[Tensor], sparse: Tensor | None, targets: Tensor, ignored: Tensor
) -> dict[str, Tensor]:
    """Loss terms by name: with both parts `hybrid`, `dense`, `sparse`, else the one there is; and `accuracy`.

    Args:
        dense: shares [Q, P] of the dense part, at its full width first and then at each shorter one; empty without
            it. A term with a dense share is the mean over the widths (Kusupati et al. 2022, equation 1, weights 1 / n).
        sparse: share [Q, P] of the vocabulary part.
    """
    sums = {"dense": dense, "sparse": [] if sparse is None else [sparse]}
    if dense and sparse is not None:
        sums = {"hybrid": [share + sparse for share in dense], **sums}
    terms: dict[str, Tensor] = {}
    for name, scores in sums.items():
        if scores:
            losses, right = zip(*(info_nce(each, targets, ignored) for each in scores), strict=True)
            terms[name] = torch.stack(losses).mean()
            terms.setdefault("accuracy", right[0])
    return terms


def loss_weights(settings: Representation, part_weight: float) -> dict[str, float]:
    """What each term counts in the loss.

    Without a loss of its own a part stops learning as soon as the other solves the batch, so each part's InfoNCE
    joins the sum's with `part_weight`.
    """
    weights = {"cls": {"dense": 1.0}, "bow": {"sparse": 1.0}}.get(
        settings.kind, {"hybrid": 1.0, "dense": part_weight, "sparse": part_weight}
    )
    flops = {"query_flops": settings.query_flops, "passage_flops": settings.passage_flops}
    return weights | {name: weight for name, weight in flops.items() if weight}


class ContrastiveObjective(nn.Module):
    """Fine-tuning's objective: InfoNCE on the score, on each part, and the FLOPS regulariser, by name.

    A batch is this process's part of the joint one. It holds the ids of `PairEncoder`; `targets` int64 [B] and
    `ignored` bool [B, P] over the passages of all processes; `start` int64 [], the first of its own among them.
    """

    def __init__(self, encoder: HybridEncoder, dtype: torch.dtype, chunk_size: int | None = None) -> None:
        super().__init__()
        self.pairs = PairEncoder(encoder, dtype, chunk_size)

    @property
    def encoder(self) -> HybridEncoder:
        """The encoder with its master weights."""
        return self.pairs.encoder

    def forward(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every term that `loss_weights` names, and `accuracy`."""
        queries, passages = self.pairs(item)
        dense, sparse = self.shares(queries, passages, item)
        terms = contrastive_terms(dense, sparse, item["targets"], item["ignored"])
        for name, side in (("query", queries), ("passage", passages)):
            if side.sums is not None:
                terms[f"{name}_flops"] = flops(side.sums, len(item[f"{name}_ids"]))
        return terms

    def shares(self, queries: Side, passages: Side, item: dict[str, Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Shares of the score of every query [B] and every process's passages [P], dense at each width first."""
        encoder, asked = self.encoder, queries.vectors
        start, total = int(item["start"]), item["ignored"].shape[1]
        found = Vectors(*(None if part is None else joined(part, start, total) for part in passages.vectors))
        whole, sparse = encoder.scores(asked, found)
        if whole is None:
            return [], sparse
        dense = [whole]
        for width in encoder.settings.matryoshka:
            short, _ = encoder.scores(_dense_of(encoder, asked, width), _dense_of(encoder, found, width))
            assert short is not None
            dense.append(short)
        return dense, sparse

    def counts(self, item: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How many items each term is the mean of: queries, or once a process for a term of the joint batch."""
        queries = item["targets"].new_tensor(len(item["targets"]))
        by_query = ("hybrid", "dense", "sparse", "accuracy")
        return dict.fromkeys(by_query, queries) | dict.fromkeys(
            ("query_flops", "passage_flops"), torch.ones_like(queries)
        )


def _dense_of(encoder: HybridEncoder, vectors: Vectors, width: int) -> Vectors:
    return encoder.shortened(Vectors(vectors.dense, None), width)


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
