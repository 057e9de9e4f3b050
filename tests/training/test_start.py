"""The closed-form start of the head is judged on tokens that it was not fitted to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from dupmae.nn.backbone import Backbone
from dupmae.training import start
from dupmae.training.start import head_from_text
from tests.reference.tiny import random_batch, tiny_model


def given_to_start(batches: Iterator[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The token ids that the head is started on."""
    found: list[Tensor] = []

    def keeps(backbone: Backbone, hidden: Tensor, ids: Tensor) -> dict[str, float]:
        assert hidden.shape == (len(ids), backbone.width)
        found.append(ids)
        return {"accuracy": 0.0, "cross_entropy": 0.0, "scale": 1.0}

    monkeypatch.setattr(start, "start_head", keeps)
    head_from_text(Backbone(tiny_model("bert", dtype=torch.float32)), batches, torch.float32, "ridge", False)
    (ids,) = found
    return ids


def rows_of(batch: dict[str, Tensor], *rows: int) -> dict[str, Tensor]:
    return {name: value[list(rows)] for name, value in batch.items()}


def test_a_text_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch("bert", [9, 12, 7, 12], 0)
    taken: list[int] = []

    def batches() -> Iterator[dict[str, Tensor]]:
        # Over and over, in another order and with other padding.
        for number, rows in enumerate([(0, 1), (1, 2, 3), (3, 0), (2, 1)] * 1000):
            taken.append(number)
            yield rows_of(batch, *rows)

    ids = given_to_start(batches(), monkeypatch)
    ordinary = batch["valid"] & ~batch["special"]
    assert ids.tolist() == batch["input_ids"][ordinary].tolist()
    assert taken == [0, 1, 2]


def test_enough_text_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "START_TOKENS", 30)
    batches = (random_batch("bert", [12, 12], seed) for seed in range(100))
    assert 30 <= len(given_to_start(batches, monkeypatch)) < 60
