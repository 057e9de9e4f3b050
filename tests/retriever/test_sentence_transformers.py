"""A saved retriever opens in sentence-transformers without this package's code, with the same vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SparseEncoder

from dupmae.nn.backbone import Backbone
from dupmae.nn.representation import HybridEncoder, Texts
from dupmae.retriever.model import Retriever
from dupmae.retriever.sentence_transformers import differences
from dupmae.settings import RetrieverSettings
from tests.reference.tiny import sentences, tiny_folder, tiny_model

# Shorter than a query may be, longer than a passage may be, and words that the tokenizer does not know.
TEXTS = [*sentences(10), "sorts", "a b c " * 30, "☃ a list", "[MASK] of a list"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_folder(tmp_path_factory.mktemp("sentence-transformers") / "model")


def saved(model: Path, folder: Path, *, weights: bool = True, **representation: Any) -> Retriever:
    """A retriever whose every parameter differs from its start."""
    torch.manual_seed(0)
    settings = RetrieverSettings.model_validate(
        {
            # No stock module counts words.
            "representation": {"dimensions": 8, "top_k": 12, "lexical": "none", **representation},
            "query_length": 9,
            "passage_length": 24,
            "query_prefix": "ask: ",
            "passage_prefix": "tell: ",
        }
    )
    retriever = Retriever.from_encoder(str(model), settings, dtype="fp32")
    with torch.no_grad():
        encoder = retriever.encoder
        if weights:
            encoder.term_weights.add_(torch.randn_like(encoder.term_weights) * 0.5)
        encoder.threshold.fill_(0.3)
        encoder.log_scales.copy_(torch.tensor([0.3, -0.5]))
        for tower in (encoder.query_backbone,) if encoder.query_backbone is not None else ():
            for parameter in tower.parameters():
                parameter.mul_(1.05)
    retriever.save(folder)
    return retriever


def cut(rows: np.ndarray, k: int) -> np.ndarray:
    """The k largest entries of each row."""
    return np.where(rows >= np.sort(rows, axis=1)[:, [-k]], rows, 0)


def names(folder: Path) -> list[str]:
    return [module["type"] for module in json.loads((folder / "modules.json").read_text())]


@pytest.mark.parametrize("shape", [{}, {"pooling": "mean"}, {"normalize": True}, {"kind": "cls"}])
def test_the_dense_part_opens_as_a_sentence_transformer(model: Path, tmp_path: Path, shape: dict[str, Any]) -> None:
    retriever = saved(model, tmp_path / "saved", **shape)
    dense = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    a = retriever.encoder.log_scales[0].exp().item()
    np.testing.assert_allclose(a * dense.encode_query(TEXTS), retriever.encode_queries(TEXTS).dense, atol=1e-4)
    np.testing.assert_allclose(dense.encode_document(TEXTS), retriever.encode_passages(TEXTS).dense, atol=1e-4)
    assert dense.get_embedding_dimension() == 8
    assert all(name.startswith("sentence_transformers.") for name in names(tmp_path / "saved"))


@pytest.mark.parametrize("activation", ["log1p_relu", "relu"])
@pytest.mark.parametrize("weights", [False, True])
def test_the_vocabulary_part_opens_as_a_sparse_encoder(
    model: Path, tmp_path: Path, activation: str, weights: bool
) -> None:
    retriever = saved(model, tmp_path / "saved", activation=activation, weights=weights)
    folder = tmp_path / "saved" / "sparse"
    sparse = SparseEncoder(str(folder), device="cpu")
    queries = sparse.encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
    passages = sparse.encode_document(TEXTS, convert_to_sparse_tensor=False).numpy()
    assert (folder / "term_weights.npy").exists() == weights
    if weights:
        factors = np.load(folder / "term_weights.npy")
        queries, passages = queries * factors, passages * factors
    b = retriever.encoder.log_scales[1].exp().item()
    np.testing.assert_allclose(b * queries, retriever.encode_queries(TEXTS).sparse.toarray(), atol=1e-4)
    np.testing.assert_allclose(cut(passages, 12), retriever.encode_passages(TEXTS).sparse.toarray(), atol=1e-4)
    if not weights:
        limited = sparse.encode_document(TEXTS, convert_to_sparse_tensor=False, max_active_dims=12).numpy()
        np.testing.assert_allclose(limited, retriever.encode_passages(TEXTS).sparse.toarray(), atol=1e-4)
    assert all(name.startswith("sentence_transformers.") for name in names(folder))


def test_the_score_is_the_weighted_sum_that_the_folder_tells(model: Path, tmp_path: Path) -> None:
    retriever = saved(model, tmp_path / "saved", weights=False, top_k=10_000)
    dense = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    sparse = SparseEncoder(str(tmp_path / "saved" / "sparse"), device="cpu")
    parts = [
        float(torch.as_tensor(opened.similarity(opened.encode_query(TEXTS[:1]), opened.encode_document(TEXTS[3:4]))))
        for opened in (dense, sparse)
    ]
    a, b = retriever.encoder.log_scales.exp().tolist()
    assert f"{a:.6g} x dense score + {b:.6g} x sparse score" in (tmp_path / "saved" / "README.md").read_text()
    expected = retriever.score(retriever.encode_queries(TEXTS[:1]), retriever.encode_passages(TEXTS[3:4]))
    assert a * parts[0] + b * parts[1] == pytest.approx(expected[0, 0], abs=1e-4)


def test_both_towers_open(model: Path, tmp_path: Path) -> None:
    retriever = saved(model, tmp_path / "saved", tied=False, weights=False)
    queries = SentenceTransformer(str(tmp_path / "saved" / "query"), device="cpu")
    passages = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    a, b = retriever.encoder.log_scales.exp().tolist()
    ours = retriever.encode_queries(TEXTS)
    np.testing.assert_allclose(a * queries.encode_query(TEXTS), ours.dense, atol=1e-4)
    np.testing.assert_allclose(passages.encode_document(TEXTS), retriever.encode_passages(TEXTS).dense, atol=1e-4)
    sparse = SparseEncoder(str(tmp_path / "saved" / "query" / "sparse"), device="cpu")
    found = sparse.encode_query(TEXTS, convert_to_sparse_tensor=False).numpy()
    np.testing.assert_allclose(b * found, ours.sparse.toarray(), atol=1e-4)
    assert "`query/`" in (tmp_path / "saved" / "README.md").read_text()


def test_both_parts_share_one_file_of_weights(model: Path, tmp_path: Path) -> None:
    saved(model, tmp_path / "saved")
    whole, part = (tmp_path / "saved" / place / "model.safetensors" for place in (".", "sparse"))
    assert whole.stat().st_ino == part.stat().st_ino


def test_only_the_parts_that_are_there(model: Path, tmp_path: Path) -> None:
    saved(model, tmp_path / "cls", kind="cls")
    saved(model, tmp_path / "bow", kind="bow")
    assert not (tmp_path / "cls" / "sparse").exists()
    assert not (tmp_path / "bow" / "modules.json").exists()
    assert (tmp_path / "bow" / "sparse" / "modules.json").exists()


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "modernbert", "deberta-v2"])
def test_the_threshold_goes_into_the_bias_of_every_family(kind: str) -> None:
    from dupmae.retriever.model import _threshold_in_bias

    settings = RetrieverSettings.model_validate({"representation": {"dimensions": 8}})
    encoder = HybridEncoder(Backbone(tiny_model(kind, dtype=torch.float32)), settings.representation).eval()
    with torch.no_grad():
        encoder.threshold.fill_(0.3)
        folded = _threshold_in_bias(encoder)
        ids = torch.randint(5, 50, (3, 7))
        valid, special = torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)
        texts = Texts(ids, valid, special)
        before, after = encoder(texts).sparse, folded(texts).sparse
    assert folded.threshold == 0
    assert encoder.threshold.item() == pytest.approx(0.3)
    torch.testing.assert_close(before, after)


def test_what_differs_is_told(model: Path, tmp_path: Path) -> None:
    retriever = saved(model, tmp_path / "saved", kind="aggregated")
    told = "\n".join(differences(retriever.encoder, retriever.settings))
    assert "folded to 640 numbers" in told
    assert "term_weights.npy" in told
    plain = saved(model, tmp_path / "plain", kind="cls")
    with torch.no_grad():
        plain.encoder.log_scales.zero_()
    assert len(differences(plain.encoder, plain.settings)) == 1
