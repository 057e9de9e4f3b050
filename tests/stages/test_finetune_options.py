"""Options of fine-tuning: resume, towers, part weights, prefixes, regularisers, going on from a retriever."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.settings import Finetune, Representation
from dupmae.stages.finetune import finetune
from tests.reference.tiny import tiny_folder
from tests.training.tuning import TEXTS, settings, write_beir, write_pairs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("finetune") / "model")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_beir(tmp_path_factory.mktemp("beir") / "set")


def test_a_stopped_run_ends_as_one_that_was_not(pairs: Path, model: Path, tmp_path: Path) -> None:
    whole = finetune(settings(model, pairs, tmp_path / "whole", steps=6, save_every=2, dropout=0.3, chunk_size=3))
    changes = {"steps": 6, "save_every": 2, "dropout": 0.3, "chunk_size": 5, "resume": True}
    shutil.copytree(tmp_path / "whole-training", tmp_path / "again-training")
    shutil.rmtree(tmp_path / "again-training" / "checkpoint-6")
    with pytest.raises(DupmaeError, match="batch_size is 9, the run was started with 8"):
        finetune(settings(model, pairs, tmp_path / "again", **changes, batch_size=9))
    again = finetune(settings(model, pairs, tmp_path / "again", **{**changes, "chunk_size": 3}))
    assert [line["loss"] for line in again.log] == [line["loss"] for line in whole.log]
    for name in ("model.safetensors", "representation.safetensors"):
        first, second = (load_file(run.retriever / name) for run in (whole, again))
        assert all(first[key].equal(second[key]) for key in first)
    with pytest.raises(DupmaeError, match="holds checkpoints of an earlier run"):
        finetune(settings(model, pairs, tmp_path / "again", **{**changes, "resume": False}))


def test_without_checkpoints(pairs: Path, model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        finetune(settings(model, pairs, tmp_path / "out", save_every=0))
    assert [path.name for path in (tmp_path / "out-training").iterdir()] == ["log.jsonl"]
    with pytest.raises(ValueError, match="no checkpoints with save_every: 0"):
        settings(model, pairs, tmp_path / "out", save_every=0, resume=True)


def test_epochs_are_passes_over_the_queries(beir: Path, model: Path, tmp_path: Path) -> None:
    assert finetune(settings(model, beir, tmp_path / "out", steps=None, epochs=0.5, batch_size=9)).steps == 2


def test_untied_towers_learn_apart(pairs: Path, model: Path, tmp_path: Path) -> None:
    representation = {"dimensions": 16, "top_k": 20, "tied": False}
    changes = {"representation": representation, "learning_rate": 1e-3, "query_prefix": "the ", "passage_prefix": "a "}
    retriever = Retriever.load(finetune(settings(model, pairs, tmp_path / "out", **changes)).retriever)
    assert retriever.encoder.query_backbone is not None
    weights = [tower.output.weight for tower in (retriever.encoder.backbone, retriever.encoder.query_backbone)]
    assert not weights[0].equal(weights[1])
    assert (retriever.settings.query_prefix, retriever.settings.passage_prefix) == ("the ", "a ")
    asked, found = retriever.encode_queries(TEXTS[:2]), retriever.encode_passages(TEXTS[:2])
    assert not np.allclose(asked.dense, found.dense, rtol=0.01)


@pytest.mark.parametrize(("dimensions", "told"), [(16, True), (32, False)])
def test_a_random_projection_is_told(
    pairs: Path,
    model: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    dimensions: int,
    told: bool,
) -> None:
    monkeypatch.setattr(logging.getLogger("dupmae"), "propagate", True)
    caplog.set_level(logging.INFO, "dupmae")
    representation = {"dimensions": dimensions, "top_k": 20}
    finetune(settings(model, pairs, tmp_path / "out", representation=representation, steps=1))
    text = "dense part: 16 numbers from the encoder's 32, by a random projection; representation.dimensions=32 would"
    assert (text in caplog.text) is told


def test_part_weights_that_are_given_stay(pairs: Path, model: Path, tmp_path: Path) -> None:
    representation = {"dimensions": 16, "top_k": 20, "part_weights": [2.0, 0.5]}
    run = finetune(settings(model, pairs, tmp_path / "out", representation=representation, new_learning_rate=0.1))
    kept = Retriever.load(run.retriever).encoder.log_scales
    np.testing.assert_allclose(kept.exp().detach().numpy(), [2.0, 0.5], rtol=1e-6)


def test_a_retriever_is_trained_on(
    pairs: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dupmae"), "propagate", True)
    first = finetune(settings(model, pairs, tmp_path / "first", steps=30, learning_rate=2e-3))
    changes = {"representation": {"dimensions": 16, "top_k": 10}, "steps": 1, "warmup": 0.5}
    second = finetune(settings(first.retriever, pairs, tmp_path / "second", **changes))
    assert "trained with top_k=20, loaded with 10" in caplog.text
    # The rate of the only step is 0.
    weights = [load_file(run.retriever / "representation.safetensors")["projection.weight"] for run in (first, second)]
    assert weights[0].equal(weights[1])


def test_what_is_not_given_stays_as_the_retriever_has_it(
    pairs: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("dupmae"), "propagate", True)
    own = {"dimensions": 16, "top_k": 20, "pooling": "mean", "normalize": True, "query_terms": "input"}
    changes = {"representation": own, "query_prefix": "the ", "passage_length": 40, "steps": 2}
    first = finetune(settings(model, pairs, tmp_path / "first", **changes))
    given = {"model": str(first.retriever), "data": pairs, "out": tmp_path / "second", "steps": 2, "negatives": 0}
    second = finetune(Finetune.model_validate({**given, "representation": {"top_k": 9}, "query_prefix": "a "}))
    kept, now = (Retriever.load(run.retriever).settings for run in (first, second))
    expected = kept.model_dump() | {"query_prefix": "a "}
    assert now.model_dump() == expected | {"representation": expected["representation"] | {"top_k": 9}}
    assert "trained with top_k=20, loaded with 9" in caplog.text
    assert "pooling" not in caplog.text
    with pytest.raises(DupmaeError, match=r"first: .*give settings that go with the retriever's"):
        finetune(Finetune.model_validate({**given, "representation": {"matryoshka": [20]}}))


@pytest.mark.parametrize(
    ("representation", "complaint"),
    [
        ({"matryoshka": [384]}, "widths are between 1 and dimensions - 1 = 383"),
        ({"kind": "bow", "matryoshka": [8]}, "there is no dense part"),
        ({"kind": "cls", "query_flops": 0.1}, "no sparse vectors"),
        ({"part_weights": [1.0]}, "two numbers above 0"),
        ({"part_weights": [1.0, 0.0]}, "two numbers above 0"),
    ],
)
def test_impossible_representations(representation: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Representation.model_validate(representation)


def test_flops_makes_vectors_shorter(pairs: Path, model: Path, tmp_path: Path) -> None:
    counts = []
    for weight in (0.0, 10.0):
        representation = {"kind": "bow", "top_k": 100, "query_flops": weight, "passage_flops": weight}
        run = finetune(
            settings(model, pairs, tmp_path / str(weight), representation=representation, steps=30, learning_rate=1e-3)
        )
        counts.append(Retriever.load(run.retriever).encode_passages(TEXTS).sparse.nnz)
        assert ("passage_flops" in run.log[0]) == (weight > 0)
    assert counts[1] < 0.8 * counts[0]


def test_a_shorter_dense_part_is_the_first_dimensions(pairs: Path, model: Path, tmp_path: Path) -> None:
    representation = {"dimensions": 16, "top_k": 20, "matryoshka": [8]}
    whole = Retriever.load(finetune(settings(model, pairs, tmp_path / "out", representation=representation)).retriever)
    chosen = Representation.model_validate(representation | {"dimensions": 8, "matryoshka": []})
    short = Retriever.load(
        tmp_path / "out", settings=whole.settings.model_copy(update={"representation": chosen}), dtype="fp32"
    )
    assert short.dimensions == 8
    found = Retriever.load(tmp_path / "out", dtype="fp32").encode_passages(TEXTS[:3])
    np.testing.assert_allclose(short.encode_passages(TEXTS[:3]).dense, found.dense[:, :8], rtol=1e-4, atol=1e-5)
