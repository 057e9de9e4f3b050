"""A retriever comes back as it was saved, and its vectors are those the equations give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.nn.representation import Texts
from dupmae.retriever.model import Retriever
from dupmae.settings import RetrieverSettings
from tests.reference import representation as reference
from tests.reference import scoring
from tests.reference.objectives import Model
from tests.reference.tiny import sentences, tiny_folder

TEXTS = [*sentences(12), "sorts", "a b c " * 30]


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32, whatever the machine multiplies natively."""
    torch.set_num_threads(1)
    monkeypatch.setattr("dupmae.retriever.model.resolve_dtype", lambda name: torch.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("retriever") / "model")


def built(folder: Path, **representation: Any) -> Retriever:
    torch.manual_seed(0)
    settings = {"representation": {"dimensions": 8, "top_k": 12, **representation}, "passage_length": 24}
    retriever = Retriever.from_encoder(str(folder), RetrieverSettings.model_validate(settings))
    with torch.no_grad():
        encoder = retriever.encoder
        encoder.term_weights.add_(torch.rand_like(encoder.term_weights))
        encoder.threshold.fill_(0.2)
        encoder.mean_length.fill_(9.0)
        encoder.log_scales.copy_(torch.tensor([0.3, -0.5]))
    return retriever


def vectors_of(
    retriever: Retriever, text: str, limit: int, *, passage: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Dense and sparse vector from the loops, part weights and top-k not yet applied."""
    encoder, model = retriever.encoder, Model(retriever.encoder.backbone.lm)
    ids = retriever.tokenizer(text, truncation=True, max_length=limit)["input_ids"]
    with torch.no_grad():
        states = model.states(ids)
        dense = reference.matrix_vector(encoder.projection.weight, states[0])
        mu = reference.maxima([model.logits(state) for state in states[1:-1]])
        threshold, weights = encoder.threshold, encoder.term_weights
        sparse = reference.activated(mu, threshold=threshold, weights=weights, logarithm=True)
        if passage and encoder.has_counts:
            whole = retriever.tokenizer(text, add_special_tokens=False)["input_ids"]
            sparse = sparse + reference.counted(whole, weights, factor=encoder.lexical_weight, mean_length=9.0)
        return dense, sparse


def test_vectors_and_scores_equal_the_loops(folder: Path) -> None:
    retriever = built(folder)
    queries, passages = retriever.encode_queries(TEXTS[:4]), retriever.encode_passages(TEXTS)
    scores = retriever.score(queries, passages)
    a, b = retriever.encoder.log_scales.detach().exp().tolist()
    left = [vectors_of(retriever, text, 32) for text in TEXTS[:4]]
    right = [vectors_of(retriever, text, 24, passage=True) for text in TEXTS]
    for row, (dense, sparse) in enumerate(left):
        np.testing.assert_allclose(queries.dense[row], a * dense.numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(queries.sparse[[row]].toarray()[0], b * sparse.numpy(), rtol=1e-4, atol=1e-5)
        for column, (other, terms) in enumerate(right):
            kept = scoring.kept_terms(terms.tolist(), 12)
            expected = a * scoring.dense_score(dense.tolist(), other.tolist())
            expected += b * sum(float(sparse[term]) * value for term, value in kept.items())
            assert scores[row, column] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_scores_equal_those_of_training(folder: Path) -> None:
    retriever = built(folder, lexical="none")
    given = retriever.tokenizer(TEXTS, truncation=True, max_length=24, padding=True, return_tensors="pt")
    special = torch.isin(given["input_ids"], torch.tensor(retriever.tokenizer.all_special_ids))
    with torch.no_grad():
        vectors = retriever.encoder(Texts(given["input_ids"], given["attention_mask"].bool(), special))
        dense, sparse = retriever.encoder.scores(vectors, vectors)
    assert dense is not None
    assert sparse is not None
    retriever.settings = retriever.settings.model_copy(update={"query_length": 24})
    found = retriever.score(retriever.encode_queries(TEXTS), retriever.encode_passages(TEXTS))
    np.testing.assert_allclose(found, (dense + sparse).numpy(), rtol=1e-4, atol=1e-4)


def test_both_shares_add_up_to_the_score(folder: Path) -> None:
    retriever = built(folder)
    queries, passages = retriever.encode_queries(TEXTS[:3]), retriever.encode_passages(TEXTS)
    dense, sparse = queries.dense @ passages.dense.T, (queries.sparse @ passages.sparse.T).toarray()
    np.testing.assert_allclose(retriever.score(queries, passages), dense + sparse, rtol=1e-6)
    assert np.abs(dense).min() > 0
    assert np.abs(sparse).max() > 0


def test_a_passage_keeps_top_k_and_a_query_everything(folder: Path) -> None:
    retriever = built(folder)
    queries, passages = retriever.encode_queries(TEXTS), retriever.encode_passages(TEXTS)
    assert np.diff(passages.sparse.indptr).max() == 12
    assert np.diff(queries.sparse.indptr).max() > 12
    assert passages.sparse.data.min() > 0
    assert passages.sparse.has_sorted_indices


@pytest.mark.parametrize("kind", ["hybrid", "cls", "bow", "aggregated"])
def test_saved_and_loaded_gives_the_same_vectors(folder: Path, tmp_path: Path, kind: str) -> None:
    retriever = built(folder, kind=kind)
    with pytest.raises(DupmaeError, match="call save first"):
        retriever.fingerprint()
    retriever.save(tmp_path / "saved")
    loaded = Retriever.load(tmp_path / "saved")
    assert loaded.settings == retriever.settings
    assert loaded.fingerprint() == retriever.fingerprint()
    for encode in ("encode_queries", "encode_passages"):
        before, after = getattr(retriever, encode)(TEXTS), getattr(loaded, encode)(TEXTS)
        # The threshold now stands in the head's bias, which rounds differently.
        np.testing.assert_allclose(before.dense, after.dense, atol=1e-6)
        np.testing.assert_allclose(before.sparse.toarray(), after.sparse.toarray(), atol=1e-6)
    loaded.save(tmp_path / "again")
    assert loaded.fingerprint() == retriever.fingerprint()
    widths = {"bow": 0, "aggregated": 8 + 640}
    assert (loaded.dimensions, loaded.vocabulary) == (widths.get(kind, 8), len(loaded.tokenizer))


def test_untied_towers_come_back_as_two(folder: Path, tmp_path: Path) -> None:
    retriever = built(folder, tied=False)
    assert retriever.encoder.query_backbone is not None
    with torch.no_grad():
        for parameter in retriever.encoder.query_backbone.parameters():
            parameter.mul_(1.1)
    loaded = Retriever.load(retriever.save(tmp_path / "saved"))
    queries, passages = loaded.encode_queries(TEXTS), loaded.encode_passages(TEXTS)
    assert np.abs(queries.dense - passages.dense).max() > 0.01
    np.testing.assert_allclose(queries.dense, retriever.encode_queries(TEXTS).dense, atol=1e-6)
    np.testing.assert_allclose(passages.dense, retriever.encode_passages(TEXTS).dense, atol=1e-6)


def test_other_settings_than_those_of_training_are_told(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = built(folder)
    saved = retriever.save(tmp_path / "saved")
    other = retriever.representation.model_copy(update={"top_k": 3})
    with caplog.at_level("WARNING", logger="dupmae"):
        Retriever.load(saved, settings=retriever.settings)
        assert not caplog.records
        loaded = Retriever.load(saved, settings=retriever.settings.model_copy(update={"representation": other}))
    assert [record.getMessage() for record in caplog.records] == [f"{saved}: trained with top_k=12, loaded with 3"]
    assert np.diff(loaded.encode_passages(TEXTS).sparse.indptr).max() == 3


def test_a_tokenizer_of_another_model_is_told(folder: Path) -> None:
    retriever = built(folder)
    retriever.tokenizer.add_tokens(["anothertoken"])
    with pytest.raises(DupmaeError, match="the model knows"):
        Retriever(retriever.encoder, retriever.tokenizer, retriever.settings)


def test_prefixes_stand_before_queries_and_passages(folder: Path) -> None:
    plain = built(folder)
    told = plain.settings.model_copy(update={"query_prefix": "ask: ", "passage_prefix": "tell: "})
    retriever = Retriever(plain.encoder, plain.tokenizer, told)
    for encode, prefix in (("encode_queries", "ask: "), ("encode_passages", "tell: ")):
        expected = getattr(plain, encode)([prefix + text for text in TEXTS])
        np.testing.assert_array_equal(getattr(retriever, encode)(TEXTS).dense, expected.dense)


def test_vectors_come_in_the_order_of_the_texts(folder: Path) -> None:
    """Texts of all lengths in small batches equal each text by itself."""
    retriever = built(folder)
    together = retriever.encode_passages(TEXTS, batch_tokens=48)
    for row, text in enumerate(TEXTS):
        alone = retriever.encode_passages([text])
        np.testing.assert_allclose(together.dense[row], alone.dense[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(together.sparse[[row]].toarray(), alone.sparse.toarray(), rtol=1e-3, atol=1e-4)


def test_empty_text_and_unknown_words_are_encoded(folder: Path) -> None:
    encoded = built(folder).encode_queries(["", "☃ ☃"])
    assert np.isfinite(encoded.dense).all()
    assert np.isfinite(encoded.sparse.data).all()


def test_other_folders_and_versions_are_told_apart(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="not a retriever folder"):
        Retriever.load(folder)
    saved = built(folder).save(tmp_path / "saved")
    write_text(saved / "representation.json", '{"representation": {"colour": 1}}')
    with pytest.raises(DupmaeError, match=r"representation\.json.*use the version that wrote it"):
        Retriever.load(saved)


@pytest.mark.parametrize("name", ["representation.safetensors", "model.safetensors"])
def test_a_damaged_file_is_told(folder: Path, tmp_path: Path, name: str) -> None:
    saved = built(folder).save(tmp_path / "saved")
    file = saved / name
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DupmaeError, match="saved"):
        Retriever.load(saved)


def test_a_missing_parameter_is_told(folder: Path, tmp_path: Path) -> None:
    saved = built(folder).save(tmp_path / "saved")
    (saved / ".dupmae").unlink()
    state = load_file(saved / "representation.safetensors")
    del state["projection.weight"]
    save_file(state, saved / "representation.safetensors")
    with pytest.raises(DupmaeError, match=r"representation\.safetensors.*projection"):
        Retriever.load(saved)


def test_a_retriever_without_a_weight_of_its_head_is_refused(folder: Path, tmp_path: Path) -> None:
    saved = built(folder).save(tmp_path / "saved")
    (saved / ".dupmae").unlink()
    weights = load_file(saved / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "LayerNorm.bias" not in name or "cls" not in name},
        saved / "model.safetensors",
    )
    with pytest.raises(DupmaeError, match=r"its weights lack cls\.predictions\.transform\.LayerNorm\.bias"):
        Retriever.load(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "representation.safetensors", "tokenizer.json"])
def test_a_single_flipped_bit_is_noticed(folder: Path, tmp_path: Path, name: str) -> None:
    saved = built(folder).save(tmp_path / "saved")
    file = saved / name
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    with pytest.raises(DupmaeError, match=f"{name}: is not what was written"):
        Retriever.load(saved)
