"""Queries that keep the terms of their own tokens alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dupmae.nn.backbone import Backbone
from dupmae.nn.representation import HybridEncoder, Texts
from dupmae.retriever.model import Retriever
from dupmae.retriever.sentence_transformers import differences
from dupmae.settings import Representation, RetrieverSettings
from tests.reference.tiny import random_batch, tiny_model
from tests.tiny import tiny_retriever


def built(**settings: object) -> HybridEncoder:
    torch.manual_seed(0)
    chosen = Representation.model_validate({"dimensions": 6, "top_k": 8, **settings})
    return HybridEncoder(Backbone(tiny_model("bert")), chosen).double().eval()


@pytest.mark.parametrize("kind", ["bow", "hybrid"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_values_and_gradients(kind: str, activation: str) -> None:
    """The terms of a text's own tokens are the full vocabulary part's, 0 elsewhere, whatever stands in it twice."""
    encoder = built(kind=kind, activation=activation, query_terms="input")
    torch.nn.init.uniform_(encoder.term_weights, 0.5, 1.5)
    batch = random_batch("bert", [9, 5, 7, 4], seed=1)
    # Most tokens stand in the first text twice: counted twice, a term would get its gradient twice.
    batch["input_ids"][0, 1:4] = batch["input_ids"][0, 4:7]
    batch["special"][3] = True
    texts = (batch["input_ids"], batch["valid"], batch["special"])
    full, found = encoder(Texts(*texts), False).sparse, encoder(Texts(*texts), True).sparse
    own = torch.zeros_like(full, dtype=torch.bool)
    for row, (ids, valid, special) in enumerate(zip(*texts, strict=True)):
        for token, real, apart in zip(ids, valid, special, strict=True):
            if real and not apart:
                own[row, int(token)] = True
    assert torch.allclose(found, full * own, atol=1e-10, rtol=0)
    assert 0 < int((found > 0).sum()) < int((full > 0).sum())
    assert not found[3].any()
    assert (found[0, batch["input_ids"][0, 1:4]] > 0).any()
    factors = torch.rand(full.shape, dtype=full.dtype)
    wanted = gradients(encoder, (full * own * factors).sum())
    given = gradients(encoder, (found * factors).sum())
    assert wanted.keys() == given.keys()
    for name, gradient in wanted.items():
        assert torch.allclose(given[name], gradient, atol=1e-10, rtol=0), name
    assert wanted["threshold"] != 0


def gradients(encoder: HybridEncoder, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    encoder.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


def test_the_setting_is_kept_with_a_retriever(tmp_path: Path) -> None:
    plain = tiny_retriever(tmp_path / "plain")
    representation = plain.representation.model_copy(update={"query_terms": "input"})
    settings: RetrieverSettings = plain.settings.model_copy(update={"representation": representation})
    own = Retriever.load(tmp_path / "plain", settings=settings)
    own.save(tmp_path / "own")
    loaded = Retriever.load(tmp_path / "own")
    assert loaded.representation.query_terms == "input"
    texts = ["The yield expression", "import"]
    every, some = plain.encode_queries(texts).sparse, loaded.encode_queries(texts).sparse
    assert 0 < some.nnz < every.nnz
    assert abs(plain.encode_passages(texts).sparse - loaded.encode_passages(texts).sparse).max() < 1e-2
    assert any("own tokens alone" in told for told in differences(loaded.encoder, loaded.settings))
    assert not any("own tokens alone" in told for told in differences(plain.encoder, plain.settings))
