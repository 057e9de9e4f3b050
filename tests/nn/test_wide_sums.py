"""bfloat16 gradients that are sums over thousands of rows equal the float64 sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dupmae.nn.backbone import Backbone
from dupmae.nn.decoder import DecoderLayer
from dupmae.nn.wide_sums import Embedding, LayerNorm, use_wide_sums
from tests.reference.tiny import tiny_model

ROWS, WIDTH = 8192, 16


def gradients(module: nn.Module, given: Tensor, out: Tensor) -> list[Tensor]:
    """Of `sum(module(given) * out)` in the parameters, and in `given` where it is differentiable."""
    inputs = [*module.parameters(), *([given] if given.requires_grad else [])]
    return list(torch.autograd.grad((module(given) * out).sum(), inputs))


def alike(found: list[Tensor], expected: list[Tensor]) -> None:
    for low, exact in zip(found, expected, strict=True):
        assert low.dtype == torch.bfloat16
        assert (low.double() - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias: bool) -> None:
    torch.manual_seed(0)
    norm = LayerNorm(WIDTH, bias=bias).bfloat16()
    nn.init.normal_(norm.weight)
    # A mean that is not zero is where a bfloat16 sum stands still.
    given, out = torch.randn(2, ROWS // 2, WIDTH).bfloat16(), (torch.randn(2, ROWS // 2, WIDTH) + 0.3).bfloat16()
    exact = nn.LayerNorm(WIDTH, bias=bias).double()
    exact.load_state_dict(norm.state_dict())
    wanted = gradients(exact, given.double().requires_grad_(), out.double())
    alike(gradients(norm, given.requires_grad_(), out), wanted)
    torch.testing.assert_close(norm(given).double(), exact(given.double()), rtol=0.01, atol=0.01)


def test_embedding() -> None:
    torch.manual_seed(0)
    table = Embedding(40, WIDTH, padding_idx=3).bfloat16()
    ids = torch.randint(0, 6, (4, ROWS // 4))
    out = (torch.randn(4, ROWS // 4, WIDTH) + 0.3).bfloat16()
    exact = nn.Embedding(40, WIDTH, padding_idx=3).double()
    exact.load_state_dict(table.state_dict())
    found = gradients(table, ids, out)
    alike(found, gradients(exact, ids, out.double()))
    assert not found[0][3].any()
    assert not found[0][6:].any()
    assert table(ids).equal(table.weight[ids])


def test_float32_is_torch_s_own() -> None:
    torch.manual_seed(0)
    plain, own = nn.LayerNorm(WIDTH), LayerNorm(WIDTH)
    given, out = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    for found, wanted in zip(gradients(own, given, out), gradients(plain, given, out), strict=True):
        assert found.equal(wanted)


def test_networks_use_them() -> None:
    model = tiny_model("bert", dtype=torch.float32)
    names = set(model.state_dict())
    modules = [*Backbone(model).modules(), *DecoderLayer(model.config).modules()]
    assert not any(type(module) in (nn.LayerNorm, nn.Embedding) for module in modules)
    assert any(type(module) is Embedding for module in modules)
    assert set(model.state_dict()) == names
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight


def test_others_are_left_as_they_are() -> None:
    sparse, image = nn.Embedding(4, 2, sparse=True), nn.LayerNorm([3, 4])
    use_wide_sums(nn.ModuleList([sparse, image]))
    assert type(sparse) is nn.Embedding
    assert type(image) is nn.LayerNorm
