"""Queries that keep the terms of their own tokens alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dupmae.export.sentence_transformers import differences
from dupmae.nn.backbone import Backbone
from dupmae.nn.representation import HybridEncoder
from dupmae.recipe import Representation, RetrieverSettings
from dupmae.retriever import Retriever
from tests.reference.tiny import random_batch, tiny_model
from tests.tiny import tiny_retriever


def built(**settings: object) -> HybridEncoder:
    torch.manual_seed(0)
    chosen = Representation.model_validate({"dimensions": 6, "top_k": 8, **settings})
    return HybridEncoder(Backbone(tiny_model("bert")), chosen).double().eval()


@pytest.mark.parametrize("kind", ["bow", "hybrid"])
def test_values_and_gradients(kind: str) -> None:
    encoder = built(kind=kind, query_terms="own")
    batch = random_batch("bert", [9, 5, 7], seed=1)
    texts = (batch["input_ids"], batch["valid"], batch["special"])
    full, found = encoder(*texts, False).sparse, encoder(*texts, True).sparse
    assert full is not None
    assert found is not None
    for row, (ids, valid, special) in enumerate(zip(*texts, strict=True)):
        own = {int(token) for token, real, apart in zip(ids, valid, special, strict=True) if real and not apart}
        for term in range(found.shape[1]):
            assert found[row, term] == (full[row, term] if term in own else 0)
    assert 0 < int((found > 0).sum()) < int((full > 0).sum())
    encoder.zero_grad()
    found.sum().backward()
    used = {int(term) for term in (found.detach() > 0).any(0).nonzero()}
    changed = encoder.term_weights.grad
    assert changed is not None
    assert {int(term) for term in changed.nonzero()} == used


def test_the_setting_is_kept_with_a_retriever(tmp_path: Path) -> None:
    plain = tiny_retriever(tmp_path / "plain")
    representation = plain.representation.model_copy(update={"query_terms": "own"})
    settings: RetrieverSettings = plain.settings.model_copy(update={"representation": representation})
    own = Retriever.load(tmp_path / "plain", settings=settings)
    own.save(tmp_path / "own")
    loaded = Retriever.load(tmp_path / "own")
    assert loaded.representation.query_terms == "own"
    texts = ["The yield expression", "import"]
    every, some = plain.encode_queries(texts).sparse, loaded.encode_queries(texts).sparse
    assert 0 < some.nnz < every.nnz
    assert abs(plain.encode_passages(texts).sparse - loaded.encode_passages(texts).sparse).max() < 1e-2
    assert any("own tokens alone" in told for told in differences(loaded.encoder, loaded.settings))
    assert not any("own tokens alone" in told for told in differences(plain.encoder, plain.settings))
