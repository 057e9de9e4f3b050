"""Chunks that are computed twice give the same values and gradients as a batch that is computed once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dupmae.nn import gradient_cache
from dupmae.nn.backbone import Backbone
from dupmae.nn.contrastive import ContrastiveObjective, loss_weights
from dupmae.nn.representation import HybridEncoder, Texts
from dupmae.settings import Representation
from tests.reference.tiny import random_batch, tiny_model

QUERIES, PASSAGES = [4, 6, 5, 7, 3], [9, 5, 7, 8, 12, 3, 9, 6, 4, 11]


def batch() -> dict[str, Tensor]:
    batches = {"query": random_batch("bert", QUERIES, 1), "passage": random_batch("bert", PASSAGES, 2)}
    names = {"ids": "input_ids", "valid": "valid", "special": "special"}
    item = {f"{side}_{name}": texts[key] for side, texts in batches.items() for name, key in names.items()}
    ignored = torch.zeros(5, 10, dtype=torch.bool)
    ignored[1, 4] = True
    return item | {"targets": torch.arange(5), "start": torch.tensor(0), "ignored": ignored}


def measured(
    chunk_size: int | None,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float64,
    low: torch.dtype = torch.float32,
    **settings: Any,
) -> tuple[dict[str, float], dict[str, Tensor | None]]:
    """Every term, and the gradient of every parameter."""
    torch.manual_seed(0)
    chosen = Representation.model_validate({"dimensions": 6, "top_k": 8, **settings})
    lm = tiny_model("bert", dtype=dtype, dropout=dropout)
    encoder = HybridEncoder(Backbone(lm), chosen).to(dtype)
    if chosen.tied is False:
        encoder.query_backbone = Backbone(tiny_model("bert", dtype=dtype, dropout=dropout))
    objective = ContrastiveObjective(encoder, low, chunk_size).train()
    torch.manual_seed(7)
    terms = objective(batch())
    sum(weight * terms[name] for name, weight in loss_weights(chosen, 0.5).items()).backward()
    return {name: value.item() for name, value in terms.items()}, {n: p.grad for n, p in encoder.named_parameters()}


def compare(found: tuple[dict[str, float], Any], wanted: tuple[dict[str, float], Any], tolerance: float) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=tolerance)
    assert sum(gradient is not None for gradient in wanted[1].values()) > 20
    for name, gradient in wanted[1].items():
        assert (found[1][name] is None) == (gradient is None), name
        if gradient is not None:
            torch.testing.assert_close(found[1][name], gradient, rtol=tolerance, atol=tolerance)


KINDS: list[dict[str, Any]] = [
    {},
    {"kind": "cls", "matryoshka": [2]},
    {"kind": "bow", "query_flops": 0.1, "passage_flops": 0.2},
    {"kind": "aggregated", "aggregated_dimensions": 7},
    {"tied": False, "normalize": True},
]


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
@pytest.mark.parametrize("settings", KINDS)
def test_chunks_change_nothing(settings: dict[str, Any], chunk_size: int) -> None:
    compare(measured(chunk_size, **settings), measured(None, **settings), 1e-9)


def test_the_second_pass_draws_the_same_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = measured(3, dropout=0.3)
    assert twice[0] != measured(3)[0]
    monkeypatch.setattr(gradient_cache, "checkpoint", lambda work, *given, use_reentrant: work(*given))
    compare(twice, measured(3, dropout=0.3), 1e-12)


def test_only_vectors_are_kept_between_the_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk is encoded once forward and once more backward."""
    seen: list[tuple[int, bool]] = []
    forward = HybridEncoder.forward

    def counted(self: HybridEncoder, texts: Texts, *rest: Any) -> Any:
        seen.append((len(texts.ids), torch.is_grad_enabled()))
        return forward(self, texts, *rest)

    monkeypatch.setattr(HybridEncoder, "forward", counted)
    measured(3)
    assert sorted(rows for rows, _ in seen) == sorted(2 * [2, 3, 1, 3, 3, 3])


def test_chunks_in_low_precision() -> None:
    found, wanted = (measured(size, dtype=torch.float32, low=torch.bfloat16)[1] for size in (3, None))
    norms = [torch.stack([g.norm() for g in gradients.values() if g is not None]) for gradients in (found, wanted)]
    torch.testing.assert_close(*norms, rtol=0.1, atol=0.02)
    assert {g.dtype for g in found.values() if g is not None} == {torch.float32}
