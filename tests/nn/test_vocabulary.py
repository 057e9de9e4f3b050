"""The chunked vocabulary losses equal the plain ones, values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dupmae.nn import vocabulary
from dupmae.nn.backbone import Backbone
from dupmae.nn.vocabulary import (
    bag_of_words_loss,
    linear_cross_entropy,
    padded_vocabulary_max,
    text_maxima,
    vocabulary_max,
)
from tests.reference import objectives as reference
from tests.reference.tiny import random_batch, tiny_model

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
OFFSETS = [0, 3, 4, 9]


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Small chunks; the function makes others of them."""

    def change(**sizes: int) -> None:
        monkeypatch.setitem(vocabulary.CHUNKS, "cpu", replace(vocabulary.CHUNKS["cpu"], **sizes))

    change(tokens=4, columns=7, slice=5, logits=2**7)
    return change


def drawn(dtype: torch.dtype, tokens: int = 9, width: int = 6, size: int = 23, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((tokens, width), (size, width), (size,))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def gradients(loss: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(loss, inputs))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("chunk", [4, 9])
def test_linear_cross_entropy(dtype: torch.dtype, chunk: int, chunks: Callable[..., None]) -> None:
    chunks(tokens=chunk, logits=2**20)
    inputs = drawn(dtype)
    labels = torch.tensor([1, 5, 22, 0, 5, 9, 9, 17, 3])
    loss, accuracy = linear_cross_entropy(*inputs, labels)
    logits = [inputs[1] @ row + inputs[2] for row in inputs[0]]
    expected = reference.mean_cross_entropy(logits, labels.tolist())
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(loss, expected, **close)
    right = sum(int(row.argmax()) == int(label) for row, label in zip(logits, labels, strict=True))
    assert float(accuracy) == pytest.approx(right / 9)
    for found, wanted in zip(gradients(3 * loss, inputs), gradients(3 * expected, inputs), strict=True):
        torch.testing.assert_close(found, wanted, **close)


@pytest.mark.parametrize("gap", [4.0, 8.0, 12.0])
def test_confident_bfloat16_predictions_keep_loss_and_gradient(gap: float) -> None:
    hidden, weight, bias = torch.zeros(6, 2).bfloat16(), torch.zeros(23, 2).bfloat16(), torch.zeros(23).bfloat16()
    labels = torch.zeros(6, dtype=torch.long)
    bias[0] = gap
    inputs = [each.requires_grad_() for each in (hidden, weight, bias)]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    loss, _ = linear_cross_entropy(*inputs, labels)
    expected = F.cross_entropy(exact[0] @ exact[1].T + exact[2], labels)
    torch.testing.assert_close(loss.double(), expected, rtol=0.02, atol=0)
    found, wanted = gradients(loss, inputs)[2], gradients(expected, exact)[2]
    torch.testing.assert_close(found.double(), wanted, rtol=0.02, atol=0)


def test_cross_entropy_of_certain_predictions_is_finite() -> None:
    hidden, weight = torch.eye(3) * 200, torch.eye(3) * 200
    for labels, expected in (([0, 1, 2], 0.0), ([1, 2, 0], 40_000.0)):
        loss, _ = linear_cross_entropy(hidden.requires_grad_(), weight, torch.zeros(3), torch.tensor(labels))
        assert loss.item() == expected
        assert torch.isfinite(torch.autograd.grad(loss, hidden)[0]).all()


def test_chunks_are_cut_by_the_size_of_the_vocabulary(chunks: Callable[..., None]) -> None:
    inputs, labels = drawn(torch.float64), torch.arange(9)
    whole, _ = linear_cross_entropy(*inputs, labels)
    chunks(logits=2 * 23)
    cut, _ = linear_cross_entropy(*inputs, labels)
    for ours, theirs in zip(gradients(cut, inputs), gradients(whole, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [4, 9])
def test_bfloat16_gradients_stay_near_float32(chunk: int, chunks: Callable[..., None]) -> None:
    chunks(tokens=chunk, logits=2**20)
    exact, labels = drawn(torch.float32), torch.arange(9)
    rough = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    wanted = gradients(linear_cross_entropy(*exact, labels)[0], exact)
    for found, expected in zip(gradients(linear_cross_entropy(*rough, labels)[0], rough), wanted, strict=True):
        assert found.dtype == torch.bfloat16
        assert (found.float() - expected).norm() < 0.02 * expected.norm()


def test_no_label_gives_no_loss_and_no_gradient() -> None:
    inputs = drawn(torch.float32)
    loss, accuracy = linear_cross_entropy(inputs[0][:0], inputs[1], inputs[2], torch.zeros(0, dtype=torch.long))
    assert float(loss) == float(accuracy) == 0
    assert not torch.autograd.grad(loss, inputs[0])[0].any()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_vocabulary_max(dtype: torch.dtype) -> None:
    inputs = drawn(dtype)
    found = vocabulary_max(*inputs, OFFSETS)
    expected = torch.stack([(inputs[0][s:e] @ inputs[1].T + inputs[2]).amax(0) for s, e in pairwise(OFFSETS)])
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(found, expected, **close)
    factors = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    for ours, theirs in zip(gradients((found * factors).sum(), inputs), gradients((expected * factors).sum(), inputs)):  # noqa: B905
        torch.testing.assert_close(ours, theirs, **close)
    with torch.no_grad():
        torch.testing.assert_close(vocabulary_max(*inputs, OFFSETS), expected, **close)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_gradients_go_to_the_winners(share: float) -> None:
    hidden, weight, _ = (tensor.detach() for tensor in drawn(torch.float64))
    generator = torch.Generator().manual_seed(3)
    winners = torch.randint(0, 9, (3, 23), generator=generator, dtype=torch.int32)
    grad = torch.randn(3, 23, generator=generator, dtype=torch.float64)
    grad[torch.rand(3, 23, generator=generator) < share] = 0
    grad_hidden, grad_weight = torch.zeros_like(hidden), torch.zeros_like(weight)
    # Two sequences may not share a position, so each row draws its winners from its own.
    for row, (start, end) in enumerate(pairwise(OFFSETS)):
        winners[row] = start + winners[row] % (end - start)
        for column in range(23):
            grad_hidden[winners[row, column]] += grad[row, column] * weight[column]
            grad_weight[column] += grad[row, column] * hidden[winners[row, column]]
    found_hidden, found_weight = vocabulary._give_to_winners(grad, hidden, weight, winners)
    torch.testing.assert_close(found_hidden, grad_hidden, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_weight, grad_weight, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_bfloat16_maxima_are_exact_and_winners_true(sign: int) -> None:
    """Integers up to 255 keep products and sums exact in bfloat16, and make ties between positions common."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randint(-3, 4, (9, 6), generator=generator).bfloat16()
    weight = torch.randint(-3, 4, (23, 6), generator=generator).bfloat16()
    if sign:
        hidden, weight = hidden.abs() * sign, weight.abs()
    hidden.requires_grad_()
    weight.requires_grad_()
    logits = hidden.detach() @ weight.detach().T
    exact = hidden.detach().double() @ weight.detach().double().T
    assert logits.double().equal(exact)
    found = vocabulary_max(hidden, weight, torch.zeros(23).bfloat16(), OFFSETS)
    expected = torch.stack([logits[s:e].amax(0) for s, e in pairwise(OFFSETS)])
    assert found.dtype == torch.float32
    assert found.equal(expected.float())
    for row, (start, end) in enumerate(pairwise(OFFSETS)):
        for column in range(0, 23, 5):
            grad_hidden, grad_weight = torch.autograd.grad(found[row, column], [hidden, weight], retain_graph=True)
            winner = [p for p in range(start, end) if grad_weight[column].equal(hidden[p].detach())]
            assert any(logits[position, column] == expected[row, column] for position in winner)
            touched = grad_hidden.any(1).nonzero()[:, 0].tolist()
            if weight[column].any():
                assert len(touched) == 1
                assert logits[touched[0], column] == expected[row, column]
                assert start <= touched[0] < end


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_packed_maximum_of_any_bfloat16(scale: float) -> None:
    logits = (torch.randn(600, 40, generator=torch.Generator().manual_seed(0)) * scale).bfloat16()
    offsets = [0, 1, 255, 600]
    values, places = vocabulary._maximum(logits, offsets)
    for row, (start, end) in enumerate(pairwise(offsets)):
        assert values[row].equal(logits[start:end].amax(0).float())
        assert logits[start + places[row], torch.arange(40)].equal(logits[start:end].amax(0))


@pytest.mark.parametrize("length", [0x10000, 0x10001])
def test_packed_maximum_of_a_very_long_sequence(length: int) -> None:
    """Positions up to 65,535 fill the spare bits; one more takes the plain way."""
    logits = -torch.ones(length, 2).bfloat16()
    logits[-1, 0] = logits[40_000, 1] = 3
    values, places = vocabulary._maximum(logits, [0, length])
    assert values.tolist() == [[3, 3]]
    assert places.tolist() == [[length - 1, 40_000]]


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one position"):
        vocabulary_max(*drawn(torch.float32), [0, 3, 3, 9])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_bag_of_words_loss(dtype: torch.dtype) -> None:
    inputs = drawn(dtype)
    logits = [inputs[1] @ row + inputs[2] for row in inputs[0]]
    targets, weights = [[1, 4, 4], [0], [22, 7]], [1.0, 0.5, 0.25]
    expected = torch.stack(
        [
            reference.bag_of_words(logits[start:end], chosen, weight)
            for (start, end), chosen, weight in zip(pairwise(OFFSETS), targets, weights, strict=True)
        ]
    ).mean()
    ids = torch.tensor([[4, 1, 9, 4], [0, 9, 9, 3], [7, 9, 22, 9]])
    counted = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 0]]) > 0
    found = bag_of_words_loss(vocabulary_max(*inputs, OFFSETS), ids, counted, torch.tensor(weights, dtype=dtype))
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(found, expected, **close)
    for ours, theirs in zip(gradients(found, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, **close)


@pytest.mark.parametrize("dtype", [*TOLERANCE, torch.bfloat16])
def test_maxima_by_whole_products_are_those_of_ragged_ones(dtype: torch.dtype) -> None:
    """What a GPU does, here: values, gradients, and texts whose kept positions are not side by side."""
    inputs = drawn(dtype, tokens=15)
    kept = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]]) > 0
    places = vocabulary.padded_places(kept)
    assert places.tolist() == [[0, 2, 3, 3, 3], [7, 7, 7, 7, 7], [10, 11, 12, 13, 14]]
    ragged = [inputs[0][kept.flatten()], *inputs[1:]]
    found, expected = padded_vocabulary_max(*inputs, places), vocabulary_max(*ragged, OFFSETS)
    close = {"rtol": TOLERANCE.get(dtype, 0.02), "atol": TOLERANCE.get(dtype, 0.02)}
    torch.testing.assert_close(found, expected, **close)
    factors = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(found.dtype)
    for ours, theirs in zip(
        gradients((found * factors).sum(), inputs), gradients((expected * factors).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **close)
    with torch.no_grad():
        torch.testing.assert_close(padded_vocabulary_max(*inputs, places), expected, **close)


@pytest.mark.parametrize("terms", [None, torch.tensor([7, 30, 5])])
def test_texts_are_read_alike_as_on_a_gpu(
    terms: Tensor | None, chunks: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = Backbone(tiny_model("bert"))
    batch = random_batch("bert", [9, 5, 3], 0)
    kept = batch["valid"] & ~batch["special"]
    kept[2] = False
    hidden = backbone.hidden(batch["input_ids"], batch["valid"]).detach().requires_grad_()
    logits = backbone.output(backbone.transform(hidden))[..., slice(None) if terms is None else terms]
    expected = torch.stack([logits[0, kept[0]].amax(0), logits[1, kept[1]].amax(0), logits[2, 0]])
    for padded in (False, True):
        monkeypatch.setitem(vocabulary.CHUNKS, "cpu", replace(vocabulary.CHUNKS["cpu"], padded=padded))
        found = text_maxima(backbone, hidden, kept, terms)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        ours = torch.autograd.grad(found.sum(), hidden, retain_graph=True)[0]
        theirs = torch.autograd.grad(expected.sum(), hidden, retain_graph=True)[0]
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_low_precision_stays_close() -> None:
    """bfloat16 inputs: losses within the rounding of the logits, gradients within 2%."""
    inputs = drawn(torch.bfloat16, tokens=64, width=32, size=200)
    labels = torch.arange(64)
    loss, _ = linear_cross_entropy(*inputs, labels)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    expected = F.cross_entropy(exact[0] @ exact[1].T + exact[2], labels)
    assert float(loss) == pytest.approx(float(expected), rel=5e-3)
    for ours, theirs in zip(gradients(loss, inputs), gradients(expected, exact), strict=True):
        assert float((ours.double() - theirs).norm() / theirs.norm()) < 0.02
