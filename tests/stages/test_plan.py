"""Planned time and cost: by hand, from shards, from a measured run, and the recipes that come along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.settings import Masking, Objective, Plan, Prepare, Pretrain
from dupmae.settings.loading import RECIPES, load
from dupmae.stages import plan as module
from dupmae.stages.plan import plan
from dupmae.stages.prepare import prepare
from dupmae.training.flops import Shape, Texts, step_flops
from tests.paths import DOCS
from tests.reference.tiny import sentences, tiny_folder
from tests.tiny import call

PRETRAINING = [*RECIPES.glob("retromae-*.yaml"), *RECIPES.glob("dupmae-msmarco.yaml")]


def settings(**changes: Any) -> Plan:
    values = {"data": ["shards"], "out": "run", "epochs": 2, "planned": {"records": 1000, "tokens": 100_000}}
    return Plan.model_validate({**values, **changes})


def test_time_is_work_over_peak_and_utilisation() -> None:
    done = plan(settings(gpu="a100", count=4, utilisation=0.5, price=3.0))
    work = step_flops(Shape(12, 768, 3072, 30_522), Texts.of([100] * 2000), Objective(), Masking())
    assert done.flops == pytest.approx(work)
    assert done.tokens == 200_000
    assert done.hours == pytest.approx(work / (4 * 312e12 * 0.5) / 3600)
    assert done.device_hours == pytest.approx(4 * done.hours)
    assert done.cost == pytest.approx(3 * done.device_hours)
    assert (done.peak_source, done.utilisation_source) == ("published", "given")


def test_steps_win_over_epochs_and_one_of_them_is_needed() -> None:
    done = plan(settings(steps=50, batch_tokens=1000))
    assert (done.steps, done.tokens) == (50, 50_000)
    with pytest.raises(DupmaeError, match="neither steps nor epochs"):
        plan(settings(epochs=None, minutes=3))


def test_what_was_not_measured_is_called_assumed() -> None:
    done = plan(settings())
    assert (done.utilisation, done.utilisation_source) == (module.ASSUMED_UTILISATION, "assumed")
    assert done.cost is None


def write_log(run: Path, rates: list[float], peak: float, processes: int = 1) -> None:
    """The log of a run that did so many operations a second, where matrix products reach `peak` in each process."""
    lines = [
        {"step": step, "flops_per_second": rate, "utilisation": rate / peak / processes, "processes": processes}
        for step, rate in enumerate(rates, 1)
    ]
    write_text(run / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def test_a_measured_run_replaces_the_assumption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is work over what each process of the run did, whatever peak its utilisation was reckoned with."""
    for peak in (989e12, 600e12):
        write_log(tmp_path, [100e12, 430e12, 410e12, 420e12], peak, processes=2)
        done = plan(settings(like=tmp_path, count=4))
        assert done.hours == pytest.approx(done.flops / (4 * 415e12 / 2) / 3600)
        assert (done.utilisation, done.utilisation_source) == (pytest.approx(415 / 2 / 989), "measured")
    write_log(tmp_path, [1e11], peak=2.5e11)
    monkeypatch.setattr("dupmae.training.peak.matmul_peak", lambda dtype: 4e11)
    here = plan(settings(gpu="cpu", like=tmp_path))
    assert (here.peak, here.peak_source) == (4e11, "measured")
    assert here.hours == pytest.approx(here.flops / 1e11 / 3600)


def test_a_run_that_says_nothing_of_this_accelerator_is_refused(tmp_path: Path) -> None:
    write_log(tmp_path, [4e11], peak=8e11)
    with pytest.raises(DupmaeError, match=r"reached 0.8 TFLOP/s, h100 has 989 \(name a run on h100 in the same"):
        plan(settings(like=tmp_path))
    write_text(tmp_path / "log.jsonl", '{"step": 1, "flops_per_second": 4e14, "utilisation": 0.6}\n')
    with pytest.raises(DupmaeError, match="its log does not have flops_per_second, utilisation, processes"):
        plan(settings(like=tmp_path))


def test_a_cpu_has_no_assumption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupmae.training.peak.matmul_peak", lambda dtype: 4e11)
    with pytest.raises(DupmaeError, match="no utilisation is known of this machine"):
        plan(settings(gpu="cpu"))


def test_sizes_come_from_shards_and_model_when_they_are_there(tmp_path: Path) -> None:
    write_text(tmp_path / "texts.txt", "\n".join(sentences(50)))
    shards = prepare(Prepare(inputs=[tmp_path / "texts.txt"], out=tmp_path / "data", vocabulary=150, workers=1))
    lengths = [length for length, count in shards.lengths for _ in range(count)]
    scratch = plan(settings(data=[tmp_path / "data"], planned=None, from_scratch={"layers": 2, "hidden": 32}))
    words = len(load_words(tmp_path / "data"))
    twice = Texts.of(lengths * 2)
    assert scratch.flops == pytest.approx(step_flops(Shape(2, 32, 128, words), twice, Objective(), Masking()))
    folder = tiny_folder(tmp_path / "model")
    given = plan(settings(data=[tmp_path / "data"], planned=None, model=str(folder)))
    config = json.loads((folder / "config.json").read_text())
    shape = Shape(2, 32, 64, config["vocab_size"])
    assert given.flops == pytest.approx(step_flops(shape, twice, Objective(), Masking()))
    with pytest.raises(DupmaeError, match="no such folder"):
        plan(settings(data=[tmp_path / "nothing"], planned=None))


def load_words(shards: Path) -> Any:
    from dupmae.shards.folder import Shards

    return Shards.open(shards).tokenizer()


@pytest.mark.parametrize("path", PRETRAINING, ids=lambda path: path.stem)
def test_the_recipes_load_and_plan(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = load(Pretrain, path)
    assert (found.learning_rate, found.weight_decay, found.warmup) == (1e-4, 0.01, 0.1)
    assert (found.masking.encoder_rate, found.masking.decoder_rate) == (0.3, 0.5)
    assert found.objective.kind == path.stem.split("-")[0]
    assert call("plan", path.stem, "--gpu", "h100", "--count", "8", "--price", "2.5") == 0
    said = capsys.readouterr().out
    for part in ("8 x h100 of 989 TFLOP/s (published)", "40.0% of that (assumed)", "nothing was measured on a GPU"):
        assert part in said
    assert said.splitlines()[-1] == f"next: torchrun --nproc-per-node 8 -m dupmae pretrain --recipe {path.stem}"
    assert call("plan", path, "epochs=1", "--count", "16", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["flops"] == pytest.approx(sum(result["parts"].values()))
    launcher = result["next"].removesuffix(f" -m dupmae pretrain --recipe {path.stem}")
    assert launcher.replace("--nnodes 2 ", "--nnodes 4 ") in (DOCS / "scaling-out.md").read_text(encoding="utf-8")
    assert call("plan", path, "epochs=1", "--count", "12", "--json") == 0
    assert json.loads(capsys.readouterr().out)["next"].startswith("torchrun --nnodes 2 --nproc-per-node 6 --rdzv-")
    assert result["cost"] is None


@pytest.mark.parametrize("name", ["unified-generic", "unified-msmarco", "unified-nli"])
def test_the_unified_recipes_are_planned_before_there_is_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", name, "--gpu", "h100", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert 0 < result["hours"] < 1000
    assert ("contrastive" in result["parts"]) == (name != "unified-generic")


def test_an_unknown_recipe_names_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("plan", "retromae") == 2
    names = ", ".join(sorted(path.stem for path in RECIPES.glob("*.yaml")))
    assert "retromae-generic, retromae-msmarco" in names
    told = f"dupmae: retromae: no such recipe (give a YAML file, or one of: {names})\n"
    assert capsys.readouterr().err == told
    assert call("plan", "retromae-generic", "retromae-msmarco") == 2
    assert "retromae-msmarco: not a setting" in capsys.readouterr().err
