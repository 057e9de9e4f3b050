"""Fine-tuning on a few pairs: batches and what they ignore, every kind of vector, both kinds of input."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.retriever.model import Retriever
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.stages.finetune import finetune
from dupmae.training.calibration import best_ratio, weigh_parts
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData, read_pair_data
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


def test_pairs_of_a_beir_folder(beir: Path) -> None:
    data = read_pair_data(beir)
    assert len(data.queries) == 40
    assert len(data.passages) == 60
    assert data.positives[3] == [3, 4]
    assert data.passages[7] == f"{TEXTS[7].split()[1]} {TEXTS[7]}"


def test_pairs_of_json_lines(pairs: Path) -> None:
    data = read_pair_data(pairs)
    assert sorted(data.passages) == sorted(set(TEXTS))
    for query, text in enumerate(TEXTS):
        assert data.passages[data.positives[query][0]] == text
        assert len(data.positives[query]) == (2 if query % 3 == 1 else 1)
        assert len(data.negatives[query]) == (2 if query % 3 == 0 else 0)


def test_one_query_is_too_few(tmp_path: Path) -> None:
    file = write_text(tmp_path / "one.jsonl", '{"query": "a", "positive": "b"}\n')
    with pytest.raises(DupmaeError, match=r"one\.jsonl: fewer than two queries"):
        read_pair_data(file)


def steps_of(data: PairData, model: Path, *, seed: int = 0, per_query: int = 2, batch_size: int = 8) -> FinetuningSteps:
    return FinetuningSteps(
        data,
        HardNegatives(data, 10),
        load_tokenizer(model),
        steps=40,
        batch_size=batch_size,
        per_query=per_query,
        lengths=(16, 32),
        seed=seed,
    )


@pytest.mark.parametrize("source", ["pairs", "beir"])
def test_a_batch_and_what_it_ignores(source: str, model: Path, request: pytest.FixtureRequest) -> None:
    data = read_pair_data(request.getfixturevalue(source))
    steps = steps_of(data, model)
    tokenizer = load_tokenizer(model)
    texts = {tokenizer.decode(tokenizer(text)["input_ids"][:32]): place for place, text in enumerate(data.passages)}
    names = {tokenizer.decode(tokenizer(text)["input_ids"][:16]): place for place, text in enumerate(data.queries)}
    for step in (0, 1, 17):
        item = steps[step]
        assert item["passage_ids"].shape[0] == 24
        rows = [
            names[tokenizer.decode(ids[ok])] for ids, ok in zip(item["query_ids"], item["query_valid"], strict=True)
        ]
        columns = [
            texts[tokenizer.decode(ids[ok])] for ids, ok in zip(item["passage_ids"], item["passage_valid"], strict=True)
        ]
        assert rows == steps._queries(step)
        for row, query in enumerate(rows):
            target = int(item["targets"][row])
            assert columns[target] in data.positives[query]
            expected = [place in data.positives[query] and column != target for column, place in enumerate(columns)]
            assert item["ignored"][row].tolist() == expected


@examples(max_examples=40, deadline=None)
@given(st.data())
def test_the_target_is_never_ignored(model: Path, data: st.DataObject) -> None:
    queries, passages = data.draw(st.integers(2, 9)), data.draw(st.integers(1, 6))
    place = st.lists(st.integers(0, passages - 1), max_size=3)
    positives = [data.draw(place.filter(bool)) for _ in range(queries)]
    negatives = [data.draw(place.filter(bool)) for _ in range(queries)]
    made = PairData([f"text {n}" for n in range(passages)], [f"q {n}" for n in range(queries)], positives, negatives)
    steps = steps_of(made, model, seed=data.draw(st.integers(0, 9)), batch_size=4)
    item = steps[data.draw(st.integers(0, 39))]
    assert not item["ignored"].gather(1, item["targets"][:, None]).any()
    assert item["targets"].tolist() == list(range(len(item["query_ids"])))
    assert item["ignored"].shape == (len(item["query_ids"]), len(item["passage_ids"]))


def test_steps_are_a_function_of_seed_and_step(pairs: Path, model: Path) -> None:
    data = read_pair_data(pairs)
    walked, fresh = steps_of(data, model), steps_of(data, model)
    for step in range(9):
        walked[step]
    assert all(walked[9][name].equal(fresh[9][name]) for name in fresh[9])
    assert not fresh[9]["query_ids"].equal(steps_of(data, model, seed=1)[9]["query_ids"])
    epoch = [query for step in range(7) for query in fresh._queries(step)]
    assert len(set(epoch)) == len(epoch) == 56


def test_hard_negatives(pairs: Path) -> None:
    data = read_pair_data(pairs)
    negatives = HardNegatives(data, 10)
    found = negatives.of([0, 1, 2], range(10))
    assert found[0] == data.negatives[0]
    for query in (1, 2):
        assert len(found[query]) >= 8
        assert not set(found[query]) & set(data.positives[query])


@pytest.mark.parametrize("kind", ["hybrid", "cls", "bow", "aggregated"])
@pytest.mark.parametrize("source", ["pairs", "beir"])
def test_loss_falls_for_every_kind(
    kind: str, source: str, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(source)
    representation = {"kind": kind, "dimensions": 16, "top_k": 20, "aggregated_dimensions": 32}
    changes = {"representation": representation, "steps": 30, "learning_rate": 2e-3, "dropout": 0.0}
    run = finetune(settings(model, data, tmp_path / "out", **changes))
    assert len(run.log) == 30
    first, last = (sum(line["loss"] for line in lines) / 5 for lines in (run.log[:5], run.log[-5:]))
    assert last < first
    assert ("hybrid" in run.log[0]) == (kind in ("hybrid", "aggregated"))
    retriever = Retriever.load(run.retriever)
    assert retriever.representation.kind == kind
    encoded = retriever.encode_passages(TEXTS[:3])
    assert encoded.dense.shape[1] == {"bow": 0, "aggregated": 48}.get(kind, 16)
    assert (encoded.sparse.nnz == 0) == (kind in ("cls", "aggregated"))


def test_same_seed_same_losses_and_weights(pairs: Path, model: Path, tmp_path: Path) -> None:
    runs = [
        finetune(settings(model, pairs, tmp_path / name, seed=seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    losses = [[line["loss"] for line in run.log] for run in runs]
    assert losses[0] == losses[1] != losses[2]
    for name in ("model.safetensors", "representation.safetensors"):
        first, second = (load_file(run.retriever / name) for run in runs[:2])
        assert all(first[key].equal(second[key]) for key in first)


def test_a_budget_is_needed(pairs: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="neither steps nor minutes"):
        finetune(settings(model, pairs, tmp_path / "out", steps=None))


def test_texts_longer_than_the_model_are_refused(model: Path, beir: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="passage_length: the model takes 128 tokens"):
        finetune(settings(model, beir, tmp_path / "out", passage_length=256))


def test_the_last_queries_are_those_training_reaches_last(beir: Path, model: Path) -> None:
    data = read_pair_data(beir)
    steps = FinetuningSteps(
        data,
        HardNegatives(data, 5),
        load_tokenizer(model),
        steps=3,
        batch_size=8,
        per_query=0,
        lengths=(16, 32),
        seed=3,
    )
    seen = {query for step in range(3) for query in steps._queries(step)}
    assert not seen & set(steps.last_queries(10))
    assert len(set(steps.last_queries(10))) == 10


def test_part_weights_follow_the_scale_of_the_parts(beir: Path, model: Path, tmp_path: Path) -> None:
    retriever = Retriever.load(finetune(settings(model, beir, tmp_path / "out")).retriever)
    data = read_pair_data(beir)
    everyone = list(range(len(data.queries)))
    weigh_parts(retriever, data, everyone)
    before = retriever.encoder.log_scales.clone()
    # Dense vectors twice as long make scores four times as large: a weight a quarter as large is the same ranking.
    with torch.no_grad():
        retriever.encoder.projection.weight.mul_(2)
    again = Retriever(retriever.encoder, retriever.tokenizer, retriever.settings)
    weigh_parts(again, data, everyone)
    change = (again.encoder.log_scales - before).detach().numpy()
    np.testing.assert_allclose(change, [-np.log(4), 0], atol=1e-4)


def test_the_best_ratio_ranks_best() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(60)
    truth = torch.nn.functional.one_hot(targets, 200).float()
    # Two views of the same truth with independent noise: the less noisy one deserves the larger share.
    dense = truth * 3 + torch.randn(60, 200, generator=generator)
    sparse = (truth * 3 + 2 * torch.randn(60, 200, generator=generator)) * 7
    ignored = torch.zeros(60, 200, dtype=torch.bool)

    def ndcg(ratio: float) -> float:
        ranks = (-(ratio * dense + sparse)).argsort(1).argsort(1)[targets, targets]
        return sum(1 / math.log2(rank + 2) for rank in ranks.tolist() if rank < 10) / 60

    chosen = best_ratio(dense, sparse, targets, ignored)
    # By the noises' variances: 4 times the sparse part's weight, which is 1 / 7.
    assert 7 * 1.5 < chosen < 7 * 10
    assert ndcg(chosen) > max(ndcg(7 / 4), ndcg(7 * 100), ndcg(0.0))
    # What is not ranked does not decide.
    spoilt = dense.clone()
    spoilt[:, 100:] = dense.max() + 1
    assert best_ratio(spoilt, sparse, targets, ignored) < 7 * 1.5
    ignored[:, 100:] = True
    assert 7 * 1.5 < best_ratio(spoilt, sparse, targets, ignored) < 7 * 10
