"""Vocabulary-sized losses without the vocabulary-sized tensor.

`linear_cross_entropy` scores positions against the vocabulary chunk by chunk, several times as fast as torch's function
of that name (benchmarks/cross_entropy.py); `vocabulary_max` keeps, for each sequence, only the best logit of every
vocabulary entry and where it stood. Matrix products run in the dtype of the inputs; softmax, maxima and gradient sums
are float32 (float64 for float64 inputs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dupmae.nn.backbone import Backbone


@dataclass(frozen=True)
class Chunks:
    """What is worked on at once.

    Attributes:
        tokens: rows of cross-entropy.
        logits: numbers of cross-entropy, and of maxima where `columns` would be fewer.
        slice: vocabulary entries of a gradient that is widened.
        columns: vocabulary entries of maxima, at least.
        padded: whether the maxima of all texts are one reduction over their positions, the last repeated.
    """

    tokens: int
    logits: int
    slice: int
    columns: int
    padded: bool


# On a CPU what fits the caches; on a GPU few kernels, each large enough to fill it.
CHUNKS = {
    "cpu": Chunks(tokens=1024, logits=2**25, slice=512, columns=1024, padded=False),
    "cuda": Chunks(tokens=2**27, logits=2**27, slice=2**27, columns=1024, padded=True),
}


def _chunks(tensor: Tensor) -> Chunks:
    return CHUNKS["cpu" if tensor.device.type == "cpu" else "cuda"]


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean over rows of the cross-entropy; gradients are made in the forward pass, while the logits are at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        chunks = _chunks(hidden)
        rows = min(chunks.tokens, max(chunks.logits // len(weight), 1), len(hidden))
        grad_hidden = torch.empty_like(hidden)
        # The sum of several products is float32, one alone has been summed by its kernel.
        whole = rows == len(hidden)
        grad_weight = torch.empty_like(weight, dtype=weight.dtype if whole else wide)
        grad_bias = torch.zeros(bias.shape, dtype=wide, device=bias.device)
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        # One buffer for the whole pass: fresh pages for every chunk would cost as much as a product.
        logits = hidden.new_empty(rows, len(weight))
        places = torch.arange(rows, device=hidden.device)
        scale = 1 / len(hidden)
        # The mean's factor is cheapest here.
        scaled = hidden * scale
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            count = len(labels[part])
            torch.addmm(bias, hidden[part], weight.T, out=logits[:count])
            made, surprise, right = _scored(logits[:count], labels[part], places[:count])
            correct += right
            loss += surprise
            grad_bias += made.sum(0)
            torch.mm(made, weight, out=grad_hidden[part])
            if whole:
                torch.mm(made.T, scaled, out=grad_weight)
            else:
                _add_product(made, scaled[part], grad_weight, first=start == 0)
        grad_bias.mul_(scale)
        ctx.save_for_backward(grad_hidden.mul_(scale), grad_weight.to(weight.dtype), grad_bias.to(bias.dtype))
        ctx.mark_non_differentiable(correct)
        return loss * scale, correct

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # Weights of terms are 1 more often than not, and asking costs a CPU nothing.
        if grads[0].device.type == "cpu" and grads[0] == 1:
            return *ctx.saved_tensors, None
        hidden, weight, bias = ctx.saved_tensors
        return hidden * grads[0], weight * grads[0], bias * grads[0], None


def _score(logits: Tensor, labels: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the summed cross-entropy by the logits [N, |V|], that sum, and how many labels are the best.

    Args:
        logits: [N, |V|]; on a CPU the gradient is written in their place.
        labels: [N].
        places: 0 to N - 1.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    best, chosen = logits.amax(1), logits.gather(1, labels[:, None])[:, 0]
    # The kernel sums in float32 whatever it returns; a float32 copy of the shares costs a third of the loss.
    # That of a CPU may write where it reads, since it goes row by row.
    made = torch.softmax(logits, 1, out=logits if logits.device.type == "cpu" else None)
    share = made.gather(1, labels[:, None])[:, 0]
    # Not scatter_, which goes through a float32 copy of the whole chunk.
    made[places, labels] = 0
    # 1 - share, but exact where the share is nearly 1 in its dtype.
    rest = made.sum(1)
    made[places, labels] = -rest
    return made, _surprise(share, rest, made, best, chosen).sum(dtype=wide), (chosen == best).sum()


_scored = _score


def compile_losses(**options: Any) -> None:
    """From now on let torch.compile make one kernel of what cross-entropy does to its logits, whatever their number."""
    global _scored
    _scored = torch.compile(_score, dynamic=True, **options)


def _add_product(made: Tensor, hidden: Tensor, grad_weight: Tensor, *, first: bool) -> None:
    """Add made^T hidden to `grad_weight`, or begin it; by slices, each still in the cache when it is widened."""
    size = _chunks(hidden).slice
    for start in range(0, len(grad_weight), size):
        entries = slice(start, start + size)
        product = made[:, entries].T @ hidden
        if first:
            grad_weight[entries] = product
        else:
            # Not +=, which copies the sum onto itself.
            grad_weight[entries].add_(product)


def _surprise(share: Tensor, rest: Tensor, shares: Tensor, best: Tensor, chosen: Tensor) -> Tensor:
    """-log of the target's share, [N]; from the rest's where that is more exact, from the logits where it is too small.

    Args:
        share, rest: [N] of the target, and of all other entries together.
        shares: [N, |V|] of the other entries.
        best, chosen: [N] largest logit, and the target's.
    """
    wide = torch.promote_types(share.dtype, torch.float32)
    surprise = torch.where(share > 0.5, -torch.log1p(-rest.to(wide)), -share.to(wide).log())
    lost = share < torch.finfo(wide).tiny
    # Asking costs a CPU less than doing it in vain; a GPU would have to finish its work first.
    if lost.device.type == "cpu" and not torch.compiler.is_compiling() and not lost.any():
        return surprise
    by_logits = best.to(wide) - chosen.to(wide) - shares.amax(1).to(wide).log()
    return torch.where(lost, by_logits, surprise)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of `hidden @ weight.T + bias` against `labels`, and the share predicted right.

    A target that another entry draws level with, to the logits' precision, counts as predicted right.

    Args:
        hidden: [N, d] head outputs at labelled positions only.
        weight: [|V|, d].
        bias: [|V|].
        labels: [N] token ids.
    """
    if not len(labels):
        return hidden.sum() * 0.0, torch.zeros((), device=hidden.device)
    loss, correct = _LinearCrossEntropy.apply(hidden, weight, bias, labels)  # type: ignore[no-untyped-call]
    return loss, correct / len(labels)


def text_maxima(backbone: Backbone, hidden: Tensor, kept: Tensor, terms: Tensor | None = None) -> Tensor:
    """mu: for every text and vocabulary entry the largest logit over the kept positions.

    Args:
        hidden: [B, L, d] final states.
        kept: bool [B, L]; a text that keeps none is read at [CLS], so that it has a maximum.
        terms: int64 [C], the vocabulary entries that are wanted; None: all.

    Returns:
        [B, |V|] or [B, C], float32 (float64 for float64 states). DupMAE, equation 8.
    """
    kept = kept.clone()
    kept[:, 0] |= ~kept.any(1)
    weight, bias = backbone.output if terms is None else (part[terms] for part in backbone.output)
    if _chunks(hidden).padded:
        states = backbone.transform(hidden).flatten(0, 1)
        return padded_vocabulary_max(states, weight, bias, padded_places(kept))
    offsets = [0, *kept.sum(1).cumsum(0).tolist()]
    return vocabulary_max(backbone.transform(hidden[kept]), weight, bias, offsets)


def padded_places(kept: Tensor) -> Tensor:
    """Where in the flattened batch each text's kept positions stand, in order, the last one repeated; int64 [B, L]."""
    rows, length = kept.shape
    order = kept.byte().argsort(dim=1, descending=True, stable=True)
    last = kept.sum(1, keepdim=True) - 1
    inside = order.gather(1, torch.arange(length, device=kept.device).minimum(last))
    return inside + torch.arange(rows, device=kept.device)[:, None] * length


def _maximum(logits: Tensor, offsets: list[int]) -> tuple[Tensor, Tensor]:
    """Maxima [B, C] and their positions inside each sequence [B, C] of logits [T, C].

    bfloat16 widens to float32 with 16 zero bits: the position is written there, so that one plain
    maximum (3 to 8 times faster than torch.max with indices on a CPU) carries its own index.
    """
    lengths = [end - start for start, end in pairwise(offsets)]
    if logits.dtype != torch.bfloat16 or max(lengths) > 0xFFFF:
        best = [logits[start:end].max(0) for start, end in pairwise(offsets)]
        return torch.stack([b.values for b in best]), torch.stack([b.indices for b in best])
    packed = logits.float()
    places = torch.cat([torch.arange(length, dtype=torch.int32) for length in lengths])
    packed.view(torch.int32).bitwise_or_(places[:, None])
    best_bits = _largest(packed, offsets).view(torch.int32)
    return (best_bits & -0x10000).view(torch.float32), (best_bits & 0xFFFF).long()


def _largest(logits: Tensor, offsets: list[int]) -> Tensor:
    """Maxima of each sequence, [B, C]."""
    return torch.stack([logits[start:end].amax(0) for start, end in pairwise(offsets)])


def _slices(weight: Tensor, columns: int) -> Iterator[slice]:
    return (slice(start, start + columns) for start in range(0, len(weight), columns))


class _VocabularyMax(torch.autograd.Function):
    """Segment-wise maximum over positions of the vocabulary logits; backward touches only the winners."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, offsets: list[int]) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        shape = (len(offsets) - 1, len(weight))
        maxima = torch.empty(shape, dtype=wide, device=hidden.device)
        winners = torch.empty(shape, dtype=torch.int32, device=hidden.device)
        base = torch.tensor(offsets[:-1], device=hidden.device)[:, None]
        for part in _slices(weight, _chunks(hidden).columns):
            values, places = _maximum(hidden @ weight[part].T, offsets)
            maxima[:, part] = values
            winners[:, part] = (places + base).int()
        ctx.save_for_backward(hidden, weight, winners)
        return maxima.add_(bias.to(wide))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, winners = ctx.saved_tensors
        grad_hidden, grad_weight = _give_to_winners(grads[0], hidden, weight, winners)
        return grad_hidden, grad_weight, grads[0].sum(0).to(weight.dtype), None


def _give_to_winners(grad: Tensor, hidden: Tensor, weight: Tensor, winners: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sums over the winning (position, entry) pairs alone: of weight rows by position, of states by entry."""
    columns, rows = grad.T.nonzero(as_tuple=True)
    places, values = winners[rows, columns].long(), grad[rows, columns].to(hidden.dtype)
    grad_weight = _weighted_sums(hidden, places, values, columns, len(weight))
    by_place = places.int().sort().indices
    grad_hidden = _weighted_sums(weight, columns[by_place], values[by_place], places[by_place], len(hidden))
    return grad_hidden, grad_weight


def _weighted_sums(table: Tensor, chosen: Tensor, factors: Tensor, groups: Tensor, count: int) -> Tensor:
    """Sum of factor x table[chosen] by group, [count, d]; `groups` is sorted."""
    starts = torch.zeros(count, dtype=torch.long, device=table.device)
    starts[1:] = torch.bincount(groups, minlength=count)[:-1].cumsum(0)
    return F.embedding_bag(chosen, table, starts, mode="sum", per_sample_weights=factors)


class _PaddedVocabularyMax(torch.autograd.Function):
    """The same for texts of one length: whole products and reductions, nothing that a GPU has to be waited for."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, places: Tensor) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        shape = (len(places), len(weight))
        maxima = torch.empty(shape, dtype=wide, device=hidden.device)
        winners = torch.empty(shape, dtype=torch.int32, device=hidden.device)
        texts = hidden[places]
        for part in _slices(weight, _columns(places)):
            best = (texts @ weight[part].T).max(1)
            maxima[:, part] = best.values
            winners[:, part] = places.gather(1, best.indices).int()
        ctx.save_for_backward(hidden, weight, winners)
        ctx.columns = _columns(places)
        return maxima.add_(bias.to(wide))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, winners = ctx.saved_tensors
        grad_hidden, grad_weight = _give_by_products(grads[0], hidden, weight, winners, ctx.columns)
        return grad_hidden, grad_weight, grads[0].sum(0).to(weight.dtype), None


def _columns(places: Tensor) -> int:
    chunks = _chunks(places)
    return max(chunks.columns, chunks.logits // places.numel())


def _give_by_products(
    grad: Tensor, hidden: Tensor, weight: Tensor, winners: Tensor, columns: int
) -> tuple[Tensor, Tensor]:
    """What `_give_to_winners` gives, by products with a matrix that is zero but at the winners: no sort and no wait.

    No position wins an entry for two texts, so nothing is summed in an order of its own.
    """
    wide = torch.promote_types(hidden.dtype, torch.float32)
    grad_hidden = torch.zeros(hidden.shape, dtype=wide, device=hidden.device)
    grad_weight = torch.empty_like(weight)
    for part in _slices(weight, columns):
        given = hidden.new_zeros(len(hidden), weight[part].shape[0])
        given.scatter_(0, winners[:, part].long(), grad[:, part].to(hidden.dtype))
        grad_hidden += given @ weight[part]
        torch.mm(given.T, hidden, out=grad_weight[part])
    return grad_hidden.to(hidden.dtype), grad_weight


def vocabulary_max(hidden: Tensor, weight: Tensor, bias: Tensor, offsets: list[int]) -> Tensor:
    """mu: for every sequence and vocabulary entry the largest logit over the sequence's positions.

    Args:
        hidden: [T, d] head outputs of the kept positions of all sequences, one after another.
        weight: [|V|, d].
        bias: [|V|].
        offsets: B + 1 bounds; sequence b is hidden[offsets[b] : offsets[b + 1]]. No sequence may be empty.

    Returns:
        [B, |V|], float32 (float64 for float64 input). DupMAE, equation 8.
    """
    if any(end <= start for start, end in pairwise(offsets)):
        raise ValueError("vocabulary_max: every sequence needs at least one position")
    if not torch.is_grad_enabled():
        return _maxima_only(hidden, weight, bias, offsets)
    result: Tensor = _VocabularyMax.apply(hidden, weight, bias, offsets)  # type: ignore[no-untyped-call]
    return result


def _maxima_only(hidden: Tensor, weight: Tensor, bias: Tensor, offsets: list[int]) -> Tensor:
    """The maxima without their positions, for inference."""
    parts = _slices(weight, _chunks(hidden).columns)
    best = [_largest(hidden @ weight[part].T, offsets) for part in parts]
    return torch.cat(best, 1).to(torch.promote_types(hidden.dtype, torch.float32)).add_(bias)


def padded_vocabulary_max(hidden: Tensor, weight: Tensor, bias: Tensor, places: Tensor) -> Tensor:
    """The same as `vocabulary_max` for [T, d] states of which text b has those at `places[b]`; places int64 [B, L]."""
    if torch.is_grad_enabled():
        result: Tensor = _PaddedVocabularyMax.apply(hidden, weight, bias, places)  # type: ignore[no-untyped-call]
        return result
    texts = hidden[places]
    best = [(texts @ weight[part].T).amax(1) for part in _slices(weight, _columns(places))]
    return torch.cat(best, 1).to(torch.promote_types(hidden.dtype, torch.float32)).add_(bias)


def bag_of_words_loss(maxima: Tensor, input_ids: Tensor, counted: Tensor, weights: Tensor) -> Tensor:
    """-sum of weight x log softmax(mu)[x] over a text's distinct tokens, averaged over texts (DupMAE, equation 9).

    Args:
        maxima: [B, |V|] from `text_maxima`.
        input_ids: int64 [B, L].
        counted: bool [B, L]; the positions whose tokens are targets.
        weights: [B], of each of a text's targets.
    """
    ids = input_ids.masked_fill(~counted, -1).sort(1).values
    # Equal ones stand side by side, and the first of them counts.
    first = ids > F.pad(ids[:, :-1], (1, 0), value=-1)
    surprise = maxima.logsumexp(1, keepdim=True) - maxima.gather(1, ids.clamp(min=0))
    return ((surprise * first).sum(1) * weights).sum() / len(maxima)
