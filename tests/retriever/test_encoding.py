"""Blocks, batches and devices change nothing about the vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dupmae.retriever import encoding
from dupmae.retriever.model import Retriever
from dupmae.retriever.vectors import Encoded
from dupmae.shards.tokenise import Tokenisation
from tests.tiny import documents, tiny_retriever

TEXTS = [passage.text[: 7 * place] for place, passage in enumerate(documents(40))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    saved = tiny_retriever(tmp_path_factory.mktemp("encoding") / "retriever").folder
    assert saved is not None
    return saved


def equal(left: Encoded, right: Encoded) -> None:
    np.testing.assert_allclose(left.dense, right.dense, atol=1e-5)
    np.testing.assert_allclose(left.sparse.toarray(), right.sparse.toarray(), atol=1e-5)


def test_several_devices_share_the_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Retriever.load(folder, dtype="fp32")
    monkeypatch.setattr("dupmae.retriever.model.devices", lambda: [torch.device("cpu")] * 3)
    three = Retriever.load(folder, dtype="fp32")
    equal(one.encode_passages(TEXTS), three.encode_passages(TEXTS, batch_tokens=64))
    equal(one.encode_queries(TEXTS), three.encode_queries(TEXTS, batch_tokens=64))
    # More devices than batches: the last ones have nothing to do.
    equal(one.encode_queries(TEXTS[:2]), three.encode_queries(TEXTS[:2]))


def test_blocks_come_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retriever = Retriever.load(folder, dtype="fp32")
    whole = retriever.encode_passages(TEXTS)
    monkeypatch.setattr(encoding, "BLOCK", 7)
    parts = list(retriever.passage_batches(TEXTS))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 7, 5]
    equal(whole, Encoded.concatenate(parts))
    # Long texts make shorter blocks: a column of texts of 2 GiB would be too much for what is written of them.
    monkeypatch.setattr(encoding, "BLOCK_CHARACTERS", 500)
    parts = list(retriever.passage_batches(TEXTS))
    assert [len(part) for part in parts][:2] == [7, 7]
    assert all(len(part) == 1 for part in parts[-3:])
    equal(whole, Encoded.concatenate(parts))


@pytest.mark.parametrize("ahead", [False, True])
def test_tokenising_ahead_keeps_the_order(folder: Path, ahead: bool) -> None:
    tokenise = Tokenisation(Retriever.load(folder).tokenizer)
    blocks = [TEXTS[start : start + 7] for start in range(0, len(TEXTS), 7)]
    done = list(encoding._mapped(lambda block: tokenise(block, 20), iter(blocks), ahead=ahead))
    assert [len(tokens.lengths) for tokens in done] == [7, 7, 7, 7, 7, 5]
    together = tokenise(TEXTS, 20)
    assert np.array_equal(np.concatenate([tokens.ids for tokens in done]), together.ids)


def test_no_texts_give_no_rows(folder: Path) -> None:
    retriever = Retriever.load(folder)
    for encoded in (retriever.encode_queries([]), retriever.encode_passages([])):
        assert (encoded.dense.shape, encoded.sparse.shape) == ((0, 8), (0, retriever.vocabulary))


def test_bfloat16_stays_close(folder: Path) -> None:
    exact, rounded = (Retriever.load(folder, dtype=dtype).encode_passages(TEXTS).dense for dtype in ("fp32", "bf16"))
    assert np.abs(exact - rounded).max() > 0
    cosines = (exact * rounded).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.999
