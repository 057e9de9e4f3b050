"""Teachers: a cross-encoder learns to tell positives from mined negatives, scores pairs, and reorders runs."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from dupmae.corpus.negatives import MinedQuery, read_mined, read_scores, write_mined
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from dupmae.evaluation.runs import read_run, write_run
from dupmae.files import write_text
from dupmae.settings import Rerank, TrainReranker
from dupmae.stages.rerank import rerank
from dupmae.stages.train_reranker import Taught, _last_checkpoint, open_teacher, train_reranker
from tests.reference.tiny import tiny_folder
from tests.stages.taught import QUERIES, data_folder, mined_file
from tests.tiny import call

ListNetLoss = pytest.importorskip("sentence_transformers.cross_encoder.losses").ListNetLoss


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teach")
    data_folder(folder / "data")
    mined_file(folder / "data", folder / "mined")
    tiny_folder(folder / "model", head=False)
    return folder


def run(start: Path, out: Path, **changes: Any) -> Taught:
    values = {
        "data": start / "data",
        "mined": start / "mined" / "negatives.jsonl",
        "model": str(start / "model"),
        "out": out,
        "length": 64,
        "steps": 6,
        "batch_size": 4,
        "negatives": 3,
        "save_every": 2,
        "log_every": 1,
        "dtype": "fp32",
    }
    return train_reranker(TrainReranker.model_validate(values | changes))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_signal_saves_and_ends_with_its_code(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    loss, calls = ListNetLoss.forward, []

    def stops(self: Any, *given: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), number)
        return loss(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(ListNetLoss, "forward", stops)
        with pytest.raises(SystemExit) as stopped:
            run(start, tmp_path / "a")
    assert stopped.value.code == 128 + number
    assert [path.name for path in (tmp_path / "a-training").glob("checkpoint-3")] == ["checkpoint-3"]
    assert not (tmp_path / "a" / "cross-encoder").exists()
    assert run(start, tmp_path / "a", resume=True).steps == 6


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def easily_told_apart(file: Path) -> Path:
    """Negatives that all are of one kind, which no positive is."""
    worse = [f"d{n}" for n in range(5, 60, 6)]
    better = [n for n in range(QUERIES) if n % 6 != 5]
    write_mined(file, [MinedQuery(f"q{n}", [f"d{n}"], worse, [0.0] * len(worse)) for n in better])
    return file


def test_a_teacher_learns_and_scores_every_pair(start: Path, tmp_path: Path) -> None:
    mined = easily_told_apart(tmp_path / "mined.jsonl")
    done = run(start, tmp_path / "out", mined=mined, steps=40, learning_rate=2e-3, save_every=1000)
    history = losses(tmp_path / "out")
    assert len(history) == done.steps == 40
    assert sum(history[-10:]) < 0.8 * sum(history[:10])
    assert not (tmp_path / "out-training").exists()
    items = list(read_mined(mined))
    scores = read_scores(done.scores)
    assert {query: list(found) for query, found in scores.items()} == {
        item.query: [*item.positives, *item.negatives] for item in items
    }
    assert done.pairs == sum(len(found) for found in scores.values())
    training = open_training(start / "data")
    texts = {passage.id: passage.content for _, passage in training.passages()}
    model = open_teacher(str(done.teacher), 64)
    item = items[3]
    pairs = [(training.queries[item.query], texts[name]) for name in scores[item.query]]
    logits = model.predict(pairs, activation_fn=torch.nn.Identity())
    assert list(scores[item.query].values()) == pytest.approx(logits.tolist(), rel=1e-4)
    best = [max(found, key=found.__getitem__) for found in scores.values()]
    first = [name in item.positives for item, name in zip(items, best, strict=True)]
    assert sum(first) > 0.8 * len(first)


def test_an_existing_teacher_only_scores(start: Path, tmp_path: Path) -> None:
    first = run(start, tmp_path / "first")
    again = run(start, tmp_path / "again", model=None, teacher=first.teacher)
    assert read_scores(again.scores) == read_scores(first.scores)
    assert again.steps == 0
    assert again.teacher == first.teacher
    assert not (tmp_path / "again" / "cross-encoder").exists()


def test_a_stopped_teacher_goes_on(start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(start, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("dupmae.stages.train_reranker.shutil", SimpleNamespace(rmtree=lambda *_, **__: None))
        run(start, tmp_path / "cut")
    folder = tmp_path / "cut-training"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    shutil.rmtree(tmp_path / "cut")
    # Killed while it wrote its last checkpoint.
    (folder / "checkpoint-6" / "trainer_state.json").write_text('{"global_step": 6, "log_')
    assert _last_checkpoint(folder) == folder / "checkpoint-4"
    with pytest.raises(DupmaeError, match="cut-training: holds checkpoints of an earlier run"):
        run(start, tmp_path / "cut")
    with pytest.raises(DupmaeError, match="cut-training: negatives is 2, the run was started with 3"):
        run(start, tmp_path / "cut", resume=True, negatives=2)
    resumed = run(start, tmp_path / "cut", resume=True)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    one, other = (load_file(done.teacher / "model.safetensors") for done in (whole, resumed))
    assert all(weight.equal(other[name]) for name, weight in one.items())
    assert whole.scores.read_bytes() == resumed.scores.read_bytes()


def test_a_teacher_without_scores_is_told(start: Path, tmp_path: Path) -> None:
    config = BertConfig.from_pretrained(start / "model", num_labels=1)
    broken = BertForSequenceClassification(config)
    # Finite weights whose sum is not.
    torch.nn.init.constant_(broken.bert.pooler.dense.bias, 10.0)
    torch.nn.init.constant_(broken.classifier.weight, 3e38)
    broken.save_pretrained(tmp_path / "broken")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(start / "model" / name, tmp_path / "broken" / name)
    with pytest.raises(DupmaeError, match=r"scores\.jsonl: the teacher's score of query q0 and passage d0 is inf"):
        run(start, tmp_path / "out", model=None, teacher=tmp_path / "broken")
    assert not (tmp_path / "out" / "scores.jsonl").exists()


def test_a_run_in_a_new_order(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run(start, tmp_path / "out", steps=1)
    before = {f"q{n}": {f"d{place}": float(-place) for place in range(20)} for n in range(QUERIES)}
    write_run(tmp_path / "run.trec", before, "first")
    words = ["--teacher", done.teacher, "--data", start / "data", "--run", tmp_path / "run.trec"]
    assert call("rerank", *words, "--out", tmp_path / "new", "depth=5", "length=64", "--quiet") == 0
    assert "ndcg@10" in capsys.readouterr().out
    after = read_run(tmp_path / "new" / "run.trec")
    scores = read_scores(done.scores)
    for query, found in after.items():
        assert sorted(found) == [f"d{place}" for place in range(5)]
        for name in found.keys() & scores[query].keys():
            assert found[name] == pytest.approx(scores[query][name], rel=1e-3, abs=1e-5)
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())["metrics"]
    assert 0 < metrics["mrr@10"] <= 1


@pytest.mark.parametrize(("old", "new", "kind"), [("q3 ", "q99 ", "query q99"), (" d3 ", " d99 ", "passage d99")])
def test_a_run_of_something_else(old: str, new: str, kind: str, start: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "run.trec", {f"q{n}": {f"d{n}": 1.0} for n in range(QUERIES)}, "first")
    write_text(tmp_path / "run.trec", (tmp_path / "run.trec").read_text().replace(old, new, 1))
    values = {"teacher": start / "model", "data": start / "data", "run": tmp_path / "run.trec"}
    with pytest.raises(DupmaeError, match=f"run.trec: unknown {kind}"):
        rerank(Rerank.model_validate({**values, "out": tmp_path / "out"}))


def test_texts_longer_than_the_model_are_refused(start: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="length: the model takes 128 tokens"):
        run(start, tmp_path / "out", length=129)
    assert open_teacher(str(start / "model"), trained=False).max_seq_length == 128
    assert open_teacher(str(run(start, tmp_path / "short", steps=1).teacher)).max_seq_length == 64


def test_model_or_teacher(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train-reranker", "data=d", "mined=m", "--out", tmp_path / "out") == 2
    assert "give either model, to train from, or teacher, to score with" in capsys.readouterr().err
