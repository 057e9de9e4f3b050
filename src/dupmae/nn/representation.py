"""The vectors of a text: a dense one from [CLS] and one over the vocabulary from the ordinary tokens.

score(q, p) = a * dense_q . dense_p + b * sum over the passage's top-k of sparse_q[v] sparse_p[v]
(DupMAE, equations 10 to 12, with part weights a and b). `cls` and `bow` keep one of the terms; `aggregated` folds the
vocabulary vector to a fixed width, so that both terms are one product of dense vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dupmae.nn.aggregation import fold
from dupmae.nn.backbone import Backbone, pooled
from dupmae.nn.topk_scores import topk_scores
from dupmae.nn.vocabulary import text_maxima
from dupmae.settings import Representation


class Texts(NamedTuple):
    """A padded batch of texts: `ids` int64, `valid` and `special` bool, all [B, L]."""

    ids: Tensor
    valid: Tensor
    special: Tensor


class Vectors(NamedTuple):
    """Both parts of a batch (None where the part is not used).

    Attributes:
        dense: [B, d'].
        sparse: [B, |V|], or [B, D] when it is folded; with `terms` the values at these entries only, [B, k].
        terms: int64 [B, k] where the vocabulary part is cut to its k largest entries.
    """

    dense: Tensor | None
    sparse: Tensor | None
    terms: Tensor | None = None


class HybridEncoder(nn.Module):
    """A backbone with the parameters that turn its states into the vectors.

    Parameters beside the backbone's: `projection` [d', d] (W_cls); `term_weights` [|V|], each entry's factor on
    both sides; `threshold`, taken from mu before the non-linearity; `log_scales` [2], the logarithms of a and b.
    With untied towers queries go through `query_backbone`, and both towers share these parameters.
    """

    def __init__(self, backbone: Backbone, settings: Representation, query_backbone: Backbone | None = None) -> None:
        super().__init__()
        self.backbone, self.query_backbone = backbone, query_backbone
        self.settings = settings
        self.projection = nn.Linear(backbone.width, settings.dimensions, bias=False)
        self.term_weights = nn.Parameter(torch.ones(backbone.output.weight.shape[0]))
        self.threshold = nn.Parameter(torch.zeros(()))
        self.log_scales = nn.Parameter(torch.tensor(settings.part_weights or [1.0, 1.0]).log())
        self.log_scales.requires_grad_(settings.part_weights is None)
        if settings.dimensions == backbone.width:
            nn.init.eye_(self.projection.weight)
        else:
            nn.init.orthogonal_(self.projection.weight, generator=torch.Generator().manual_seed(0))

    @property
    def has_dense(self) -> bool:
        """Whether the score has a dense part."""
        return self.settings.kind != "bow"

    @property
    def has_sparse(self) -> bool:
        """Whether the score has a vocabulary part, folded or not."""
        return self.settings.kind != "cls"

    @property
    def searched_width(self) -> int:
        """Width of the dense vectors that are searched; 0 when there are none."""
        folded = self.settings.aggregated_dimensions if self.settings.kind == "aggregated" else 0
        return self.settings.dimensions + folded if self.has_dense else 0

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that no pre-training has seen."""
        return [*self.projection.parameters(), self.term_weights, self.threshold, self.log_scales]

    def own_state(self) -> dict[str, Tensor]:
        """Parameters beside the backbones', by name."""
        return {name: value for name, value in self.state_dict().items() if "backbone." not in name}

    def forward(self, input_ids: Tensor, valid: Tensor, special: Tensor, queries: bool = False) -> Vectors:
        """Encode unmasked text; ids int64, valid and special bool, all [B, L]."""
        backbone = self._tower(queries)
        hidden = backbone.hidden(input_ids, valid)
        dense = self._dense(hidden, valid) if self.has_dense else None
        sparse = None
        if self.has_sparse and queries and self.settings.query_terms == "input":
            sparse = self._own_terms(backbone, hidden, input_ids, valid & ~special)
        elif self.has_sparse:
            sparse = self.activate(text_maxima(backbone, hidden, valid & ~special), self.term_weights)
        if sparse is not None and self.settings.kind == "aggregated":
            sparse = fold(sparse, self.settings.aggregated_dimensions)
        return Vectors(dense, sparse)

    def _tower(self, queries: bool) -> Backbone:
        return self.backbone if self.query_backbone is None or not queries else self.query_backbone

    def _dense(self, hidden: Tensor, valid: Tensor) -> Tensor:
        """h W_cls (DupMAE, equation 10), [B, d'], float32 (float64 for float64 states)."""
        vector: Tensor = self.projection(pooled(hidden, valid, self.settings.pooling))
        vector = vector.to(torch.promote_types(vector.dtype, torch.float32))
        return nn.functional.normalize(vector, dim=-1) if self.settings.normalize else vector

    def maxima(self, texts: Texts) -> Tensor:
        """mu over the ordinary tokens of passages, [B, |V|]; a text without any is read at [CLS]."""
        hidden = self.backbone.hidden(texts.ids, texts.valid)
        return text_maxima(self.backbone, hidden, texts.valid & ~texts.special)

    def activate(self, maxima: Tensor, term_weights: Tensor) -> Tensor:
        """Non-linearity and term weights over entries of mu, float [...]."""
        positive = torch.relu(maxima - self.threshold)
        if self.settings.activation == "log1p_relu":
            positive = torch.log1p(positive)
        return positive * term_weights.clamp(min=0)

    def _own_terms(self, backbone: Backbone, hidden: Tensor, ids: Tensor, kept: Tensor) -> Tensor:
        """The vocabulary part at each text's own tokens, 0 elsewhere, [B, |V|]; `kept`, bool [B, L]: which count.

        A query has a dozen of |V| terms: only their logits are computed.
        """
        output = backbone.output
        states, weight = backbone.transform(hidden), output.weight[ids]
        # Of each text [L, L]: position by term.
        logits = (states @ weight.mT).to(torch.promote_types(states.dtype, torch.float32))
        maxima = logits.masked_fill(~kept[:, :, None], float("-inf")).amax(1) + output.bias[ids]
        # A term that stands in a text twice has the same maximum twice, and counts once.
        again = ((ids[:, :, None] == ids[:, None, :]) & kept[:, None, :]).tril(-1).any(2)
        rows, places = (kept & ~again).nonzero(as_tuple=True)
        terms = ids[rows, places]
        values = self.activate(maxima[rows, places], self.term_weights[terms])
        return values.new_zeros(len(ids), len(self.term_weights)).index_put((rows, terms), values)

    def cut(self, passages: Vectors) -> Vectors:
        """Passages with the k largest entries of their vocabulary part (DupMAE, section 3.3); a folded one is kept."""
        if passages.sparse is None or passages.terms is not None or self.settings.kind == "aggregated":
            return passages
        k = min(self.settings.top_k, passages.sparse.shape[1])
        terms = passages.sparse.detach().topk(k, dim=1).indices
        return Vectors(passages.dense, passages.sparse.gather(1, terms), terms)

    def scores(self, queries: Vectors, passages: Vectors) -> tuple[Tensor | None, Tensor | None]:
        """Dense and sparse share of every score, each [Q, P]; the passages' sparse part is cut to its top-k."""
        passages = self.cut(passages)
        scales = self.log_scales.exp()
        dense = sparse = None
        if queries.dense is not None and passages.dense is not None:
            dense = scales[0] * (queries.dense @ passages.dense.T)
        if queries.sparse is not None and passages.sparse is not None:
            if passages.terms is None:
                sparse = scales[1] * (queries.sparse @ passages.sparse.T)
            else:
                sparse = scales[1] * topk_scores(queries.sparse, passages.sparse, passages.terms)
        return dense, sparse

    def shortened(self, vectors: Vectors, width: int) -> Vectors:
        """The same with the first `width` dimensions of the dense part (Kusupati et al. 2022, section 3)."""
        assert vectors.dense is not None
        dense = vectors.dense[:, :width]
        return vectors._replace(dense=nn.functional.normalize(dense, dim=-1) if self.settings.normalize else dense)

    def searched(self, vectors: Vectors, weights: tuple[float, float] = (1.0, 1.0)) -> Vectors:
        """The vectors of `forward` as they are searched, float32; an aggregated one is a dense vector alone.

        Args:
            weights: a and b for queries, ones for passages.
        """
        dense = None if vectors.dense is None else vectors.dense.float() * weights[0]
        sparse = None if vectors.sparse is None else vectors.sparse.float() * weights[1]
        if self.settings.kind != "aggregated":
            return Vectors(dense, sparse)
        assert dense is not None
        assert sparse is not None
        return Vectors(torch.cat([dense, sparse], 1), None)
