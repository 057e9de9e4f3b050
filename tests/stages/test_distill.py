"""Distillation: batches carry the teacher's scores, the divergence falls on queries that were held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dupmae.corpus.negatives import read_mined, read_scores, write_mined, write_scores
from dupmae.files import remove_folder, write_text
from dupmae.nn.distillation import DistillationObjective
from dupmae.retriever.model import Retriever
from dupmae.settings import Distill
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.stages.distill import DistillationSteps, distill, read_judged
from dupmae.stages.finetune import Finetuned
from dupmae.training.pairs import HardNegatives
from tests.reference.tiny import sentences
from tests.stages.taught import QUERIES, data_folder, mined_file, word_scores
from tests.tiny import call, tiny_retriever


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distill")
    data_folder(folder / "data")
    mined_file(folder / "data", folder / "mined")
    word_scores(folder / "data", folder / "mined" / "negatives.jsonl", folder / "scores.jsonl")
    tiny_retriever(folder / "retriever", texts=sentences(60))
    return folder


def settings(start: Path, out: Path, **changes: Any) -> Distill:
    values = {
        "retriever": start / "retriever",
        "data": start / "data",
        "mined": start / "mined" / "negatives.jsonl",
        "scores": start / "scores.jsonl",
        "out": out,
        "steps": 6,
        "batch_size": 6,
        "negatives": 3,
        "learning_rate": 2e-3,
        "log_every": 1,
        "dtype": "fp32",
    }
    return Distill.model_validate(values | changes)


def steps_of(chosen: Distill, steps: int = 40) -> DistillationSteps:
    judged = read_judged(chosen)
    return DistillationSteps(
        judged,
        HardNegatives(judged.pairs, chosen.negative_depth),
        load_tokenizer(chosen.retriever),
        steps=steps,
        batch_size=chosen.batch_size,
        per_query=chosen.negatives,
        lengths=(16, 32),
        seed=chosen.seed,
    )


@pytest.mark.parametrize("negatives", [3, 12])
def test_a_batch_carries_the_scores_of_its_passages(negatives: int, start: Path, tmp_path: Path) -> None:
    chosen = settings(start, tmp_path / "out", negatives=negatives)
    steps, scores = steps_of(chosen), read_scores(chosen.scores)
    items = list(read_mined(chosen.mined))
    pairs = steps.data
    assert len(pairs.queries) == QUERIES
    for step in (0, 5, 13):
        item, queries = steps[step], steps._queries(step)
        drawn = steps._passages(step, queries)
        columns = [drawn[row][rank] for rank in range(1 + negatives) for row in range(len(queries))]
        assert item["group"].shape == (6, 1 + negatives)
        assert item["group"][:, 0].equal(item["targets"])
        assert item["group_valid"][:, 0].all()
        names = {text: name for name, text in _texts(start).items()}
        for row, query in enumerate(queries):
            places = [columns[column] for column in item["group"][row].tolist()]
            assert places == drawn[row]
            known = scores[items[query].query]
            for rank, place in enumerate(places):
                if item["group_valid"][row, rank]:
                    assert float(item["teacher"][row, rank]) == known[names[pairs.passages[place]]]
            assert int(item["group_valid"][row].sum()) >= min(1 + negatives, 1 + len(items[query].negatives))


def _scored(start: Path) -> list[tuple[str, dict[str, float]]]:
    return list(read_scores(start / "scores.jsonl").items())


def _texts(start: Path) -> dict[str, str]:
    lines = (start / "data" / "corpus.jsonl").read_text().splitlines()
    return {record["_id"]: record["text"] for record in map(json.loads, lines)}


def test_parts_are_the_whole_batch(start: Path, tmp_path: Path) -> None:
    steps = steps_of(settings(start, tmp_path / "out"))
    whole, parts = steps[2], [steps.part(2, part, 4) for part in range(4)]
    assert all(part is not None for part in parts)
    for name in ("teacher", "group_valid"):
        assert torch.cat([part[name] for part in parts if part is not None]).equal(whole[name])
    counted = sum(len(part["passage_ids"]) for part in parts if part is not None)
    assert counted == len(whole["passage_ids"])
    for part in parts:
        assert part is not None
        start_, own = int(part["start"]), len(part["passage_ids"])
        assert ((part["group"] >= start_) & (part["group"] < start_ + own)).all()


def held_out(start: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The mined queries in two files: those to train on, and the others."""
    items = list(read_mined(start / "mined" / "negatives.jsonl"))
    files = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    write_mined(files[0], [item for place, item in enumerate(items) if place % 3])
    write_mined(files[1], [item for place, item in enumerate(items) if place % 3 == 0])
    return files


@torch.no_grad()
def divergence(retriever: Path, chosen: Distill) -> float:
    model = DistillationObjective(Retriever.load(retriever).encoder, torch.float32, None, chosen.loss).eval()
    return float(model(steps_of(chosen, 1)[0])[chosen.loss])


@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_it_reduces_the_loss_on_held_out_queries(loss: str, start: Path, tmp_path: Path) -> None:
    trained_on, held = held_out(start, tmp_path)
    # A teacher with a taste in passages, whatever the query: that can be learned from a few.
    texts = _texts(start)
    scores = {query: {name: 4.0 * ("memory" in texts[name]) for name in found} for query, found in _scored(start)}
    write_scores(tmp_path / "scores.jsonl", scores.items())
    given = {"scores": tmp_path / "scores.jsonl", "loss": loss, "negatives": 8, "batch_size": 8}
    held_settings = settings(start, tmp_path / "out", mined=held, **given)
    before = divergence(start / "retriever", held_settings)
    done = distill(settings(start, tmp_path / "out", mined=trained_on, steps=60, dropout=0.0, **given))
    assert divergence(done.retriever, held_settings) < 0.7 * before
    assert set(done.log[0]) >= {loss, "hybrid", "dense", "sparse", "accuracy"}


def weights(done: Finetuned) -> dict[str, torch.Tensor]:
    return load_file(done.retriever / "model.safetensors") | load_file(done.retriever / "representation.safetensors")


def test_the_loss_is_the_weighted_sum(start: Path, tmp_path: Path) -> None:
    line = distill(settings(start, tmp_path / "a", steps=1, contrastive_weight=0.25)).log[0]
    contrastive = line["hybrid"] + 0.5 * (line["dense"] + line["sparse"])
    assert line["loss"] == pytest.approx(line["kl"] + 0.25 * contrastive, rel=1e-5)
    line = distill(settings(start, tmp_path / "b", steps=1)).log[0]
    contrastive = line["hybrid"] + 0.5 * (line["dense"] + line["sparse"])
    assert line["loss"] == pytest.approx(line["kl"] + 4e-4 * contrastive, rel=1e-5)


def test_chunks_and_stops_change_nothing(start: Path, tmp_path: Path) -> None:
    whole = distill(settings(start, tmp_path / "whole", save_every=2, dropout=0.0))
    cached = distill(settings(start, tmp_path / "cached", chunk_size=4, dropout=0.0))
    for one, other in zip(whole.log, cached.log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    distill(settings(start, tmp_path / "cut", save_every=2, dropout=0.0))
    remove_folder(tmp_path / "cut-training" / "checkpoint-6")
    resumed = distill(settings(start, tmp_path / "cut", save_every=2, dropout=0.0, resume=True))
    assert [line["loss"] for line in resumed.log] == [line["loss"] for line in whole.log]
    assert all(weight.equal(weights(resumed)[name]) for name, weight in weights(whole).items())


def test_the_representation_is_kept(start: Path, tmp_path: Path) -> None:
    before, after = (
        Retriever.load(folder) for folder in (start / "retriever", distill(settings(start, tmp_path / "out")).retriever)
    )
    assert after.settings == before.settings


def refused(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], **changes: Path) -> str:
    chosen = settings(start, tmp_path / "out", **changes)
    words = [f"{name}={getattr(chosen, name)}" for name in ("retriever", "data", "mined", "scores", "out")]
    assert call("distill", *words, "steps=1", "--quiet") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    return said.removeprefix(f"dupmae: {tmp_path}/")


def test_a_pair_without_a_score(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mined = start / "mined" / "negatives.jsonl"
    scores = word_scores(start / "data", mined, tmp_path / "some.jsonl", share=0.5)
    said = refused(start, tmp_path, capsys, scores=scores)
    assert said.startswith(
        "some.jsonl: no score of query q12 and passage d12 (score these negatives with train-reranker)"
    )


def test_a_score_that_is_no_number(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (start / "scores.jsonl").read_text().splitlines()
    record = json.loads(lines[4])
    record["scores"][1] = float("nan")
    lines[4] = json.dumps(record)
    scores = write_text(tmp_path / "nan.jsonl", "\n".join(lines))
    said = refused(start, tmp_path, capsys, scores=scores)
    name = record["passage_ids"][1]
    assert said.startswith(f"nan.jsonl, line 5: the score of query q4 and passage {name} is no finite number")


def test_unknown_ids(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (start / "mined" / "negatives.jsonl").read_text()
    mined = write_text(tmp_path / "queries.jsonl", text.replace('"q3"', '"q99"'))
    assert refused(start, tmp_path, capsys, mined=mined).startswith("queries.jsonl, line 4: unknown query q99")
    mined = write_text(tmp_path / "passages.jsonl", text.replace('"d7"', '"d99"'))
    scores = write_text(tmp_path / "scores.jsonl", (start / "scores.jsonl").read_text().replace('"d7"', '"d99"'))
    said = refused(start, tmp_path, capsys, mined=mined, scores=scores)
    assert said.startswith("passages.jsonl, line ")
    assert ": unknown passage d99" in said


def test_a_query_without_a_positive(start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (start / "mined" / "negatives.jsonl").read_text()
    mined = write_text(tmp_path / "none.jsonl", text.replace('"positive_ids": ["d2"]', '"positive_ids": []'))
    assert refused(start, tmp_path, capsys, mined=mined).startswith("none.jsonl, line 3: query q2 without a positive")
