"""bfloat16 without autocast: same losses within rounding, gradients in float32, tied weights stay tied."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dupmae.nn.backbone import Backbone
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.representation import HybridEncoder
from dupmae.settings import Masking, Objective, Representation
from tests.reference.tiny import KINDS, MASK, random_batch, tiny_model


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_follows_float32(kind: str) -> None:
    torch.manual_seed(0)
    objective = DuplexMAE(Backbone(tiny_model(kind, dtype=torch.float32)), Objective(), Masking(), mask_id=MASK, seed=0)
    batch = Batch(**random_batch(kind, [20, 15, 24, 9], 0))
    draws = objective.draw(batch, 0)
    exact = objective(batch, draws)
    rough = LowPrecision(objective, torch.bfloat16)(batch, draws)
    for name, value in exact.items():
        if "accuracy" not in name:
            assert rough[name].item() == pytest.approx(value.item(), rel=0.03)
    parameters = dict(objective.named_parameters())
    wanted = torch.autograd.grad(exact["loss"], list(parameters.values()), allow_unused=True)
    rough["loss"].backward()
    flat = [(p.grad, g) for p, g in zip(parameters.values(), wanted, strict=True) if g is not None]
    assert all(found is not None and found.dtype == torch.float32 for found, _ in flat)
    found, expected = (torch.cat([pair[side].flatten() for pair in flat]) for side in (0, 1))
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.95
    assert objective.backbone.output.weight is objective.backbone.lm.get_input_embeddings().weight
    assert all(parameter.dtype == torch.float32 for parameter in objective.parameters())


def test_float32_is_the_module_itself() -> None:
    layer = torch.nn.Linear(3, 3)
    given = torch.randn(2, 3)
    assert LowPrecision(layer, torch.float32)(given).equal(layer(given))


class Dtypes(nn.Module):
    """Says in what its parameters are, while it runs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> dict[str, torch.dtype]:
        return {name.removeprefix("inner."): value.dtype for name, value in self.named_parameters()}


def test_part_and_term_weights_are_not_cast() -> None:
    encoder = HybridEncoder(Backbone(tiny_model("bert", dtype=torch.float32)), Representation(dimensions=4))
    dtypes = LowPrecision(Dtypes(encoder), torch.bfloat16)()
    wide = {name for name, dtype in dtypes.items() if dtype == torch.float32}
    assert wide == {"term_weights", "threshold", "lexical_weight", "log_scales"}
    assert dtypes["projection.weight"] == torch.bfloat16
