"""Pre-training on a tiny corpus: losses fall, a stopped run resumes bit for bit, the export needs no dupmae."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import read_json, write_text
from dupmae.nn import vocabulary
from dupmae.nn.compiled import compile_parts
from dupmae.settings import Prepare, Pretrain
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import pretrain
from dupmae.training import loop
from dupmae.training.log import TIMED
from dupmae.training.prefetch import Prefetched
from tests.reference.tiny import sentences, tiny_folder

SHAPE = {"layers": 2, "hidden": 32, "heads": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    write_text(folder / "texts.txt", "\n".join(sentences(200)))
    prepare(Prepare(inputs=[folder / "texts.txt"], out=folder / "data", vocabulary=150, max_length=32))
    return folder / "data"


def settings(data: Path, out: Path, **changes: Any) -> Pretrain:
    values = {"data": data, "out": out, "from_scratch": SHAPE, "batch_tokens": 256, "dtype": "fp32", "log_every": 1}
    return Pretrain.model_validate({**values, **changes})


@pytest.mark.parametrize(
    ("objective", "terms"),
    [
        ({"kind": "mlm"}, {"mlm"}),
        ({"kind": "retromae"}, {"mlm", "decoder"}),
        ({"kind": "retromae", "decoder": "basic"}, {"mlm", "decoder"}),
        ({"kind": "dupmae"}, {"mlm", "decoder", "bow"}),
    ],
)
def test_losses_fall(data: Path, tmp_path: Path, objective: dict[str, Any], terms: set[str]) -> None:
    run = pretrain(settings(data, tmp_path / "run", objective=objective, steps=60, learning_rate=5e-3))
    assert run.steps == len(run.log) == 60
    assert set(run.log[0]) >= terms | {"loss", "mlm_accuracy"}
    assert not ({"decoder", "bow"} - terms) & set(run.log[0])
    for name in {*terms, "loss"}:
        first, last = (sum(line[name] for line in lines) / 5 for lines in (run.log[:5], run.log[-5:]))
        assert last < 0.8 * first, name
    assert run.log[0]["loss"] == pytest.approx(sum(run.log[0][name] for name in terms), rel=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines == run.log


def losses(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name not in TIMED} for line in log]


def test_a_stopped_run_resumes_bit_for_bit(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout is on, so the random state has to come back too, not only weights, optimizer, schedule and place."""
    whole = pretrain(settings(data, tmp_path / "whole", steps=9, save_every=3))
    take = Prefetched.part

    def stops(self: Prefetched, step: int, part: int, parts: int) -> dict[str, torch.Tensor] | None:
        if step == 7:
            raise KeyboardInterrupt
        return take(self, step, part, parts)

    monkeypatch.setattr(Prefetched, "part", stops)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(data, tmp_path / "stopped", steps=9, save_every=3))
    monkeypatch.undo()
    assert not (tmp_path / "stopped" / "encoder").exists()
    assert sorted(path.name for path in (tmp_path / "stopped").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-6"]
    resumed = pretrain(settings(data, tmp_path / "stopped", steps=9, save_every=3, resume=True))
    assert losses(resumed.log) == losses(whole.log)
    for name in ("encoder", "checkpoint-9"):
        files = [load_file(tmp_path / run / name / "model.safetensors") for run in ("whole", "stopped")]
        assert files[0].keys() == files[1].keys()
        assert all(files[0][key].equal(files[1][key]) for key in files[0])


def test_log_lines_that_span_a_checkpoint_resume_too(data: Path, tmp_path: Path) -> None:
    whole = pretrain(settings(data, tmp_path / "run", steps=8, save_every=3, log_every=4))
    shutil.rmtree(tmp_path / "run" / "checkpoint-8")
    resumed = pretrain(settings(data, tmp_path / "run", steps=8, save_every=3, log_every=4, resume=True))
    assert losses(resumed.log) == losses(whole.log)


def test_checkpoints_keep_the_decoder_and_only_two_stay(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "run", steps=7, save_every=2))
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-7"]
    names = set(load_file(tmp_path / "run" / "checkpoint-7" / "model.safetensors"))
    assert any(".decoder.query." in name for name in names)
    files = {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    assert files <= {path.name for path in (tmp_path / "run" / "checkpoint-7").iterdir()}


def test_the_export_opens_without_this_package(data: Path, tmp_path: Path) -> None:
    run = pretrain(settings(data, tmp_path / "run", steps=2, save_every=2))
    assert "dupmae" not in json.dumps(read_json(run.encoder / "config.json"))
    assert not [name for name in load_file(run.encoder / "model.safetensors") if "decoder.query" in name]
    masked, plain = AutoModelForMaskedLM.from_pretrained(run.encoder), AutoModel.from_pretrained(run.encoder)
    trained = AutoModelForMaskedLM.from_config(masked.config)
    prefix = "inner.backbone.lm."
    state = {
        name.removeprefix(prefix): value
        for name, value in load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors").items()
        if name.startswith(prefix)
    }
    assert not trained.load_state_dict(state, strict=False).unexpected_keys
    given = AutoTokenizer.from_pretrained(run.encoder)(sentences(3), padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = trained.eval()(**given, output_hidden_states=True)
        found = masked.eval()(**given, output_hidden_states=True)
        hidden = plain.eval()(**given).last_hidden_state
    assert found.logits.equal(expected.logits)
    assert found.hidden_states[-1].equal(expected.hidden_states[-1])
    assert hidden.equal(expected.hidden_states[-1])


def test_same_seed_same_losses(data: Path, tmp_path: Path) -> None:
    first, again, other = (
        losses(pretrain(settings(data, tmp_path / name, steps=3, seed=seed)).log)
        for name, seed in (("first", 4), ("again", 4), ("other", 5))
    )
    assert first == again
    assert first != other


def test_a_loaded_encoder_without_head_gets_one_that_names_tokens(data: Path, tmp_path: Path) -> None:
    model = tiny_folder(tmp_path / "model", tokenizer=data / "tokenizer", head=False)
    given = AutoTokenizer.from_pretrained(model)(sentences(30), padding=True, return_tensors="pt")
    tokens = given["input_ids"] > 4
    named = {}
    for way in ("auto", "keep"):
        # At this rate two steps change nothing to speak of.
        changes = {"model": str(model), "steps": 2, "dtype": "bf16", "head_start": way, "learning_rate": 1e-9}
        run = pretrain(settings(data, tmp_path / way, **changes))
        lm = AutoModelForMaskedLM.from_pretrained(run.encoder)
        with torch.no_grad():
            named[way] = (lm(**given).logits.argmax(-1) == given["input_ids"])[tokens].double().mean().item()
        assert all(weight.dtype == torch.float32 for weight in load_file(run.encoder / "model.safetensors").values())
    assert named["auto"] > 0.7
    assert named["keep"] < 0.2


def test_what_cannot_work_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="neither steps nor minutes"):
        pretrain(settings(data, tmp_path / "run"))
    other = tiny_folder(tmp_path / "other")
    with pytest.raises(DupmaeError, match="another tokenizer"):
        pretrain(settings(data, tmp_path / "run", model=str(other), steps=2))
    short = tiny_folder(tmp_path / "short", tokenizer=data / "tokenizer", max_length=16)
    with pytest.raises(DupmaeError, match="the model takes 16"):
        pretrain(settings(data, tmp_path / "run", model=str(short), steps=2))


def test_a_run_that_diverges_says_so(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"diverged.*lower learning_rate"):
        pretrain(settings(data, tmp_path / "run", steps=8, learning_rate=1e38, warmup=0))
    assert not (tmp_path / "run" / "encoder").exists()


def test_a_time_budget_becomes_steps_and_is_remembered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    first = pretrain(settings(data, tmp_path / "first", minutes=0.002))
    again = pretrain(settings(data, tmp_path / "again", minutes=0.002))
    assert first.steps == again.steps >= 1
    assert losses(first.log) == losses(again.log)


def test_an_earlier_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "run", steps=2))
    with pytest.raises(DupmaeError, match="checkpoints of an earlier run"):
        pretrain(settings(data, tmp_path / "run", steps=2))


def test_an_earlier_run_goes_on_with_its_decoder(data: Path, tmp_path: Path) -> None:
    first = pretrain(settings(data, tmp_path / "first", steps=60, learning_rate=5e-3))
    chosen = {"steps": 2, "learning_rate": 1e-6, "warmup": 0.0}
    whole = pretrain(settings(data, tmp_path / "whole", model=str(tmp_path / "first"), **chosen))
    encoder = pretrain(settings(data, tmp_path / "encoder", model=str(first.encoder), **chosen))
    assert whole.log[0]["decoder"] < encoder.log[0]["decoder"]
    assert whole.log[0]["mlm"] == pytest.approx(encoder.log[0]["mlm"], rel=1e-3)
    held = load_file(sorted((tmp_path / "first").glob("checkpoint-*"))[-1] / "model.safetensors")
    now = load_file(tmp_path / "whole" / "checkpoint-2" / "model.safetensors")
    for name, weight in held.items():
        torch.testing.assert_close(now[name], weight, rtol=0, atol=1e-4)


def test_a_run_without_decoder_gives_its_encoder(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", True)
    pretrain(settings(data, tmp_path / "mlm", steps=2, objective={"kind": "mlm"}))
    assert pretrain(settings(data, tmp_path / "next", steps=2, model=str(tmp_path / "mlm"))).steps == 2
    assert f"{tmp_path / 'mlm'}: its checkpoint has no decoder, the decoder starts anew" in caplog.messages
    shutil.rmtree(tmp_path / "next" / "checkpoint-2")
    caplog.clear()
    chosen = {"steps": 2, "model": str(tmp_path / "next")}
    assert pretrain(settings(data, tmp_path / "last", **chosen)).steps == 2
    assert f"{tmp_path / 'next'}: no checkpoint is left, the decoder starts anew" in caplog.messages
    caplog.clear()
    pretrain(settings(data, tmp_path / "none", **chosen, objective={"kind": "mlm"}))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_run_that_has_not_ended_is_no_model(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "run", steps=2))
    shutil.rmtree(tmp_path / "run" / "encoder")
    message = r"run: is a run that has not ended: .* and no encoder/ \(go on with that run first, .* --resume\)"
    with pytest.raises(DupmaeError, match=message):
        pretrain(settings(data, tmp_path / "next", steps=2, model=str(tmp_path / "run")))


def test_compiled_steps_have_the_same_losses(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph is captured and run as it is: generating code for it takes minutes and is torch's own business."""
    compiled: list[torch.nn.Module] = []

    def captured(layers: Iterable[torch.nn.Module]) -> None:
        compiled.extend(layers)
        compile_parts(compiled, backend="aot_eager")

    monkeypatch.setattr(vocabulary, "_scored", vocabulary._scored)
    monkeypatch.setattr(loop, "compile_parts", captured)
    changes = {"steps": 2, "dropout": 0.0, "dtype": "bf16", "from_scratch": {**SHAPE, "layers": 1}}
    runs = [pretrain(settings(data, tmp_path / str(mode), **changes, compile=mode)).log for mode in (True, False)]
    assert len(compiled) == 2
    for one, other in zip(*runs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
