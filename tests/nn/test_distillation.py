"""The distillation losses against their definitions, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from dupmae.nn.distillation import DistillationObjective, distillation_kl, margin_mse
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import open_backbone
from dupmae.settings import Representation
from dupmae.shards.tokenizers import load_tokenizer
from tests.reference.distillation import divergence, margins
from tests.reference.tiny import sentences, tiny_folder

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
BOTH = pytest.mark.parametrize(("loss", "reference"), [(distillation_kl, divergence), (margin_mse, margins)])


def groups(seed: int, queries: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    random = np.random.default_rng(seed)
    scores, teacher = (torch.from_numpy(random.normal(size=(queries, width)) * scale) for scale in (2, 5))
    valid = torch.from_numpy(random.random((queries, width)) < 0.7)
    valid[:, 0] = True
    return scores, teacher, valid


@BOTH
@examples(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), queries=st.integers(1, 5), width=st.integers(1, 6))
def test_losses_are_their_definitions(
    loss: Loss, reference: Callable[..., float], seed: int, queries: int, width: int
) -> None:
    scores, teacher, valid = groups(seed, queries, width)
    expected = reference(scores.tolist(), teacher.tolist(), valid.tolist())
    assert float(loss(scores, teacher, valid)) == pytest.approx(expected, rel=1e-10, abs=1e-12)


@BOTH
def test_gradients(loss: Loss, reference: Callable[..., float]) -> None:
    scores, teacher, valid = groups(3, 4, 5)
    valid[0, 1:] = False
    scores.requires_grad_()
    assert torch.autograd.gradcheck(lambda own: loss(own, teacher, valid), (scores,))
    loss(scores, teacher, valid).backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert not scores.grad[~valid].any()


def test_empty_places_may_hold_anything() -> None:
    scores, teacher, valid = groups(5, 4, 5)
    spoilt = teacher.masked_fill(~valid, 1e30)
    for loss in (distillation_kl, margin_mse):
        assert float(loss(scores, spoilt, valid)) == float(loss(scores, teacher, valid))


def test_a_student_like_its_teacher_costs_nothing() -> None:
    scores, _, valid = groups(7, 3, 5)
    assert float(distillation_kl(scores + 3, scores, valid)) == pytest.approx(0, abs=1e-12)
    assert float(margin_mse(scores + 3, scores, valid)) == pytest.approx(0, abs=1e-12)


def test_half_precision_is_summed_in_single() -> None:
    scores, teacher, valid = groups(9, 4, 6)
    low = scores.to(torch.bfloat16)
    for loss in (distillation_kl, margin_mse):
        assert loss(low, teacher, valid).dtype == torch.float32
        assert float(loss(low, teacher, valid)) == pytest.approx(float(loss(low.double(), teacher, valid)), rel=1e-5)


@pytest.mark.parametrize("kind", ["hybrid", "cls", "bow"])
@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_the_objective_scores_each_group(kind: str, loss: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "model")
    tokenizer = load_tokenizer(folder)
    backbone, _ = open_backbone(str(folder))
    encoder = HybridEncoder(backbone, Representation.model_validate({"kind": kind, "dimensions": 8, "top_k": 20}))
    model = DistillationObjective(encoder, torch.float32, None, loss).eval()  # type: ignore[arg-type]
    item = {}
    for name, texts in (("query", sentences(2)), ("passage", sentences(6))):
        encoded = tokenizer(texts, padding=True, return_tensors="pt")
        special = torch.isin(encoded["input_ids"], torch.tensor(tokenizer.all_special_ids))
        item |= {f"{name}_ids": encoded["input_ids"], f"{name}_valid": encoded["attention_mask"].bool()}
        item[f"{name}_special"] = special
    item |= {
        "targets": torch.tensor([0, 1]),
        "ignored": torch.zeros(2, 6, dtype=torch.bool),
        "start": torch.tensor(0),
        "group": torch.tensor([[0, 2, 4], [1, 3, 5]]),
        "teacher": torch.tensor([[2.0, 0.5, -1.0], [1.0, 3.0, 0.0]]),
        "group_valid": torch.tensor([[True, True, True], [True, True, False]]),
    }
    with torch.no_grad():
        terms = model(item)
        dense, sparse = model.shares(*model.pairs(item), item)
    scores = torch.zeros(2, 6) if not dense else dense[0]
    scores = scores if sparse is None else scores + sparse
    rows = [[float(scores[row, column]) for column in columns] for row, columns in enumerate(item["group"].tolist())]
    reference = divergence if loss == "kl" else margins
    expected = reference(rows, item["teacher"].tolist(), item["group_valid"].tolist())
    assert float(terms[loss]) == pytest.approx(expected, rel=1e-4)
    counts = model.counts(item)
    assert int(counts[loss]) == (2 if loss == "kl" else 3)
