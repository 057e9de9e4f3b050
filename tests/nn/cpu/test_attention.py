"""Attention by plain products equals torch's kernel and the equation, in value and gradient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone
from dupmae.nn.cpu import attention
from dupmae.nn.cpu.attention import attend
from tests.reference.tiny import random_batch, tiny_model

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def drawn(dtype: torch.dtype, rows: int = 3, heads: int = 4, length: int = 7, width: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (rows, length, heads, width)
    parts = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]
    return [part.transpose(1, 2).requires_grad_() for part in parts]


def by_loops(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, kept: Tensor | None, rate: float) -> Tensor:
    """softmax(q k / sqrt(d)) over the visible columns, dropped shares set to zero and the rest scaled, times v."""
    output = torch.zeros_like(query)
    for row in range(query.shape[0]):
        for head in range(query.shape[1]):
            for place in range(query.shape[2]):
                columns = visible[row, 0, place].nonzero()[:, 0]
                scores = key[row, head, columns] @ query[row, head, place] / query.shape[-1] ** 0.5
                shares = torch.softmax(scores, 0)
                if kept is not None:
                    shares = shares * kept[row, head, place, columns] / (1 - rate)
                output[row, head, place] = shares @ value[row, head, columns]
    return output


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("masking", ["none", "padding", "rows"])
@pytest.mark.parametrize("rate", [0.0, 0.4])
# All heads of all rows at once; one row; three heads of four; one.
@pytest.mark.parametrize("at_once", [12, 4, 3, 1])
def test_value_and_gradient(
    dtype: torch.dtype, masking: str, rate: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 7 * attention.VECTOR * dtype.itemsize
    monkeypatch.setattr(attention, "BLOCK", at_once * size // torch.get_num_threads())
    parts = drawn(dtype)
    everywhere = torch.ones(3, 1, 7, 7, dtype=torch.bool)
    visible = {
        "none": None,
        "padding": torch.arange(7).expand(3, 1, 1, 7) < torch.tensor([7, 3, 1])[:, None, None, None],
        "rows": torch.rand(3, 1, 7, 7, generator=torch.Generator().manual_seed(1)) < 0.5,
    }[masking]
    if masking == "rows":
        visible[..., 0] = True
    kept = []

    def recorded(like: Tensor, share: float) -> Tensor:
        bits = original(like, share)
        kept.append(bits[..., :7] != 0)
        return bits

    original = attention.keep_bits
    monkeypatch.setattr(attention, "keep_bits", recorded)
    found = attend(*parts, visible, rate)
    seen = everywhere if visible is None else visible & everywhere
    expected = by_loops(*parts, seen, torch.cat(kept).view(3, 4, 7, 7) if kept else None, rate)
    assert len(kept) == (rate > 0) * {12: 1, 4: 3, 3: 6, 1: 12}[at_once]
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(found, expected, **close)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    ours = torch.autograd.grad((found * weights).sum(), parts)
    theirs = torch.autograd.grad((expected * weights).sum(), parts)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **close)


def test_without_gradient_dropout_is_the_same() -> None:
    parts = drawn(torch.float32)
    torch.manual_seed(3)
    graded = attend(*parts, None, 0.4)
    torch.manual_seed(3)
    with torch.no_grad():
        torch.testing.assert_close(attend(*parts, None, 0.4), graded)


def test_a_row_that_sees_nothing_is_no_nan() -> None:
    parts = drawn(torch.bfloat16)
    visible = torch.ones(3, 1, 7, 7, dtype=torch.bool)
    visible[:, :, 2] = False
    done = attend(*parts, visible, 0.3)
    done.sum().backward()
    assert done.isfinite().all()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in parts)


def test_bfloat16_stays_near_float32() -> None:
    exact = F.scaled_dot_product_attention(*drawn(torch.float32))
    rough = attend(*drawn(torch.bfloat16), None)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), exact, rtol=0.03, atol=0.03)


def test_long_inputs_use_the_kernel_without_square_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = drawn(torch.float64)
    expected = attend(*parts, None)
    monkeypatch.setattr(attention, "LONGEST", 6)
    monkeypatch.setattr(attention._Attention, "apply", None)
    torch.testing.assert_close(attend(*parts, None), expected)


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert", "modernbert"])
def test_backbones_attend_as_the_library_does(kind: str, tmp_path: Path) -> None:
    lm = tiny_model(kind)
    batch = random_batch(kind, [12, 5], 0)
    plain = lm.base_model(input_ids=batch["input_ids"], attention_mask=batch["valid"].long()).last_hidden_state
    backbone = Backbone(lm)
    cpu.prepare(backbone)
    assert lm.config._attn_implementation == attention.NAME
    found = backbone.hidden(batch["input_ids"], batch["valid"])
    torch.testing.assert_close(found[batch["valid"]], plain[batch["valid"]], rtol=1e-10, atol=1e-10)
    lm.save_pretrained(tmp_path)
    assert attention.NAME not in json.loads((tmp_path / "config.json").read_text()).values()
