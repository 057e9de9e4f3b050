"""A training step on a GPU waits for nothing but what it must: proven without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dupmae.nn.backbone import Backbone
from dupmae.nn.objectives import DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.settings import Masking, Objective
from tests.nn.waits import DEVICE, Waits
from tests.reference.tiny import KINDS, MASK, random_batch, tiny_model

VARIANTS: dict[str, dict[str, Any]] = {
    "mlm": {"kind": "mlm"},
    "retromae": {"kind": "retromae"},
    "basic": {"kind": "retromae", "decoder": "basic"},
    "dupmae": {"kind": "dupmae"},
    "author": {"kind": "dupmae", "bow": "author", "decoder_queries": "embedded"},
}


@pytest.mark.parametrize("lengths", [[12, 9, 11], [12, 12, 12]], ids=["padded", "whole"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_and_backward_wait_for_nothing(variant: str, lengths: list[int]) -> None:
    assert _waits("bert", variant, lengths) == []


# DeBERTa builds its buckets of distances from numbers.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("deberta")])
def test_backbones_without_padding_wait_for_nothing(kind: str) -> None:
    assert _waits(kind, "dupmae", [12, 12, 12]) == []


def _waits(kind: str, variant: str, lengths: list[int]) -> list[str]:
    backbone = Backbone(tiny_model(kind, dtype=torch.float32, dropout=0.1))
    objective = DuplexMAE(backbone, Objective(**VARIANTS[variant]), Masking(), mask_id=MASK, seed=0)
    item = random_batch(kind, lengths, 0) | {"step": torch.tensor(1), "rows": torch.arange(3)}
    item = objective.add_draws(item)
    # Tied weights part on the way to this device alone.
    objective.to(DEVICE).backbone.lm.tie_weights()
    model = LowPrecision(objective, torch.bfloat16).train()
    moved = {name: value.to(DEVICE) if value.dim() else value for name, value in item.items()}
    with Waits() as waits:
        model(*objective.arguments(moved))["loss"].backward()
    assert all(p.grad is None or p.grad.device.type == DEVICE for p in model.parameters())
    return waits.seen


def test_a_wait_is_seen() -> None:
    with Waits() as waits:
        there = torch.ones(3, device=DEVICE)
        bool(there.sum() > 0)
        there.sum().tolist()
        torch.tensor([1.0, 2.0], device=DEVICE)
        torch.ones(2).to(DEVICE)
    assert len(waits.seen) >= 3
    with pytest.raises(NotImplementedError):
        there.nonzero()
    with pytest.raises(RuntimeError):
        there + torch.ones(3)
