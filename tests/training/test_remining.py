"""Negatives that are mined anew during a run: they follow the weights, and stopping changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dupmae.files import remove_folder
from dupmae.retriever.model import Retriever
from dupmae.settings import Finetune
from dupmae.stages.finetune import Finetuned, finetune
from dupmae.training.candidates import NOTHING
from dupmae.training.pairs import read_pair_data
from dupmae.training.remining import mine_again
from tests.reference.tiny import tiny_folder
from tests.tiny import beir_folder


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remine_every")
    beir_folder(folder / "data", 40)
    tiny_folder(folder / "model")
    return folder


def run(start: Path, out: Path, **changes: Any) -> Finetuned:
    values = {
        "model": str(start / "model"),
        "data": start / "data",
        "out": out,
        "representation": {"dimensions": 16, "top_k": 20},
        "batch_size": 8,
        "negative_depth": 6,
        "steps": 9,
        "remine_every": 4,
        "learning_rate": 5e-3,
        "save_every": 3,
        "log_every": 1,
        "passage_length": 32,
        "dtype": "fp32",
    }
    return finetune(Finetune.model_validate(values | changes))


def training(out: Path) -> Path:
    return out.with_name(f"{out.name}-training")


def mined(out: Path, step: int) -> np.ndarray:
    found: np.ndarray = np.load(training(out) / f"negatives-{step}.npy", allow_pickle=False)
    return found


def weights(done: Finetuned) -> dict[str, torch.Tensor]:
    return load_file(done.retriever / "model.safetensors") | load_file(done.retriever / "representation.safetensors")


def test_negatives_follow_the_weights(start: Path, tmp_path: Path) -> None:
    done = run(start, tmp_path / "a")
    pairs = read_pair_data(start / "data", whole=True)
    for step in (4, 8):
        found = mined(tmp_path / "a", step)
        assert found.shape == (40, 6)
        for query, row in enumerate(found):
            assert not pairs.answers.among(query, row[row != NOTHING].tolist()).any()
    assert (mined(tmp_path / "a", 4) != mined(tmp_path / "a", 8)).any()
    plain = run(start, tmp_path / "plain", remine_every=None)
    losses, others = ([line["loss"] for line in each.log] for each in (done, plain))
    assert losses[:4] == others[:4]
    assert losses[4] != others[4]


def test_the_same_twice(start: Path, tmp_path: Path) -> None:
    first, second = run(start, tmp_path / "a"), run(start, tmp_path / "b")
    assert [line["loss"] for line in first.log] == [line["loss"] for line in second.log]
    assert all(weight.equal(weights(second)[name]) for name, weight in weights(first).items())
    assert (mined(tmp_path / "a", 8) == mined(tmp_path / "b", 8)).all()


@pytest.mark.parametrize(("save_every", "back_to"), [(3, 6), (4, 8)])
def test_a_resumed_run_goes_on_with_its_negatives(save_every: int, back_to: int, start: Path, tmp_path: Path) -> None:
    whole = run(start, tmp_path / "whole")
    run(start, tmp_path / "cut", save_every=save_every)
    folder = training(tmp_path / "cut")
    for checkpoint in folder.glob("checkpoint-*"):
        if int(checkpoint.name.partition("-")[2]) > back_to:
            remove_folder(checkpoint)
    assert (folder / f"checkpoint-{back_to}").is_dir()
    resumed = run(start, tmp_path / "cut", save_every=save_every, resume=True)
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in whole.log]
    assert all(weight.equal(weights(resumed)[name]) for name, weight in weights(whole).items())


def test_what_is_mined_is_what_the_retriever_ranks_best(start: Path, tmp_path: Path) -> None:
    done = run(start, tmp_path / "a", steps=2, remine_every=None)
    retriever, pairs = Retriever.load(done.retriever), read_pair_data(start / "data", whole=True)
    found = mine_again(pairs, retriever, 5)
    scores = retriever.score(retriever.encode_queries(pairs.queries), retriever.encode_passages(pairs.passages))
    for query, row in enumerate(found):
        scores[query, pairs.positives[query]] = -np.inf
        best = np.sort(scores[query])[::-1][:5]
        np.testing.assert_allclose(scores[query, row], best, rtol=2e-2)
