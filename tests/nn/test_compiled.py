"""Compiled parts give the same losses, and a few graphs serve batches of every shape."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from dupmae.nn import vocabulary
from dupmae.nn.backbone import Backbone
from dupmae.nn.compiled import compile_parts
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.recompute import transformer_layers
from dupmae.settings import Masking, Objective
from tests.reference.tiny import MASK, random_batch, tiny_model

SHAPES = [[12] * 3, [9] * 4, [7, 5], [15] * 2, [11] * 5, [8] * 3, [13] * 6, [10] * 7, [14, 12, 9], [6] * 8]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    vocabulary._scored = vocabulary._score
    torch._dynamo.reset()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_ten_shapes_need_two_graphs_of_a_part_at_most(dtype: torch.dtype) -> None:
    backbone = Backbone(tiny_model("bert", dtype=torch.float32))
    plain = DuplexMAE(backbone, Objective(kind="dupmae"), Masking(), mask_id=MASK, seed=0)
    compiled = copy.deepcopy(plain)
    assert compiled.decoder is not None
    encoder, decoder, losses = CompileCounter(), CompileCounter(), CompileCounter()
    layers = transformer_layers(compiled.backbone)
    expected = _losses(plain, dtype)
    compile_parts(layers, backend=encoder)
    compile_parts([compiled.decoder], backend=decoder)
    vocabulary.compile_losses(backend=losses)
    rtol = 2e-2 if dtype is torch.bfloat16 else 1e-5
    torch.testing.assert_close(_losses(compiled, dtype), expected, rtol=rtol, atol=0)
    assert 0 < encoder.frame_count <= 2 * len(layers)
    assert 0 < decoder.frame_count <= 2
    assert 0 < losses.frame_count <= 2


def _losses(objective: DuplexMAE, dtype: torch.dtype) -> torch.Tensor:
    model, losses = LowPrecision(objective, dtype).train(), []
    for step, lengths in enumerate(SHAPES):
        batch = Batch(**random_batch("bert", lengths, step))
        terms = model(batch, objective.draw(batch, step))
        terms["loss"].backward()
        losses.append(terms["loss"].detach())
    return torch.stack(losses)
