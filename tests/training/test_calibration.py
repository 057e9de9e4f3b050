"""What fine-tuning sets by measuring: statistics of the passages' words, weights of the parts."""

from __future__ import annotations

from pathlib import Path

import bm25s
import numpy as np
import pytest
import torch

from dupmae.nn.representation import K1, B, HybridEncoder
from dupmae.retriever.backbones import open_backbone
from dupmae.retriever.model import Retriever
from dupmae.settings import Representation, RetrieverSettings
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.training.calibration import CONTINUED, count_terms
from dupmae.training.pairs import PairData
from tests.reference.tiny import tiny_folder
from tests.training.tuning import TEXTS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("calibration") / "model")


def counted(model: Path, passages: list[str], **changes: object) -> Retriever:
    """A retriever over the passages whose head predicts nothing: only what is counted is left."""
    representation = Representation.model_validate({"kind": "bow", "query_terms": "input", "dimensions": 8} | changes)
    backbone, _ = open_backbone(str(model))
    encoder, tokenizer = HybridEncoder(backbone, representation), load_tokenizer(model)
    count_terms(encoder, PairData(passages, [], [], []), tokenizer)
    return Retriever(encoder, tokenizer, RetrieverSettings(representation=representation, passage_length=8))


def test_term_weights_are_idf(model: Path) -> None:
    passages = ["the parser", "the index", "the file the"]
    retriever = counted(model, passages)
    tokenizer = retriever.tokenizer
    documents = np.zeros(len(tokenizer))
    for text in passages:
        for token in set(tokenizer(text, add_special_tokens=False)["input_ids"]):
            documents[token] += 1
    idf = np.log(1 + (3 - documents + 0.5) / (documents + 0.5))
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    expected = np.sqrt(idf * [CONTINUED if name.startswith("##") else 1.0 for name in names])
    found = retriever.encoder.term_weights.detach().numpy()
    np.testing.assert_allclose(found, expected / expected[documents > 0].mean(), rtol=1e-6)


def test_counts_alone_are_bm25(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over word pieces, of whole texts: most stand past the 8 tokens that the encoder reads."""
    monkeypatch.setattr("dupmae.training.calibration.CONTINUED", 1.0)
    retriever = counted(model, TEXTS)
    encoder, tokenizer = retriever.encoder, retriever.tokenizer
    with torch.no_grad():
        encoder.threshold.fill_(float("inf"))
        encoder.lexical_weight.fill_(1.0)
    # A query's terms count with their term weights alone.
    queries = [" ".join(text.split()[2:5]) for text in TEXTS[:9]]
    pieces = [tokenizer.tokenize(text) for text in TEXTS]
    index = bm25s.BM25(method="lucene", k1=K1, b=B)
    index.index(pieces, show_progress=False)
    passages = retriever.encode_passages(TEXTS).sparse
    weights = encoder.term_weights.detach().numpy()
    scores = []
    for query in queries:
        wanted = np.zeros(len(weights), np.float32)
        wanted[sorted(set(tokenizer(query, add_special_tokens=False)["input_ids"]))] = 1.0
        found = passages @ (wanted * weights)
        expected = index.get_scores(sorted(set(tokenizer.tokenize(query))))
        # bm25s has no factor k1 + 1; term weights have a mean of 1.
        scores.append((found, expected))
    factor = scores[0][0].max() / scores[0][1].max()
    for found, expected in scores:
        np.testing.assert_allclose(found, expected * factor, rtol=1e-3, atol=1e-4)


def test_a_word_that_training_never_saw_matches(model: Path) -> None:
    """A new product's name stands in a passage that is indexed later: its pieces are counted there."""
    retriever = counted(model, TEXTS)
    passages = [*TEXTS[:20], "qzxw vvk"]
    scores = retriever.score(retriever.encode_queries(["qzxw vvk"]), retriever.encode_passages(passages))
    assert scores.argmax() == 20


def test_without_counts_there_are_none(model: Path) -> None:
    retriever = counted(model, TEXTS, lexical="none")
    with torch.no_grad():
        retriever.encoder.threshold.fill_(float("inf"))
    assert retriever.encode_passages(TEXTS).sparse.nnz == 0
