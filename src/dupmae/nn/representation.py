"""The vectors of a text: a dense one from [CLS] or the mean, and one over the vocabulary from the ordinary tokens.

The score of a query and a passage is one inner product in R^(d' + |V|) (DupMAE, equations 10 to 12):

    score(q, p) = a dense(q) . dense(p) + b sum over v of sparse(q)[v] sparse(p)[v]

with part weights a and b. A passage's entry at one of its own words is what the head predicts plus what is counted
(docs/method.md). `cls` and `bow` keep one of the terms; `aggregated` folds the vocabulary vector to a fixed width, so
that both terms are one product of dense vectors.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dupmae.nn.aggregation import fold
from dupmae.nn.backbone import Backbone, pooled
from dupmae.nn.topk_scores import topk_scores
from dupmae.nn.vocabulary import text_maxima
from dupmae.settings import Representation

# BM25's constants: how soon a word's count saturates, and how much a passage's length matters (Robertson and Zaragoza
# 2009, section 3.5).
K1, B = 1.2, 0.75
# What is counted, to what is predicted: anything from 1 to 3 is as good on dev queries.
LEXICAL_START = 2.0


class Counts(NamedTuple):
    """How often the words of whole texts stand in them, also of those past the encoder's limit.

    Attributes:
        terms: int64 [B, C], distinct tokens of each text; rows are filled up with any token.
        times: float32 [B, C], how often each stands there; 0 where the row is filled up.
        lengths: float32 [B], ordinary tokens of each text.
    """

    terms: Tensor
    times: Tensor
    lengths: Tensor


class Texts(NamedTuple):
    """A padded batch of texts: `ids` int64, `valid` and `special` bool, all [B, L]; `counts` of passages."""

    ids: Tensor
    valid: Tensor
    special: Tensor
    counts: Counts | None = None

    def rows(self, rows: Tensor) -> Texts:
        """Some of the texts, as wide as the longest of them."""
        width = int(self.valid[rows].sum(1).max())
        counts = None if self.counts is None else Counts(*(part[rows] for part in self.counts))
        return Texts(self.ids[rows, :width], self.valid[rows, :width], self.special[rows, :width], counts)


class Vectors(NamedTuple):
    """Both parts of a batch (None where the part is not used).

    Attributes:
        dense: [B, d'].
        sparse: [B, |V|]; [B, D] when it is folded; [B, T] at the terms that were asked for alone; with `terms` the
            values at these entries, [B, k].
        terms: int64 [B, k] where the vocabulary part is cut to its k largest entries.
    """

    dense: Tensor | None
    sparse: Tensor | None
    terms: Tensor | None = None


class HybridEncoder(nn.Module):
    """A backbone with the parameters that turn its states into the vectors.

    Parameters beside the backbone's: `projection` [d', d] (W_cls); `term_weights` [|V|], each entry's factor on
    both sides; `threshold`, taken from mu before the non-linearity; `log_scales` [2], the logarithms of a and b;
    `lexical_weight`, the factor of what is counted; and the buffer `mean_length`, ordinary tokens of a mean passage.
    With untied towers queries go through `query_backbone`, and both towers share these parameters.
    """

    def __init__(self, backbone: Backbone, settings: Representation, query_backbone: Backbone | None = None) -> None:
        super().__init__()
        self.mean_length: Tensor
        self.backbone, self.query_backbone = backbone, query_backbone
        self.settings = settings.closed()
        self.projection = nn.Linear(backbone.width, settings.dimensions, bias=False)
        self.term_weights = nn.Parameter(torch.ones(backbone.output.weight.shape[0]))
        self.threshold = nn.Parameter(torch.zeros(()))
        self.lexical_weight = nn.Parameter(torch.tensor(LEXICAL_START), requires_grad=self.has_counts)
        self.register_buffer("mean_length", torch.ones(()))
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
    def has_counts(self) -> bool:
        """Whether a passage's own words are counted."""
        return self.has_sparse and self.settings.lexical == "bm25"

    @property
    def scores_query_terms_only(self) -> bool:
        """Whether a score depends on passages' entries at the query's own tokens alone."""
        shape = self.settings
        return shape.kind in ("bow", "hybrid") and shape.query_terms == "input" and not shape.passage_flops

    @property
    def searched_width(self) -> int:
        """Width of the dense vectors that are searched; 0 when there are none."""
        folded = self.settings.aggregated_dimensions if self.settings.kind == "aggregated" else 0
        return self.settings.dimensions + folded if self.has_dense else 0

    def new_parameters(self) -> list[nn.Parameter]:
        """Parameters that no pre-training has seen."""
        own = [self.term_weights, self.threshold, self.lexical_weight, self.log_scales]
        return [*self.projection.parameters(), *own]

    def own_state(self) -> dict[str, Tensor]:
        """Parameters beside the backbones', by name."""
        return {name: value for name, value in self.state_dict().items() if "backbone." not in name}

    def lowered(self, dtype: torch.dtype) -> HybridEncoder:
        """A copy for inference whose networks are in `dtype`; weights of terms and parts stay in float32."""
        lowered = copy.deepcopy(self).eval()
        for network in (lowered.backbone, lowered.query_backbone, lowered.projection):
            if network is not None:
                network.to(dtype)
        return lowered

    def forward(self, texts: Texts, queries: bool = False, terms: Tensor | None = None) -> Vectors:
        """Encode unmasked text.

        Args:
            queries: whether the texts are queries; else they are passages.
            terms: int64 [T], distinct: the vocabulary entries that are wanted; None: all.
        """
        backbone = self._tower(queries)
        hidden = backbone.hidden(texts.ids, texts.valid)
        dense = self._dense(hidden, texts.valid) if self.has_dense else None
        sparse = None
        if self.has_sparse and queries and self.settings.query_terms == "input":
            sparse = self._input_terms(backbone, hidden, texts, terms)
        elif self.has_sparse:
            kept = texts.valid & ~texts.special
            weights = self.term_weights if terms is None else self.term_weights[terms]
            sparse = self.activate(text_maxima(backbone, hidden, kept, terms), weights)
            if not queries and self.has_counts and texts.counts is not None:
                sparse = self._counted(sparse, texts.counts, terms)
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

    def _input_terms(self, backbone: Backbone, hidden: Tensor, texts: Texts, terms: Tensor | None) -> Tensor:
        """The vocabulary part at each text's own tokens, 0 elsewhere, [B, |V|], or [B, T] at `terms`.

        A query has a dozen of |V| terms: only their logits are computed.
        """
        output, ids, kept = backbone.output, texts.ids, texts.valid & ~texts.special
        states, weight = backbone.transform(hidden), output.weight[ids]
        # Of each text [L, L]: position by term.
        logits = (states @ weight.mT).to(torch.promote_types(states.dtype, torch.float32))
        maxima = logits.masked_fill(~kept[:, :, None], float("-inf")).amax(1) + output.bias[ids]
        # A term that stands in a text twice has the same maximum twice, and counts once.
        again = ((ids[:, :, None] == ids[:, None, :]) & kept[:, None, :]).tril(-1).any(2)
        rows, positions = (kept & ~again).nonzero(as_tuple=True)
        own = ids[rows, positions]
        values = self.activate(maxima[rows, positions], self.term_weights[own])
        columns = self._columns(own, terms)
        wanted = columns >= 0
        width = len(self.term_weights) if terms is None else len(terms)
        return values.new_zeros(len(ids), width).index_put((rows[wanted], columns[wanted]), values[wanted])

    def _counted(self, sparse: Tensor, counts: Counts, terms: Tensor | None) -> Tensor:
        """Passages' entries [B, |V|] or [B, T] with what is counted at their own words (docs/method.md).

        lexical_weight x tf (k1 + 1) / (tf + k1 (1 - b + b length / mean length)) x term weight: BM25's saturation,
        its idf in the term weights of both sides.
        """
        times, relative = counts.times, counts.lengths[:, None] / self.mean_length
        saturation = times * (K1 + 1) / (times + K1 * (1 - B + B * relative))
        weights = self.lexical_weight.clamp(min=0) * self.term_weights[counts.terms].clamp(min=0)
        columns = self._columns(counts.terms, terms)
        rows, places = ((columns >= 0) & (times > 0)).nonzero(as_tuple=True)
        values = (saturation * weights)[rows, places].to(sparse.dtype)
        return sparse.index_put((rows, columns[rows, places]), values, accumulate=True)

    def _columns(self, tokens: Tensor, terms: Tensor | None) -> Tensor:
        """Where tokens stand among the terms that are wanted; -1: nowhere."""
        if terms is None:
            return tokens
        columns = tokens.new_full((len(self.term_weights),), -1)
        columns[terms] = torch.arange(len(terms), device=terms.device)
        return columns[tokens]

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
