"""The hybrid vector, its score and InfoNCE equal the loops, values and gradients."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dupmae.nn.backbone import Backbone
from dupmae.nn.contrastive import ContrastiveObjective, best_scales, contrastive_terms, info_nce, loss_weights
from dupmae.nn.gradient_cache import by_length
from dupmae.nn.representation import Counts, HybridEncoder, Texts, Vectors
from dupmae.settings import Representation
from tests.reference import representation as reference
from tests.reference.objectives import Model
from tests.reference.tiny import KINDS, random_batch, tiny_model

CLOSE = {"rtol": 1e-10, "atol": 1e-10}
LENGTHS = [9, 5, 7]


def built(family: str = "bert", dtype: torch.dtype = torch.float64, **settings: Any) -> HybridEncoder:
    torch.manual_seed(0)
    chosen = Representation.model_validate({"dimensions": 6, "top_k": 8, **settings})
    encoder = HybridEncoder(Backbone(tiny_model(family)), chosen).to(dtype).eval()
    with torch.no_grad():
        encoder.term_weights.add_(torch.randn_like(encoder.term_weights))
        encoder.threshold.fill_(0.3)
        encoder.log_scales.copy_(torch.tensor([0.4, -0.7]))
    return encoder


def encode(encoder: HybridEncoder, lengths: list[int], seed: int, family: str = "bert") -> Vectors:
    batch = random_batch(family, lengths, seed)
    return encoder(Texts(batch["input_ids"], batch["valid"], batch["special"]))


def reference_vectors(
    encoder: HybridEncoder, lengths: list[int], seed: int, family: str
) -> list[tuple[Tensor, Tensor]]:
    """Dense and sparse vector of every text by itself, without padding."""
    model, batch, settings = Model(encoder.backbone.lm), random_batch(family, lengths, seed), encoder.settings
    vectors = []
    for row, length in enumerate(lengths):
        states = model.states(batch["input_ids"][row, :length].tolist())
        read = states[0] if settings.pooling == "cls" else torch.stack([state / length for state in states]).sum(0)
        dense = reference.matrix_vector(encoder.projection.weight, read)
        if settings.normalize:
            dense = dense / torch.sqrt((dense * dense).sum())
        usual = [position for position in range(length) if not batch["special"][row, position]]
        sparse = reference.activated(
            reference.maxima([model.logits(states[position]) for position in usual]),
            threshold=encoder.threshold,
            weights=encoder.term_weights,
            logarithm=settings.activation == "log1p_relu",
        )
        vectors.append((dense, sparse))
    return vectors


VARIANTS: list[dict[str, Any]] = [
    {},
    {"activation": "relu", "pooling": "mean", "normalize": True},
    {"top_k": 3},
    {"top_k": 50},
]


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("family", KINDS)
def test_vectors_scores_and_gradients(family: str, settings: dict[str, Any]) -> None:
    encoder = built(family, **settings)
    queries, passages = encode(encoder, [4, 6], 1, family), encode(encoder, LENGTHS, 2, family)
    dense, sparse = encoder.scores(queries, passages)
    assert dense is not None
    assert sparse is not None
    left = reference_vectors(encoder, [4, 6], 1, family)
    right = reference_vectors(encoder, LENGTHS, 2, family)
    scales = encoder.log_scales.exp()
    wanted_dense = torch.stack(
        [torch.stack([reference.dense_share(q[0], p[0], scales[0]) for p in right]) for q in left]
    )
    wanted_sparse = torch.stack(
        [
            torch.stack([reference.sparse_share(q[1], p[1], encoder.settings.top_k, scales[1]) for p in right])
            for q in left
        ]
    )
    torch.testing.assert_close(dense, wanted_dense, **CLOSE)
    torch.testing.assert_close(sparse, wanted_sparse, **CLOSE)
    factors = torch.randn(2, 3, dtype=torch.float64)
    names, parameters = zip(*encoder.named_parameters(), strict=True)
    found = torch.autograd.grad(((dense + sparse) * factors).sum(), parameters, allow_unused=True)
    wanted = torch.autograd.grad(((wanted_dense + wanted_sparse) * factors).sum(), parameters, allow_unused=True)
    for name, mine, other in zip(names, found, wanted, strict=True):
        assert (mine is None) == (other is None), name
        if mine is not None:
            torch.testing.assert_close(mine, other, **CLOSE, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("kind", ["cls", "bow"])
def test_one_part_alone(kind: str) -> None:
    encoder = built(kind=kind)
    vectors = encode(encoder, LENGTHS, 0)
    assert (vectors.dense is None) == (kind == "bow")
    assert (vectors.sparse is None) == (kind == "cls")
    shares = encoder.scores(vectors, vectors)
    assert [share is None for share in shares] == [vectors.dense is None, vectors.sparse is None]
    assert encoder.searched_width == (6 if kind == "cls" else 0)


def test_passages_keep_their_largest_terms() -> None:
    encoder = built(top_k=5)
    values = torch.rand(4, 50, dtype=torch.float64)
    kept = encoder.cut(Vectors(None, values))
    assert kept.sparse is not None
    assert kept.terms is not None
    for row in range(4):
        assert set(kept.terms[row].tolist()) == reference.largest(values[row], 5)
        assert kept.sparse[row].equal(values[row][kept.terms[row]])
    assert encoder.cut(kept) is kept


def test_text_without_ordinary_tokens_is_read_at_cls() -> None:
    encoder = built()
    batch = random_batch("bert", [5, 2], 0)
    vectors = encoder(Texts(batch["input_ids"], batch["valid"], batch["special"]))
    model = Model(encoder.backbone.lm)
    mu = model.logits(model.states(batch["input_ids"][1, :2].tolist())[0])
    maxima = encoder.maxima(Texts(batch["input_ids"], batch["valid"], batch["special"]))
    torch.testing.assert_close(maxima[1], mu, **CLOSE)
    assert vectors.sparse is not None
    assert torch.isfinite(vectors.sparse).all()


def test_groups_by_length_change_nothing() -> None:
    encoder = built()
    batch = random_batch("bert", [9, 3, 12, 5, 9], 0)
    texts = Texts(batch["input_ids"], batch["valid"], batch["special"])
    whole = encoder(texts)
    for count in (1, 2, 4, 9):
        groups, back = by_length(texts, count)
        assert len(groups) == min(count, 5 if count == 9 else 3 if count == 4 else count)
        for part in ("dense", "sparse"):
            found = torch.cat([getattr(encoder(group), part) for group in groups])
            torch.testing.assert_close(found if back is None else found[back], getattr(whole, part), **CLOSE)


def listed(*tensors: Tensor) -> Sequence[Any]:
    return [tensor.tolist() for tensor in tensors]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_info_nce_leaves_ignored_passages_out(dtype: torch.dtype, tolerance: float) -> None:
    scores = torch.randn(4, 9, dtype=dtype, requires_grad=True)
    targets, ignored = torch.tensor([0, 1, 2, 3]), torch.rand(4, 9) < 0.4
    ignored[torch.arange(4), targets] = False
    loss, accuracy = info_nce(scores, targets, ignored)
    assert float(loss.detach()) == pytest.approx(reference.info_nce(*listed(scores, targets, ignored)), rel=tolerance)
    gradient = torch.autograd.grad(loss, scores)[0]
    assert not gradient[ignored].any()
    shares = torch.zeros_like(gradient)
    for row in range(4):
        exponents = {c: scores[row, c].exp().item() for c in range(9) if not ignored[row, c]}
        for column, value in exponents.items():
            shares[row, column] = (value / sum(exponents.values()) - float(column == targets[row])) / 4
    torch.testing.assert_close(gradient, shares, rtol=tolerance, atol=tolerance)
    best = [max((c for c in range(9) if not ignored[r, c]), key=lambda c: scores[r, c].item()) for r in range(4)]
    assert float(accuracy) == pytest.approx(sum(b == t for b, t in zip(best, [0, 1, 2, 3], strict=True)) / 4)


def test_a_term_for_the_sum_and_each_part() -> None:
    dense, sparse = torch.randn(2, 3, 6, dtype=torch.float64)
    targets, ignored = torch.arange(3), torch.zeros(3, 6, dtype=torch.bool)
    terms = contrastive_terms([dense], sparse, targets, ignored)
    for name, scores in (("hybrid", dense + sparse), ("dense", dense), ("sparse", sparse)):
        assert float(terms[name]) == pytest.approx(reference.info_nce(*listed(scores, targets, ignored)))
    assert float(terms["accuracy"]) == float(((dense + sparse).argmax(1) == targets).double().mean())
    assert contrastive_terms([], sparse, targets, ignored).keys() == {"sparse", "accuracy"}
    assert contrastive_terms([dense], None, targets, ignored).keys() == {"dense", "accuracy"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"hybrid": 1.0, "dense": 0.25, "sparse": 0.25}),
        ({"kind": "aggregated"}, {"hybrid": 1.0, "dense": 0.25, "sparse": 0.25}),
        ({"kind": "cls"}, {"dense": 1.0}),
        ({"kind": "bow", "passage_flops": 0.5}, {"sparse": 1.0, "passage_flops": 0.5}),
    ],
)
def test_what_the_terms_count(settings: dict[str, Any], expected: dict[str, float]) -> None:
    assert loss_weights(Representation.model_validate(settings), 0.25) == expected


def item_of(queries: list[int], passages: list[int]) -> dict[str, Tensor]:
    batches = {"query": random_batch("bert", queries, 1), "passage": random_batch("bert", passages, 2)}
    names = {"ids": "input_ids", "valid": "valid", "special": "special"}
    item = {f"{side}_{name}": batch[key] for side, batch in batches.items() for name, key in names.items()}
    item["targets"], item["start"] = torch.arange(len(queries)), torch.tensor(0)
    item["ignored"] = torch.zeros(len(queries), len(passages), dtype=torch.bool)
    return item


def test_objective_scores_queries_against_every_passage() -> None:
    encoder = built()
    item = item_of([4, 6], [9, 5, 7, 8])
    dense, sparse = encoder.scores(encode(encoder, [4, 6], 1), encode(encoder, [9, 5, 7, 8], 2))
    assert dense is not None
    found = ContrastiveObjective(encoder, torch.float32)(item)
    expected = contrastive_terms([dense], sparse, item["targets"], item["ignored"])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **CLOSE)


@pytest.mark.parametrize("normalize", [False, True])
def test_matryoshka_is_the_mean_over_the_widths(normalize: bool) -> None:
    encoder = built(matryoshka=[2, 4], normalize=normalize)
    item = item_of([4, 6], [9, 5, 7, 8])
    left = reference_vectors(encoder, [4, 6], 1, "bert")
    right = reference_vectors(encoder, [9, 5, 7, 8], 2, "bert")
    scales = encoder.log_scales.exp()
    losses: dict[str, list[float]] = {"dense": [], "hybrid": []}
    for width in (6, 2, 4):
        dense = [[reference.cut_share(q[0], p[0], width, scales[0], normalize).item() for p in right] for q in left]
        sparse = [[reference.sparse_share(q[1], p[1], 8, scales[1]).item() for p in right] for q in left]
        both = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(dense, sparse, strict=True)]
        for name, scores in (("dense", dense), ("hybrid", both)):
            losses[name].append(reference.info_nce(scores, *listed(item["targets"], item["ignored"])))
    found = ContrastiveObjective(encoder, torch.float32)(item)
    for name, values in losses.items():
        assert found[name].item() == pytest.approx(sum(values) / 3, rel=1e-10)


def test_flops_of_queries_and_passages_before_the_cut() -> None:
    encoder = built(query_flops=0.1, passage_flops=0.2, top_k=3)
    found = ContrastiveObjective(encoder, torch.float32)(item_of([4, 6], [9, 5, 7, 8]))
    for name, lengths, seed in (("query_flops", [4, 6], 1), ("passage_flops", [9, 5, 7, 8], 2)):
        vectors = [sparse.tolist() for _, sparse in reference_vectors(encoder, lengths, seed, "bert")]
        assert found[name].item() == pytest.approx(reference.flops(vectors), rel=1e-10)


def test_aggregated_vectors_give_the_score_as_one_product() -> None:
    encoder = built(kind="aggregated", aggregated_dimensions=7)
    queries, passages = encode(encoder, [4, 6], 1), encode(encoder, LENGTHS, 2)
    dense, sparse = encoder.scores(queries, passages)
    assert dense is not None
    assert sparse is not None
    left, right = (
        [reference.folded(vector.tolist(), 7) for _, vector in reference_vectors(encoder, lengths, seed, "bert")]
        for lengths, seed in (([4, 6], 1), (LENGTHS, 2))
    )
    scale = encoder.log_scales[1].exp().item()
    wanted = [[scale * sum(a * b for a, b in zip(q, p, strict=True)) for p in right] for q in left]
    torch.testing.assert_close(sparse, torch.tensor(wanted, dtype=torch.float64), **CLOSE)
    a, b = encoder.log_scales.detach().exp().tolist()
    searched, found = encoder.searched(queries, (a, b)), encoder.searched(passages)
    assert searched.sparse is None
    assert searched.dense is not None
    assert found.dense is not None
    assert searched.dense.shape[1] == encoder.searched_width == 13
    torch.testing.assert_close(searched.dense @ found.dense.T, (dense + sparse).float(), rtol=1e-5, atol=1e-5)


def test_untied_towers_part_ways() -> None:
    encoder = built(tied=False)
    encoder.query_backbone = copy.deepcopy(encoder.backbone)
    batch = random_batch("bert", LENGTHS, 0)
    given = batch["input_ids"], batch["valid"], batch["special"]
    with torch.no_grad():
        for parameter in encoder.query_backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    asked, found = encoder(Texts(*given), queries=True), encoder(Texts(*given))
    swapped = HybridEncoder(encoder.query_backbone, encoder.settings).double()
    swapped.load_state_dict(encoder.own_state(), strict=False)
    for part in ("dense", "sparse"):
        assert not getattr(asked, part).equal(getattr(found, part))
        torch.testing.assert_close(getattr(asked, part), getattr(swapped(Texts(*given)), part), **CLOSE)
    assert not any("backbone" in name for name in encoder.own_state())


def test_best_scales_beat_their_neighbours() -> None:
    torch.manual_seed(0)
    sign = torch.eye(16) * 4
    dense, sparse = 50 * (sign + 2 * torch.randn(16, 16)), 0.1 * (sign + 2 * torch.randn(16, 16))
    targets, ignored = torch.arange(16), torch.zeros(16, 16, dtype=torch.bool)

    def loss(a: float, b: float) -> float:
        return float(info_nce(a * dense + b * sparse, targets, ignored)[0])

    a, b = best_scales(dense, sparse, targets, ignored)
    assert loss(a, b) < min(loss(1, 1), loss(a * 4, b), loss(a, b * 4), loss(a / 4, b), loss(a, b / 4))
    assert best_scales(dense, None, targets, ignored)[1] == 1.0


def with_counts(lengths: list[int]) -> Texts:
    """A batch whose whole texts are longer than what the encoder reads."""
    batch = random_batch("bert", lengths, 3)
    ids = batch["input_ids"]
    terms = torch.stack([row.unique()[:3] if len(row.unique()) >= 3 else row[:3] for row in ids])
    times = torch.tensor([[2.0, 1.0, 5.0], [1.0, 1.0, 0.0]])[: len(ids)].double()
    return Texts(ids, batch["valid"], batch["special"], Counts(terms, times, torch.tensor([30.0, 12.0]).double()))


def test_what_is_counted_is_added_to_what_is_predicted() -> None:
    encoder = built(query_terms="input", top_k=50)
    encoder.mean_length.fill_(20.0)
    texts = with_counts([6, 5])
    assert texts.counts is not None
    both, predicted = encoder(texts).sparse, encoder(texts._replace(counts=None)).sparse
    expected = torch.zeros_like(predicted)
    for row, (terms, times, length) in enumerate(zip(*texts.counts, strict=True)):
        for term, count in zip(terms, times, strict=True):
            share = count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / 20))
            expected[row, term] += share * encoder.lexical_weight * encoder.term_weights[term].clamp(min=0)
    torch.testing.assert_close(both - predicted, expected, rtol=1e-6, atol=1e-6)
    # Queries never count.
    assert encoder(texts, True).sparse.equal(encoder(texts._replace(counts=None), True).sparse)


@pytest.mark.parametrize("kind", ["bow", "hybrid"])
def test_the_terms_that_are_wanted_are_those_of_all(kind: str) -> None:
    """Training scores the queries' terms alone: values and gradients are those of the whole vectors."""
    encoder = built(kind=kind, query_terms="input", top_k=10_000)
    passages, queries = with_counts([6, 5]), Texts(*list(with_counts([4, 6]))[:3])
    terms = queries.ids[queries.valid & ~queries.special].unique()
    found = []
    for wanted in (None, terms):
        encoder.zero_grad()
        asked, answers = encoder(queries, True, wanted), encoder(passages, False, wanted)
        scores = sum(share for share in encoder.scores(asked, answers) if share is not None)
        scores.square().sum().backward()
        found.append((scores.detach(), {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-6, atol=1e-8)
