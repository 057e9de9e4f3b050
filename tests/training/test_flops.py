"""Counted operations equal those that torch's own counter sees in the same work."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, ModernBertConfig

from dupmae.nn.backbone import Backbone
from dupmae.nn.cpu import attention
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.vocabulary import vocabulary_max
from dupmae.settings import Masking, Objective
from dupmae.training.flops import Shape, Texts, encoder_forward, step_flops, step_parts, vocabulary_forward
from tests.reference.tiny import MASK, random_batch, tiny_model

LENGTHS = [20] * 6
BERT_BASE = Shape.of(BertConfig())


def counted(objective: Objective) -> tuple[float, float]:
    """Torch's count of a step's forward and backward pass, and ours at the masking rate that was drawn."""
    model = DuplexMAE(Backbone(tiny_model("bert", dtype=torch.float32)), objective, Masking(), mask_id=MASK, seed=0)
    batch = Batch(**random_batch("bert", LENGTHS, 0))
    draws = model.draw(batch, 0)
    # Torch's counter does not know the fused attention of CPUs.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(batch, draws)["loss"].backward()
    texts = Texts.of(LENGTHS)
    masking = Masking(encoder_rate=float(draws.masked.sum()) / texts.ordinary)
    if draws.decoder_masked is not None:
        masking = masking.model_copy(update={"decoder_rate": float(draws.decoder_masked.sum()) / texts.ordinary})
    shape = Shape.of(model.backbone.config)
    return counter.get_total_flops(), step_flops(shape, texts, objective, masking)


@pytest.mark.parametrize("objective", [{"kind": "mlm"}, {"kind": "retromae"}, {"kind": "retromae", "decoder": "basic"}])
def test_a_step_equals_the_count_of_torch(objective: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # Columns that attention on a CPU appends to fill its vectors are not counted.
    monkeypatch.setattr(attention, "VECTOR", 1)
    theirs, ours = counted(Objective.model_validate(objective))
    assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("bow", ["paper", "author"])
def test_the_bag_of_words_forward_equals_the_count_of_torch(bow: Any) -> None:
    backbone, texts, masking = Backbone(tiny_model("bert")), Texts.of(LENGTHS), Masking(encoder_rate=0.5)
    shape = Shape.of(backbone.config)
    kept = 9 if bow == "paper" else 19  # of 20 tokens: 18 ordinary, half of them masked; or all but [CLS]
    hidden = torch.randn(6 * kept, shape.hidden, dtype=torch.float64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        offsets = [kept * row for row in range(7)]
        vocabulary_max(backbone.transform(hidden), backbone.output.weight, backbone.output.bias, offsets)
    parts = step_parts(shape, texts, Objective(kind="dupmae", bow=bow), masking)
    assert parts["bow"].forward == pytest.approx(counter.get_total_flops(), rel=1e-9)


def test_the_bag_of_words_backward_reaches_one_position_an_entry() -> None:
    texts = Texts.of([512] * 8)
    part = step_parts(BERT_BASE, texts, Objective(kind="dupmae"), Masking())["bow"]
    winners = 2 * 2 * 8 * 30_522 * 768  # a row of the matrix and a row of the states for each winner
    transform = 2 * 2 * 0.7 * 510 * 8 * 768**2
    assert part.backward == pytest.approx(winners + transform)
    assert part.backward < 0.06 * part.forward


def test_the_parts_make_the_step() -> None:
    texts = Texts.of([150] * 16)
    for kind, names in {
        "mlm": ["encoder", "mlm"],
        "retromae": ["encoder", "mlm", "decoder", "decoder_vocabulary"],
        "dupmae": ["encoder", "mlm", "decoder", "decoder_vocabulary", "bow"],
    }.items():
        objective = Objective.model_validate({"kind": kind})
        parts = step_parts(BERT_BASE, texts, objective, Masking())
        assert list(parts) == names
        assert step_flops(BERT_BASE, texts, objective, Masking()) == sum(part.total for part in parts.values())
        assert all(part.backward == 2 * part.forward for name, part in parts.items() if name != "bow")


def test_work_grows_with_tokens_and_with_the_pairs_of_a_text() -> None:
    short, long = Texts.of([128] * 4), Texts.of([512])
    assert short.tokens == long.tokens
    more = encoder_forward(BERT_BASE, long) - encoder_forward(BERT_BASE, short)
    assert more == 12 * 4 * 768 * (512**2 - 4 * 128**2)
    assert vocabulary_forward(BERT_BASE, 10) == 2 * 10 * (768**2 + 768 * 30_522)


def test_a_gate_is_a_third_matrix_and_a_narrow_embedding_a_smaller_head() -> None:
    config = ModernBertConfig()
    shape = Shape.of(config)
    assert shape.gated
    assert shape.layer_weights() == 4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate
    narrow = replace(BERT_BASE, embedding=128)
    assert narrow.head_weights() == 768 * 128
    assert narrow.output_weights() == 128 * 30_522
    assert math.isclose(BERT_BASE.layer_weights() * 12, 84_934_656)
