"""Layers packed for inference do what they did."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dupmae.nn.backbone import Backbone
from dupmae.nn.cpu.packed import PackedLinear, can_pack, pack
from tests.reference.tiny import KINDS, random_batch, tiny_model

pytestmark = pytest.mark.skipif(not can_pack(), reason="oneDNN has no bfloat16 here")


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_with_and_without_gelu(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(24, 40, bias=bias).bfloat16()
    states = torch.randn(2, rows, 24).bfloat16()
    with torch.inference_mode():
        wanted = linear(states)
        assert torch.allclose(PackedLinear(linear)(states), wanted, atol=0.02)
        assert torch.allclose(PackedLinear(linear, gelu=True)(states), nn.functional.gelu(wanted), atol=0.02)


@pytest.mark.parametrize("family", KINDS)
def test_a_backbone_has_the_same_states(family: str) -> None:
    torch.manual_seed(0)
    plain = Backbone(tiny_model(family)).bfloat16().eval()
    packed = copy.deepcopy(plain)
    pack(packed.lm.base_model)
    layers = [module for module in packed.lm.base_model.modules() if isinstance(module, (nn.Linear, PackedLinear))]
    assert layers
    assert all(isinstance(layer, PackedLinear) for layer in layers)
    batch = random_batch(family, [9, 5, 12], seed=1)
    with torch.inference_mode():
        wanted, found = (model.hidden(batch["input_ids"], batch["valid"]).float() for model in (plain, packed))
    kept = batch["valid"]
    assert torch.nn.functional.cosine_similarity(found[kept], wanted[kept], dim=-1).min() > 0.999


def test_full_precision_is_left_alone() -> None:
    layer = nn.Sequential(nn.Linear(4, 4))
    pack(layer)
    assert isinstance(layer[0], nn.Linear)
