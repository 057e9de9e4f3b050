"""`DuplexMAE` equals the loops: every loss term, and the gradient of every parameter, for every family."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dupmae.nn.backbone import Backbone
from dupmae.nn.decoder import DecoderLayer
from dupmae.nn.objectives import Batch, Draws, DuplexMAE
from dupmae.nn.randomness import RowRandom
from dupmae.settings import Masking, Objective
from tests.reference import objectives as reference
from tests.reference.tiny import KINDS, MASK, random_batch, randomise, tiny_model

LENGTHS = [11, 6, 8]
VARIANTS = {
    "mlm": {"kind": "mlm"},
    "retromae": {"kind": "retromae"},
    "basic": {"kind": "retromae", "decoder": "basic"},
    "dupmae": {"kind": "dupmae"},
    "author": {"kind": "dupmae", "bow": "author", "decoder_queries": "embedded"},
    "weighted": {"kind": "dupmae", "mlm_weight": 0.5, "decoder_weight": 2.0, "bow_weight": 0.1},
}


def built(kind: str, variant: str, dtype: torch.dtype = torch.float64) -> tuple[DuplexMAE, Batch, Draws]:
    torch.manual_seed(1)
    objective = Objective.model_validate(VARIANTS[variant])
    masking = Masking(encoder_rate=0.3)
    model = DuplexMAE(Backbone(tiny_model(kind)), objective, masking, mask_id=MASK, seed=3)
    if model.decoder is not None:
        randomise(model.decoder)
    model = model.to(dtype).eval()
    batch = Batch(**random_batch(kind, LENGTHS, 0))
    return model, batch, model.draw(batch, 11)


def texts_of(batch: Batch, draws: Draws) -> list[dict[str, Any]]:
    """The batch as unpadded lists, which is how the reference reads it."""
    texts = []
    for row, length in enumerate(LENGTHS):
        text: dict[str, Any] = {
            "ids": batch.input_ids[row, :length].tolist(),
            "ordinary": (batch.valid & ~batch.special)[row, :length].tolist(),
            "masked": draws.masked[row, :length].tolist(),
            "corrupted": draws.corrupted[row, :length].tolist(),
            "mask_id": MASK,
        }
        if draws.visible is not None:
            text["visible"] = draws.visible[row, :length, :length].tolist()
        if draws.decoder_masked is not None:
            text["decoder_masked"] = draws.decoder_masked[row, :length].tolist()
        texts.append(text)
    return texts


def expected_terms(model: DuplexMAE, batch: Batch, draws: Draws) -> dict[str, Tensor]:
    settings = model.objective
    terms = reference.duplex_terms(
        reference.Model(model.backbone.lm),
        None if model.decoder is None else dict(model.decoder.named_parameters()),
        texts_of(batch, draws),
        kind=settings.kind,
        decoding=settings.decoder,
        queries=settings.decoder_queries,
        bow=settings.bow,
    )
    weights = {"mlm": settings.mlm_weight, "decoder": settings.decoder_weight, "bow": settings.bow_weight}
    total = sum((weights[name] * value for name, value in terms.items()), torch.zeros((), dtype=terms["mlm"].dtype))
    return {"loss": total, **terms}


def check(kind: str, variant: str, dtype: torch.dtype, tolerance: float) -> None:
    model, batch, draws = built(kind, variant, dtype)
    found, expected = model(batch, draws), expected_terms(model, batch, draws)
    assert {name for name in found if "accuracy" not in name} == set(expected)
    close = {"rtol": tolerance, "atol": tolerance}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **close)
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours = torch.autograd.grad(found["loss"], parameters, allow_unused=True)
    theirs = torch.autograd.grad(expected["loss"], parameters, allow_unused=True)
    for name, mine, other in zip(names, ours, theirs, strict=True):
        zero = torch.zeros(())
        mine, other = (zero if gradient is None else gradient for gradient in (mine, other))
        torch.testing.assert_close(mine, other, **close, check_device=False, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", KINDS)
def test_terms_and_gradients_in_float64(kind: str, variant: str) -> None:
    if (kind, variant) == ("electra-narrow", "author"):
        pytest.skip("its embedding layer cannot hold the sentence")
    check(kind, variant, torch.float64, 1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_terms_and_gradients_in_float32(variant: str) -> None:
    check("bert", variant, torch.float32, 1e-5)


def test_accuracies_count_right_predictions() -> None:
    model, batch, draws = built("bert", "dupmae")
    hidden = model.backbone.hidden(draws.corrupted, batch.valid)
    predicted = model.backbone.lm.cls(hidden).argmax(-1)
    right = (predicted == batch.input_ids)[draws.masked].double().mean()
    assert float(model(batch, draws)["mlm_accuracy"]) == pytest.approx(float(right))


@pytest.mark.parametrize("seed", range(5))
def test_decoder_layer_equals_the_loop(seed: int) -> None:
    torch.manual_seed(seed)
    lm = tiny_model("bert")
    layer = DecoderLayer(lm.config).double().eval()
    randomise(layer)
    queries, context = (torch.randn(1, 8, 16, dtype=torch.float64) for _ in range(2))
    visible = torch.rand(1, 8, 8) < 0.5
    visible[:, :, 0] = True
    expected = reference.enhanced_decoding(
        context[0, 0],
        list(context[0]),
        list(queries[0]),
        visible[0].tolist(),
        dict(layer.named_parameters()),
        2,
        lm.config.layer_norm_eps,
    )
    torch.testing.assert_close(layer(queries, context, visible)[0], torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_a_hidden_token_does_not_reach_its_own_row() -> None:
    """Changing a token's embedding changes other decoder rows, never its own."""
    model, _, draws = built("bert", "retromae")
    assert draws.visible is not None
    assert model.decoder is not None
    context = torch.randn(3, 11, 16, dtype=torch.float64, requires_grad=True)
    queries = torch.randn(3, 11, 16, dtype=torch.float64)
    states = model.decoder(queries, context, draws.visible)
    for row in range(1, 11):
        gradient = torch.autograd.grad(states[0, row].sum() + states[0, row, 0], context, retain_graph=True)[0]
        assert not gradient[0, row].any()
        assert gradient[0].any(1).equal(draws.visible[0, row])


def test_text_without_ordinary_tokens_gives_finite_terms() -> None:
    model, batch, _ = built("bert", "dupmae")
    batch = Batch(batch.input_ids, batch.word_starts, torch.ones_like(batch.special), batch.valid)
    terms = model(batch, model.draw(batch, 0))
    assert [terms[name].item() for name in ("mlm", "decoder", "bow")] == [0, 0, 0]


def test_draws_depend_on_seed_and_step_alone() -> None:
    model, batch, draws = built("bert", "dupmae")
    again, other = model.draw(batch, 11), model.draw(batch, 12)
    assert draws.visible is not None
    assert again.corrupted.equal(draws.corrupted)
    assert again.visible is not None
    assert again.visible.equal(draws.visible)
    assert not other.masked.equal(draws.masked)


def test_a_text_of_one_word_is_not_masked_and_still_decoded() -> None:
    """Masked whole, its token would have to be told from nothing."""
    model, _, _ = built("bert", "dupmae")
    batch = Batch(**random_batch("bert", [3, 9], 0))
    draws = model.draw(batch, 0)
    assert draws.masked.any(1).tolist() == [False, True]
    assert draws.decoded is not None
    assert draws.decoded.tolist()[0] == 1


def test_the_thread_that_makes_batches_draws_what_the_step_would() -> None:
    for variant in VARIANTS:
        model, _, draws = built("bert", variant)
        item = random_batch("bert", LENGTHS, 0) | {"step": torch.tensor(11), "rows": torch.arange(3)}
        given, drawn = model.arguments(model.add_draws(item))
        assert given.padded
        for name, value in vars(draws).items():
            other = getattr(drawn, name)
            assert value is other is None or value.equal(other)


def test_without_padding_no_mask_is_needed() -> None:
    model, _, _ = built("bert", "dupmae")
    item = random_batch("bert", [7, 7], 0) | {"step": torch.tensor(2), "rows": torch.arange(2)}
    batch, draws = model.arguments(model.add_draws(item))
    assert not batch.padded
    torch.testing.assert_close(model(batch, draws), model(replace(batch, padded=True), draws))


def test_every_mask_has_random_bits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams of a row may not meet: the decoder would see what the encoder saw, and 10% would follow the mask."""
    used: list[int] = []
    original = RowRandom.bits

    def bits(random: RowRandom, stream: int, places: Tensor) -> Tensor:
        used.append(stream)
        return original(random, stream, places)

    monkeypatch.setattr(RowRandom, "bits", bits)
    for variant in ("basic", "dupmae"):
        model, batch, _ = built("bert", variant)
        used.clear()
        model.draw(batch, 0)
        assert len(used) == len(set(used)) == 3


def test_what_replaces_a_token_does_not_follow_from_its_mask() -> None:
    """Words are masked in the order of their keys: a draw from the same bits would keep none as they are."""
    model, _, _ = built("bert", "mlm")
    batch = Batch(**random_batch("bert", [22] * 400, 0))
    batch = replace(batch, word_starts=batch.valid)
    draws = model.draw(batch, 0)
    kept = (draws.corrupted == batch.input_ids)[draws.masked].double().mean()
    to_mask = (draws.corrupted == MASK)[draws.masked].double().mean()
    assert float(kept) == pytest.approx(0.1, abs=0.03)
    assert float(to_mask) == pytest.approx(0.8, abs=0.03)


def test_both_decoders_masks_are_independent_of_the_encoders() -> None:
    model, _, _ = built("bert", "basic")
    batch = Batch(**random_batch("bert", [42] * 200, 0))
    draws = model.draw(batch, 0)
    assert draws.decoder_masked is not None
    ordinary = batch.valid & ~batch.special
    rate = float(draws.decoder_masked[ordinary].double().mean())
    assert float(draws.decoder_masked[draws.masked].double().mean()) == pytest.approx(rate, abs=0.03)


@pytest.mark.parametrize("kind", ["mlm", "retromae", "dupmae"])
def test_the_naive_step_of_the_benchmark_is_the_same_loss(kind: str) -> None:
    """Both draw their own masks, so means over many draws are compared."""
    torch.manual_seed(0)
    masking = Masking(corruption=True)
    model = DuplexMAE(Backbone(tiny_model("bert")), Objective(kind=kind), masking, mask_id=MASK, seed=0).double().eval()
    given = random_batch("bert", [12] * 16, 0)
    source = random.Random(0)
    with torch.no_grad():
        ours = [float(model(Batch(**given), model.draw(Batch(**given), step))["loss"]) for step in range(60)]
        naive = [
            float(reference.naive_step(model.backbone.lm, model.decoder, given, kind=kind, mask_id=MASK, source=source))
            for _ in range(60)
        ]
    spread = float(np.hypot(np.std(ours), np.std(naive))) / 60**0.5
    assert abs(np.mean(ours) - np.mean(naive)) < 4 * spread
