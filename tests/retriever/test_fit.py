"""Tokenizer, model and lengths that do not go together, and a retriever asked by several threads."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM

from dupmae.errors import DupmaeError
from dupmae.nn.representation import Texts
from dupmae.retriever.model import Retriever
from dupmae.settings import Representation, RetrieverSettings
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData
from tests.tiny import documents, tiny_retriever

TEXTS = [passage.text for passage in documents(40)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    saved = tiny_retriever(tmp_path_factory.mktemp("fit") / "retriever").folder
    assert saved is not None
    return saved


def test_two_threads_get_the_vectors_of_one(folder: Path) -> None:
    retriever = Retriever.load(folder, dtype="fp32")
    queries = retriever.encode_queries(TEXTS).dense
    passages = retriever.encode_passages(TEXTS).dense
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            asked = pool.submit(lambda: [retriever.encode_queries(TEXTS).dense for _ in range(12)])
            ranked = pool.submit(lambda: [retriever.encode_passages(TEXTS).dense for _ in range(12)])
            pairs = [(queries, asked.result()), (passages, ranked.result())]
    finally:
        sys.setswitchinterval(interval)
    for expected, found in pairs:
        for vectors in found:
            np.testing.assert_allclose(vectors, expected, atol=1e-5)


def test_a_left_sided_tokenizer_is_trained_as_it_is_used(folder: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    sides = {"padding_side": "left", "truncation_side": "left"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | sides))
    left = load_tokenizer(tmp_path)
    retriever = Retriever.load(folder, dtype="fp32")
    aside = Retriever(retriever.encoder, left, retriever.settings, dtype="fp32")
    data = PairData(TEXTS[20:], TEXTS[:20], [[n] for n in range(20)], [[] for _ in range(20)])
    steps = FinetuningSteps(
        data, HardNegatives(data, 1), left, steps=1, batch_size=4, per_query=0, lengths=(16, 64), seed=0
    )
    item = steps[0]
    assert item["query_valid"][:, 0].all()
    with torch.no_grad():
        texts = (item["query_ids"], item["query_valid"], item["query_special"])
        trained = aside.encoder(Texts(*texts), queries=True).dense
    rows = [TEXTS.index(data.queries[query]) for query in steps._queries(0)]
    used = aside.encode_queries([TEXTS[row] for row in rows]).dense
    np.testing.assert_allclose(trained, used, atol=1e-4)
    # What is cut is the beginning, as the tokenizer says.
    assert np.abs(used - retriever.encode_queries([TEXTS[row] for row in rows]).dense).max() > 1e-3


@pytest.mark.parametrize("name", ["query_length", "passage_length"])
def test_texts_longer_than_the_model_takes_are_refused_when_opened(folder: Path, name: str) -> None:
    settings = RetrieverSettings(representation=Representation(kind="cls", dimensions=8))
    longer = settings.model_copy(update={"query_length": 16, "passage_length": 64, name: 512})
    with pytest.raises(DupmaeError, match=f"{name}: the model takes 128 tokens .set {name}=128 or less"):
        Retriever.from_encoder(str(folder), longer)


def test_entries_without_a_token_are_no_terms(folder: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(folder)
    before = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(before + 1, pad_to_multiple_of=256)
    with torch.no_grad():
        # They would win every maximum.
        model.get_output_embeddings().bias[before:] = 50.0
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(folder).save_pretrained(tmp_path / "model")
    shape = Representation(kind="hybrid", dimensions=8, top_k=32)
    settings = RetrieverSettings(representation=shape, query_length=16, passage_length=64)
    retriever = Retriever.from_encoder(str(tmp_path / "model"), settings)
    assert retriever.vocabulary > before
    for encoded in (retriever.encode_passages(TEXTS), retriever.encode_queries(TEXTS)):
        assert encoded.sparse.nnz
        assert encoded.sparse.indices.max() < before
    retriever.save(tmp_path / "saved")
    assert Retriever.load(tmp_path / "saved").encode_passages(TEXTS).sparse.indices.max() < before
