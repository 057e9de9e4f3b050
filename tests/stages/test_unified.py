"""The second stage: text and pairs mixed by ratio, begun with a decoder, resumed bit for bit, refused by name."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM

from dupmae.errors import DupmaeError
from dupmae.files import read_json, write_text
from dupmae.settings import Contrastive, Finetune, Plan, Prepare, Pretrain
from dupmae.settings.loading import RECIPES, load
from dupmae.shards.batches import PretrainingSteps
from dupmae.shards.folder import Shards
from dupmae.stages.plan import plan
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import Pretrained, pretrain
from dupmae.stages.runner import Runner
from dupmae.training import joint_steps as unified
from dupmae.training import processes
from dupmae.training.joint_steps import PairedText, place
from dupmae.training.log import TIMED
from dupmae.training.pairs import FinetuningSteps
from dupmae.training.prefetch import Prefetched
from tests.reference.tiny import sentences
from tests.tiny import call

TEXTS = sentences(60)
PAIRS = {"batch_size": 6, "query_length": 12, "passage_length": 24, "chunk_size": 4, "temperature": 0.1}
STEPS = 6


def settings(folder: Path, out: str, *, pairs: dict[str, Any] | None = None, **changes: Any) -> Pretrain:
    values = {
        "data": folder / "data",
        "out": folder / out,
        "from_scratch": {"layers": 2, "hidden": 16, "heads": 2},
        "objective": {"kind": "retromae"},
        "batch_tokens": 128,
        "dtype": "fp32",
        "log_every": 1,
        "steps": STEPS,
        "contrastive": {"data": folder / "pairs.csv", **PAIRS, **(pairs or {})},
    }
    return Pretrain.model_validate({**values, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and triples."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("unified")
    write_text(folder / "texts.txt", "\n".join(sentences(120)))
    prepare(Prepare(inputs=[folder / "texts.txt"], out=folder / "data", vocabulary=150, max_length=32))
    rows = [f"{' '.join(text.split()[1:6])},{text},{TEXTS[n - 7]}" for n, text in enumerate(TEXTS)]
    write_text(folder / "pairs.csv", "\n".join(["sent0,sent1,hard_neg", *rows]))
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Pretrained:
    """A run with text in every step and pairs in every other, dropout on."""
    return pretrain(settings(folder, "whole", save_every=2, pairs={"ratio": 0.5}))


def untimed(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name not in TIMED} for line in log]


def test_every_term_is_logged_where_it_was_trained(whole: Pretrained) -> None:
    terms = {"mlm", "decoder", "mlm_accuracy", "decoder_accuracy"}
    joint = {"contrastive", "contrastive_accuracy"}
    named = [set(line) & (terms | joint) for line in whole.log]
    assert named == [terms | joint if place(step, Fraction(1, 2)) is not None else terms for step in range(STEPS)]
    for line in whole.log:
        assert line["loss"] == pytest.approx(sum(line.get(name, 0) for name in ("mlm", "decoder", "contrastive")))


def test_a_line_over_several_steps_has_means_of_those_with_the_term(folder: Path, whole: Pretrained) -> None:
    log = pretrain(settings(folder, "seldom", log_every=5, pairs={"ratio": 0.5})).log
    assert [line["step"] for line in log] == [1, 5, 6]
    for name in ("mlm", "contrastive"):
        seen = [line[name] for line in whole.log[1:5] if name in line]
        assert log[1][name] == pytest.approx(sum(seen) / len(seen), rel=1e-5)


def test_a_stopped_run_resumes_bit_for_bit(folder: Path, whole: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    again = {"save_every": 2, "pairs": {"ratio": 0.5}}
    take = Prefetched.part

    def stops(self: Prefetched, step: int, part: int, parts: int) -> Any:
        if step == 5:
            raise KeyboardInterrupt
        return take(self, step, part, parts)

    with monkeypatch.context() as patched:
        patched.setattr(Prefetched, "part", stops)
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(folder, "stopped", **again))
    resumed = pretrain(settings(folder, "stopped", **again, resume=True))
    assert untimed(resumed.log) == untimed(whole.log)
    for file in ("encoder/model.safetensors", f"checkpoint-{STEPS}/model.safetensors"):
        ours, theirs = (load_file(folder / run / file) for run in ("stopped", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(ours[name].equal(theirs[name]) for name in ours)
    with pytest.raises(DupmaeError, match=r"contrastive.ratio is 0.25, the run was started with 0.5"):
        pretrain(settings(folder, "stopped", save_every=2, resume=True, pairs={"ratio": 0.25}))


def test_the_encoder_is_a_plain_one_and_pairs_have_changed_it(folder: Path, whole: Pretrained) -> None:
    assert "dupmae" not in json.dumps(read_json(whole.encoder / "config.json"))
    names = set(load_file(whole.encoder / "model.safetensors"))
    assert not [name for name in names if "projection" in name or "contrastive" in name or "decoder.query" in name]
    trained = AutoModelForMaskedLM.from_pretrained(whole.encoder)
    assert AutoModel.from_pretrained(whole.encoder).config.hidden_size == 16
    alone = pretrain(settings(folder, "alone", contrastive=None))
    other = AutoModelForMaskedLM.from_pretrained(alone.encoder)
    assert not trained.bert.encoder.layer[0].output.dense.weight.equal(other.bert.encoder.layer[0].output.dense.weight)


def test_it_goes_on_from_a_first_stage_with_its_decoder(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pretrain(settings(folder, "first", contrastive=None, steps=2))
    changes = {"model": str(folder / "first"), "steps": 1, "learning_rate": 1e-9, "warmup": 0.0}
    with caplog.at_level("INFO", logger="dupmae"):
        pretrain(settings(folder, "second", **changes))
    assert "decoder taken from" in caplog.text
    ours, theirs = (
        load_file(folder / run / "model.safetensors") for run in ("second/checkpoint-1", "first/checkpoint-2")
    )
    assert any(name.startswith("inner.decoder.") for name in theirs)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)
    assert pretrain(settings(folder, "third", model=str(folder / "second"), contrastive=None, steps=1)).steps == 1


def test_passes_and_recomputed_layers_change_nothing(folder: Path) -> None:
    """Pairs are in the first pass alone, whose in-batch negatives are those of the whole batch."""
    plain, passes, recomputed = (
        pretrain(settings(folder, name, steps=2, dropout=0.0, **changes)).log
        for name, changes in (
            ("plain", {"pairs": {"chunk_size": None}}),
            ("passes", {"accumulate": 3}),
            ("recomputed", {"activation_checkpointing": True}),
        )
    )
    for log in (passes, recomputed):
        for line, other in zip(log, plain, strict=True):
            for name in ("loss", "mlm", "decoder", "contrastive", "contrastive_accuracy"):
                assert line[name] == pytest.approx(other[name], rel=1e-5)


@pytest.mark.parametrize(("share", "among"), [(Fraction(1), 10), (Fraction(1, 4), 40), (Fraction(667, 1000), 30)])
def test_batches_are_spread_evenly(share: Fraction, among: int) -> None:
    numbers = [place(step, share) for step in range(among)]
    found = [number for number in numbers if number is not None]
    assert numbers[0] == 0
    assert found == list(range(len(found)))
    for end in range(1, among + 1):
        assert abs(sum(number is not None for number in numbers[:end]) - end * share) < 1


def test_pairs_are_tokenised_while_the_probe_uses_the_tokenizer(folder: Path) -> None:
    """A fast tokenizer that two threads set to different lengths raises "Already borrowed", or cuts at the other's."""
    shards = Shards.open(folder / "data")
    tokenizer = shards.tokenizer()
    given = Contrastive.model_validate({"data": folder / "pairs.csv", **PAIRS})
    paired = PairedText(given, tokenizer, longest=32, seed=3)
    pairs = paired.joined(
        PretrainingSteps([shards], steps=24, batch_tokens=128, seed=3, pad_id=0, special_ids=[])
    ).pairs
    alone = [pairs[step] for step in range(24)]
    texts = sentences(200)
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(lambda: [pairs[step % 24] for step in range(240)])
        while not made.done():
            found = tokenizer(texts, truncation=True, max_length=4)["input_ids"]
            assert max(map(len, found)) == 4
    assert all(item[name].equal(alone[step % 24][name]) for step, item in enumerate(made.result()) for name in item)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_the_mix_is_a_function_of_seed_and_step(folder: Path, ratio: float) -> None:
    shards = Shards.open(folder / "data")
    tokenizer = shards.tokenizer()
    given = Contrastive.model_validate({"data": folder / "pairs.csv", **PAIRS, "ratio": ratio})
    paired = PairedText(given, tokenizer, longest=32, seed=3)

    def text(steps: int) -> PretrainingSteps:
        return PretrainingSteps(
            [shards], steps=steps, batch_tokens=128, seed=3, pad_id=0, special_ids=tokenizer.all_special_ids
        )

    steps = paired.joined(text(24))
    items = [steps[step] for step in range(24)]
    texts, pairs = (sum(name in item for item in items) for name in ("input_ids", "query_ids"))
    assert (texts, pairs) == (24 * min(1, 1 / ratio), 24 * min(1, ratio))
    assert all(name in items[0] for name in ("input_ids", "query_ids"))
    again = paired.joined(text(24))
    for step in (13, 4):
        item = again[step]
        assert item.keys() == items[step].keys()
        assert all(item[name].equal(items[step][name]) for name in item)
    assert [len(steps.step_lengths(step)) for step in range(24)] == [len(item.get("rows", ())) for item in items]
    assert steps.per_epoch == text(1).per_epoch * max(1, ratio)
    # No batch of either kind is left out or comes twice.
    assert [int(item["step"]) for item in items if "step" in item] == list(range(texts))
    assert isinstance(steps.pairs, FinetuningSteps)
    drawn = [item["query_ids"] for item in items if "query_ids" in item]
    assert all(steps.pairs[number]["query_ids"].equal(ids) for number, ids in enumerate(drawn))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["sharding=full"], "sharding=full: sharding: contrastive keeps a replica"),
        (["compile=true"], "compile=true: compile: does not go with contrastive"),
        (["accumulate=2", "contrastive.ratio=2"], "accumulate=2: accumulate: deals out text, which steps lack"),
        (["contrastive.mined=x", "contrastive.negatives=0"], "contrastive.mined: nothing is drawn from it"),
        (["contrastive.ratio=0"], "contrastive.ratio cannot be 0"),
        (["contrastive.temperatur=1"], "no setting contrastive.temperatur (did you mean contrastive.temperature?)"),
        (["contrastive.passage_length=40"], "contrastive.passage_length: the model takes 32 tokens"),
        (["contrastive.data=nothing.csv"], "nothing.csv: no such file"),
    ],
)
def test_what_cannot_work_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], told: str
) -> None:
    words = ["--data", folder / "data", "--out", tmp_path / "run", "--steps", "1", "--quiet", "from_scratch.hidden=16"]
    pairs = [f"contrastive.data={folder / 'pairs.csv'}", "contrastive.passage_length=16", "contrastive.query_length=16"]
    assert call("pretrain", *words, *pairs, *changes) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert not (tmp_path / "run" / "encoder").exists()


def test_the_pairs_of_this_stage_are_those_of_the_next_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--data", folder / "data", "--out", "run", "--steps", "1", "--quiet", "from_scratch.hidden=16"]
    pairs = [f"contrastive.data={folder / 'pairs.csv'}", "contrastive.passage_length=16", "contrastive.query_length=16"]
    assert call("pretrain", *words, "from_scratch.heads=2", "from_scratch.layers=1", *pairs) == 0
    after = f"next: dupmae finetune --model run/encoder --data {folder / 'pairs.csv'} --out retriever minutes=2"
    assert capsys.readouterr().out.splitlines()[-1] == after


def test_more_processes_than_queries_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = settings(folder, "none").contrastive
    assert given is not None
    monkeypatch.setattr(unified.processes, "count", lambda: 7)
    with pytest.raises(DupmaeError, match=r"contrastive.batch_size: 6 queries a step cannot be dealt out to 7"):
        PairedText(given, None, longest=32, seed=0)
    monkeypatch.setattr(unified.processes, "count", lambda: 70)
    with pytest.raises(DupmaeError, match=r"60 queries cannot be dealt out to 70 processes"):
        PairedText(given.model_copy(update={"batch_size": 100}), None, longest=32, seed=0)


def test_a_chain_knows_the_pairs_as_input(folder: Path, tmp_path: Path) -> None:
    paired = settings(folder, "none")
    assert paired.contrastive is not None
    other = shutil.copy(folder / "pairs.csv", tmp_path / "pairs.csv")

    def fingerprint() -> str:
        moved = paired.model_copy(update={"contrastive": paired.contrastive.model_copy(update={"data": other})})
        return Runner(tmp_path / "run").stage("pretrain", moved, "pretrain").fingerprint

    same = Runner(tmp_path / "run").stage("pretrain", paired, "pretrain").fingerprint
    assert fingerprint() == same
    other.write_text(other.read_text() + "a,b,c\n")
    assert fingerprint() != same


def test_the_plan_counts_pairs() -> None:
    values = {"data": ["shards"], "out": "run", "epochs": 1, "planned": {"records": 1000, "tokens": 100_000}}
    given = {"data": "pairs", "batch_size": 10, "negatives": 2, "query_length": 10, "passage_length": 20}
    base = {**values, "batch_tokens": 1000, "utilisation": 0.5}
    one = plan(Plan.model_validate({**base, "contrastive": given}))
    weights = 12 * (4 * 768**2 + 2 * 768 * 3072)
    tokens, squares = 1000 * (10 + 3 * 20), 1000 * (10**2 + 3 * 20**2)
    assert one.parts["contrastive"] == pytest.approx(3 * (2 * weights * tokens + 12 * 4 * 768 * squares))
    twice = plan(Plan.model_validate({**base, "contrastive": {**given, "ratio": 2.0}}))
    assert (one.steps, twice.steps) == (100, 200)
    assert twice.parts["contrastive"] == pytest.approx(2 * one.parts["contrastive"])
    assert twice.parts["encoder"] == pytest.approx(one.parts["encoder"])
    by_steps = plan(Plan.model_validate({**base, "epochs": None, "steps": 200, "contrastive": {**given, "ratio": 2.0}}))
    assert by_steps.parts == pytest.approx(twice.parts)


def test_the_recipes_hold_together() -> None:
    first = load(Pretrain, RECIPES / "unified-generic.yaml")
    assert (first.objective.kind, first.contrastive) == ("retromae", None)
    for name in ("msmarco", "nli"):
        second = load(Pretrain, RECIPES / f"unified-{name}.yaml")
        assert second.model == str(first.out)
        assert second.contrastive is not None
    simcse = load(Finetune, RECIPES / "simcse-nli.yaml")
    assert simcse.model == str(first.out / "encoder")
    shown = simcse.representation
    assert (shown.kind, shown.pooling, shown.normalize, shown.part_weights) == ("cls", "cls", True, [20, 1])
    assert (simcse.epochs, simcse.batch_size, simcse.learning_rate, simcse.dev_every) == (3, 512, 5e-5, 125)
    assert np.isclose(1 / second.contrastive.temperature, shown.part_weights[0])
    assert processes.count() == 1
