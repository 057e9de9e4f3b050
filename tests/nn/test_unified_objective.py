"""The joint objective equals the loops in float64: every term, and the gradient of every parameter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dupmae.nn.objectives import Batch, Draws
from dupmae.nn.unified import UnifiedObjective
from dupmae.settings import Contrastive
from tests.nn.test_objectives import built, expected_terms
from tests.reference import objectives as reference
from tests.reference.tiny import random_batch
from tests.reference.unified import contrastive

QUERIES, PASSAGES = [5, 9, 4], [12, 7, 10, 3, 8, 6]
WEIGHT = 0.7
KINDS: dict[str, dict[str, Any]] = {
    "cosine": {},
    "dot": {"similarity": "dot", "temperature": 2.0},
    "mean": {"pooling": "mean", "temperature": 0.5},
    "chunks": {"chunk_size": 2, "temperature": 0.5},
}


def pairs() -> dict[str, Tensor]:
    """Three queries; the second's positive stands twice, and the third has two positives."""
    item: dict[str, Tensor] = {}
    for name, lengths, seed in (("query", QUERIES, 5), ("passage", PASSAGES, 6)):
        found = random_batch("bert", lengths, seed)
        item |= {
            f"{name}_ids": found["input_ids"],
            f"{name}_valid": found["valid"],
            f"{name}_special": found["special"],
        }
    ignored = torch.zeros(3, 6, dtype=torch.bool)
    ignored[1, 4] = ignored[2, 0] = True
    return item | {"targets": torch.tensor([0, 1, 2]), "ignored": ignored, "start": torch.tensor(0)}


def joint(variant: str, **settings: Any) -> tuple[UnifiedObjective, tuple[Batch, Draws]]:
    inner, batch, draws = built("bert", variant)
    model = UnifiedObjective(inner, torch.float32, Contrastive.model_validate({"data": "pairs.jsonl", **settings}))
    return model.double().eval(), (batch, draws)


def expected_contrastive(model: UnifiedObjective, item: dict[str, Tensor], **settings: Any) -> Tensor:
    texts = [
        [ids[:length].tolist() for ids, length in zip(item[f"{name}_ids"], lengths, strict=True)]
        for name, lengths in (("query", QUERIES), ("passage", PASSAGES))
    ]
    return contrastive(
        reference.Model(model.inner.backbone.lm),
        *texts,
        item["targets"].tolist(),
        item["ignored"].tolist(),
        pooling=settings.get("pooling", "cls"),
        kind=settings.get("similarity", "cosine"),
        temperature=settings.get("temperature", 0.05),
    )


@pytest.mark.parametrize("variant", ["retromae", "dupmae"])
@pytest.mark.parametrize("kind", KINDS)
def test_terms_and_gradients_in_float64(kind: str, variant: str) -> None:
    model, texts = joint(variant, **KINDS[kind])
    item = pairs()
    scale = -torch.tensor(KINDS[kind].get("temperature", 0.05), dtype=torch.float64).log()
    scales = model.contrastive.encoder.log_scales
    torch.testing.assert_close(scales[0].data, scale, rtol=1e-6, atol=1e-6)
    # It was rounded to float32 when the model was built.
    torch.nn.init.constant_(scales, scale)
    found = model(texts, item)
    expected = expected_terms(model.inner, *texts) | {"contrastive": expected_contrastive(model, item, **KINDS[kind])}
    expected["total"] = expected["loss"] + WEIGHT * expected["contrastive"]
    found["total"] = found["loss"] + WEIGHT * found["contrastive"]
    assert {name for name in found if "accuracy" not in name} == set(expected)
    close = {"rtol": 1e-10, "atol": 1e-10}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **close)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    ours = torch.autograd.grad(found["total"], list(trained.values()), allow_unused=True)
    theirs = torch.autograd.grad(expected["total"], list(trained.values()), allow_unused=True)
    for name, mine, other in zip(trained, ours, theirs, strict=True):
        zero = torch.zeros((), dtype=torch.float64)
        mine, other = (zero if gradient is None else gradient for gradient in (mine, other))
        torch.testing.assert_close(mine, other, **close, msg=lambda text, name=name: name + text)
    assert not [name for name in trained if not name.startswith("inner.")]


def test_a_step_may_lack_either_kind() -> None:
    model, texts = joint("retromae")
    item = pairs()
    assert set(model(texts, None)) == {"loss", "mlm", "mlm_accuracy", "decoder", "decoder_accuracy"}
    assert set(model(None, item)) == {"contrastive", "contrastive_accuracy"}
    both = model(texts, item)
    for alone in (model(texts, None), model(None, item)):
        for name, value in alone.items():
            assert both[name].equal(value)
    counts = model.counts(texts, item)
    assert set(counts) == set(both) - {"loss"}
    assert int(counts["contrastive"]) == 3
