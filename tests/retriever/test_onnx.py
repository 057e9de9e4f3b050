"""ONNX Runtime gives torch's vectors, for texts of any number and length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from dupmae.errors import DupmaeError
from dupmae.retriever import onnx
from tests.tiny import documents, tiny_retriever

TEXTS = [passage.text[: 9 * place] for place, passage in enumerate(documents(12))]


def opened(folder: Path) -> tuple[Any, dict[str, Any]]:
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return session, json.loads((folder / "settings.json").read_text())


@pytest.mark.parametrize("kind", ["hybrid", "bow"])
def test_the_vectors_are_the_retrievers(tmp_path: Path, kind: str) -> None:
    retriever = tiny_retriever(tmp_path / "retriever", kind=kind)
    retriever.dtype = "fp32"
    with torch.no_grad():
        retriever.encoder.term_weights.add_(torch.rand_like(retriever.encoder.term_weights))
        retriever.encoder.threshold.fill_(0.1)
        retriever.encoder.log_scales.copy_(torch.tensor([0.3, -0.5]))
    difference = onnx.write_onnx(tmp_path / "onnx", retriever)
    session, settings = opened(tmp_path / "onnx")
    assert 0 <= difference == settings["largest_difference_from_torch"] <= 1e-4
    given = retriever.tokenizer(TEXTS, padding=True, truncation=True, max_length=16, return_tensors="np")
    found = dict(
        zip(
            settings["outputs"],
            session.run(None, {"input_ids": given["input_ids"], "attention_mask": given["attention_mask"]}),
            strict=True,
        )
    )
    queries = retriever.encode_queries(TEXTS)
    if kind != "bow":
        np.testing.assert_allclose(
            found["dense"] * settings["query_weights"]["dense"], queries.dense, rtol=1e-4, atol=1e-4
        )
    weighted = found["sparse"] * settings["query_weights"]["sparse"]
    np.testing.assert_allclose(weighted, queries.sparse.toarray(), rtol=1e-4, atol=1e-4)
    # The encoder itself is left as it was.
    assert retriever.encoder.backbone.lm.config._attn_implementation == "dupmae"


def test_vectors_that_are_not_torchs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = tiny_retriever(tmp_path / "retriever")
    monkeypatch.setattr(torch.onnx, "export", lambda *given, **named: None)
    monkeypatch.setattr(onnx, "_difference", lambda *given: float("nan"))
    with pytest.raises(DupmaeError, match=r"model\.onnx: the ONNX vectors differ from torch's"):
        onnx.write_onnx(tmp_path / "onnx", retriever)
