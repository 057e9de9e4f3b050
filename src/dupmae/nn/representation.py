"""The hybrid representation: a dense vector from [CLS] and a vocabulary vector from the ordinary tokens.

score(q, p) = a * dense_q . dense_p + b * sum over the passage's top-k of sparse_q[v] sparse_p[v]
(DupMAE, equations 10 to 12, with part weights a and b).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dupmae.nn.backbone import Backbone, pooled
from dupmae.nn.vocabulary import vocabulary_max
from dupmae.recipe import Representation


class Vectors(NamedTuple):
    """Both parts of a batch: `dense` [B, d'] and `sparse` [B, |V|] (None where the part is not used)."""

    dense: Tensor | None
    sparse: Tensor | None


class HybridEncoder(nn.Module):
    """A backbone with the parameters that turn its states into the hybrid vector.

    Parameters beside the backbone's: `projection` [d', d] (W_cls); `term_weights` [|V|], each entry's factor on
    both sides; `threshold`, taken from mu before the non-linearity; `log_scales` [2], the logarithms of a and b.
    """

    def __init__(self, backbone: Backbone, settings: Representation) -> None:
        super().__init__()
        self.backbone = backbone
        self.settings = settings
        self.projection = nn.Linear(backbone.width, settings.dimensions, bias=False)
        self.term_weights = nn.Parameter(torch.ones(backbone.output.weight.shape[0]))
        self.threshold = nn.Parameter(torch.zeros(()))
        self.log_scales = nn.Parameter(torch.zeros(2))
        if settings.dimensions == backbone.width:
            nn.init.eye_(self.projection.weight)
        else:
            nn.init.orthogonal_(self.projection.weight, generator=torch.Generator().manual_seed(0))

    @property
    def has_dense(self) -> bool:
        """Whether the score has a dense part."""
        return self.settings.kind != "sparse"

    @property
    def has_sparse(self) -> bool:
        """Whether the score has a vocabulary part."""
        return self.settings.kind != "dense"

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that no pre-training has seen."""
        return [*self.projection.parameters(), self.term_weights, self.threshold, self.log_scales]

    def forward(self, input_ids: Tensor, valid: Tensor, special: Tensor) -> Vectors:
        """Encode unmasked text; ids int64, valid and special bool, all [B, L]."""
        hidden = self.backbone.hidden(input_ids, valid)
        dense = self._dense(hidden, valid) if self.has_dense else None
        sparse = self.activate(self.maxima(hidden, valid, special)) if self.has_sparse else None
        return Vectors(dense, sparse)

    def _dense(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """h W_cls (DupMAE, equation 10), [B, d'], float32 (float64 for float64 states)."""
        vector: Tensor = self.projection(pooled(hidden, valid, self.settings.pooling))
        vector = vector.to(torch.promote_types(vector.dtype, torch.float32))
        return nn.functional.normalize(vector, dim=-1) if self.settings.normalize else vector

    def maxima(self, hidden: Tensor, valid: Tensor, special: Tensor) -> Tensor:
        """mu over the ordinary tokens, [B, |V|]; a text without any is read at [CLS]."""
        kept = valid & ~special
        kept[:, 0] |= ~kept.any(1)
        offsets = [0, *kept.sum(1).cumsum(0).tolist()]
        output = self.backbone.output
        return vocabulary_max(self.backbone.transform(hidden[kept]), output.weight, output.bias, offsets)

    def activate(self, maxima: Tensor) -> Tensor:
        """Non-linearity and term weights over mu [B, |V|]."""
        positive = torch.relu(maxima - self.threshold)
        if self.settings.activation == "log1p_relu":
            positive = torch.log1p(positive)
        return positive * self.term_weights.clamp(min=0)

    def top_k(self, sparse: Tensor) -> Tensor:
        """Keep the k largest entries of each row [B, |V|] and zero the rest (DupMAE, section 3.3)."""
        if self.settings.top_k >= sparse.shape[1]:
            return sparse
        best = sparse.detach().topk(self.settings.top_k, dim=1).indices
        return sparse * torch.zeros_like(sparse, dtype=torch.bool).scatter_(1, best, True)

    def scores(self, queries: Vectors, passages: Vectors) -> tuple[Tensor | None, Tensor | None]:
        """Dense and sparse share of every score, each [Q, P]; the passages' sparse part is cut to its top-k."""
        scales = self.log_scales.exp()
        dense = sparse = None
        if queries.dense is not None and passages.dense is not None:
            dense = scales[0] * (queries.dense @ passages.dense.T)
        if queries.sparse is not None and passages.sparse is not None:
            sparse = scales[1] * (queries.sparse @ self.top_k(passages.sparse).T)
        return dense, sparse


def forward_by_length(encoder: HybridEncoder, ids: Tensor, valid: Tensor, special: Tensor, parts: int) -> Vectors:
    """Encode [B, L] in `parts` groups of similar length, so that short texts carry little padding."""
    lengths = valid.sum(1)
    order = lengths.argsort(stable=True)
    outputs = []
    for rows in order.chunk(parts):
        width = int(lengths[rows].max())
        outputs.append(encoder(ids[rows, :width], valid[rows, :width], special[rows, :width]))
    back = order.argsort()
    dense = None if outputs[0].dense is None else torch.cat([part.dense for part in outputs])[back]
    sparse = None if outputs[0].sparse is None else torch.cat([part.sparse for part in outputs])[back]
    return Vectors(dense, sparse)
