"""Chains of stages: each is run once, what changed is run again, and kills change nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.settings import Chain
from dupmae.settings.loading import RECIPES, load
from dupmae.stages.chain import chain, stages_of
from tests import warm
from tests.reference.tiny import tiny_folder
from tests.stages import chained
from tests.stages.taught import QUERIES, data_folder
from tests.tiny import call
from tests.training.checkpointed import at_step

TUNED = {"steps": 2, "batch_size": 4, "passage_length": 32, "representation": {"dimensions": 8, "top_k": 16}}


@pytest.fixture
def start(tmp_path: Path) -> Path:
    data_folder(tmp_path / "data")
    tiny_folder(tmp_path / "model")
    return tmp_path


def recipe(start: Path, **stages: Any) -> Path:
    """A recipe of two stages, or with what is given in their place."""
    first = {"mine": {"data": "$data", "depth": 5}}
    tuned = {"finetune": {"model": "$model", "data": "$data", "mined": "$mine/negatives.jsonl", **TUNED}}
    content = {
        "out": str(start / "out"),
        "values": {"data": str(start / "data"), "model": str(start / "model")},
        "stages": stages or first | tuned,
    }
    return write_text(start / "chain.yaml", yaml.safe_dump(content, sort_keys=False))


def ran(file: Path, *overrides: str) -> dict[str, bool]:
    """Which stages a run of the recipe did not find finished."""
    return {stage.name: not stage.before for stage in chain(load(Chain, file, overrides), file)}


def test_a_finished_stage_is_not_run_again(start: Path) -> None:
    file = recipe(start)
    assert ran(file) == {"mine": True, "finetune": True}
    written = {path: path.stat().st_mtime_ns for path in (start / "out").rglob("*") if path.is_file()}
    assert ran(file) == {"mine": False, "finetune": False}
    assert {path: path.stat().st_mtime_ns for path in (start / "out").rglob("*") if path.is_file()} == written
    assert ran(file, "stages.finetune.steps=3") == {"mine": False, "finetune": True}
    assert ran(file, "stages.mine.depth=6", "stages.finetune.steps=3") == {"mine": True, "finetune": True}
    # What changes no result is no part of the fingerprint, nor is a default that is written out.
    assert ran(
        file, "stages.mine.depth=6", "stages.mine.block=9", "stages.mine.split=train", "stages.finetune.steps=3"
    ) == {
        "mine": False,
        "finetune": False,
    }


def test_a_stopped_stage_ends_the_chain_with_its_code(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = recipe(start)
    with monkeypatch.context() as patched:
        at_step(patched, 0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as stopped:
            call("run", file)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert (start / "out" / "finetune-training" / "checkpoint-1").is_dir()
    assert ran(file) == {"mine": False, "finetune": True}


def test_changed_inputs_are_seen(start: Path) -> None:
    file = recipe(start)
    ran(file)
    corpus = start / "data" / "corpus.jsonl"
    text = corpus.read_text()
    later = time.time_ns() + 10**9
    os.utime(corpus, ns=(later, later))
    assert ran(file) == {"mine": False, "finetune": False}
    corpus.write_text(text.replace("before item 3 ", "before item three "))
    assert ran(file) == {"mine": True, "finetune": True}
    other = start / "other"
    shutil.copytree(start / "data", other)
    assert ran(file, f"values.data={other}") == {"mine": False, "finetune": False}
    (start / "out" / "finetune").rename(start / "gone")
    assert ran(file) == {"mine": False, "finetune": True}


def test_pretraining_is_never_thrown_away(start: Path) -> None:
    values = {
        "data": ["$prepare"],
        "steps": 2,
        "batch_tokens": 256,
        "from_scratch": {"layers": 1, "hidden": 16, "heads": 2},
    }
    prepare = {"inputs": ["$data"], "text": "passages", "vocabulary": 150, "max_length": 32}
    file = recipe(start, prepare=prepare, pretrain=values)
    assert ran(file) == {"prepare": True, "pretrain": True}
    assert ran(file) == {"prepare": False, "pretrain": False}
    with pytest.raises(DupmaeError, match=r"out/pretrain: stage pretrain was run otherwise: seed was 0, is 1"):
        ran(file, "stages.pretrain.seed=1")
    assert (start / "out" / "pretrain" / "encoder").is_dir()
    with pytest.raises(DupmaeError, match="its inputs have changed"):
        ran(file, "stages.prepare.max_length=24")
    given = ("stages.pretrain.seed=1", "replace_pretraining=true")
    assert ran(file, *given) == {"prepare": False, "pretrain": True}
    assert ran(file, *given) == {"prepare": False, "pretrain": False}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"stages": []}', '{"stages": {"mine": {}, "finetune": 3}, "files": {"x": 1}}']
)
def test_a_damaged_record_counts_as_absent(start: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    file = recipe(start, mine={"data": "$data", "depth": 5})
    ran(file)
    (start / "out" / "chain.json").write_text(text)
    with caplog.at_level("WARNING", logger="dupmae"):
        assert ran(file) == {"mine": True}
    assert ran(file) == {"mine": False}


def test_missing_files_are_refused_before_anything_is_run(start: Path) -> None:
    file = recipe(start, mine={"data": "$data"}, evaluate={"retriever": str(start / "nowhere"), "data": "$data"})
    with pytest.raises(DupmaeError, match="nowhere: stage evaluate: retriever: no such file or folder"):
        ran(file)
    assert not (start / "out").exists()


def test_a_value_that_no_stage_uses_is_refused(start: Path) -> None:
    file = recipe(start)
    with pytest.raises(DupmaeError, match=r"no stage uses values\.dta \(did you mean data\?\)"):
        ran(file, "values.dta=x")


def test_names_stand_for_values_of_any_type(start: Path) -> None:
    values = {"data": "d", "depth": 7, "none": None, "list": ["a", "b"], "text": "x", "empty": ""}
    stages = {
        "mine": {"data": "$data/${text}$$", "depth": "$depth", "retriever": "$none"},
        "prepare": {"inputs": "$list"},
        "left": {"stage": "mine", "when": "$empty", "otherwise": "$data", "data": "$data"},
        "again": {"stage": "mine", "data": "$left", "block": "$depth"},
        "here": {"stage": "mine", "data": "$out/data"},
    }
    settings = load(Chain, None, (), out=start / "out", values=values, stages=stages)
    by_name = {stage.name: stage.settings for stage in stages_of(settings)}
    assert (by_name["mine"].data, by_name["mine"].depth, by_name["mine"].retriever) == (Path("d/x$"), 7, None)
    assert by_name["prepare"].inputs == [Path("a"), Path("b")]
    assert "left" not in by_name
    assert by_name["again"].data == Path("d")
    assert by_name["here"].data == start / "out" / "data"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_two_processes_run_a_stage_once(start: Path) -> None:
    file = recipe(start, mine={"data": "$data", "depth": 5})
    children = []
    for number in range(2):
        child = os.fork()
        if child == 0:
            code = 9
            try:
                code = int(ran(file)["mine"])
            finally:
                os._exit(code)
        children.append(child)
        assert number < 2
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sorted(codes) == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_kills_in_every_stage_change_nothing(start: Path) -> None:
    pytest.importorskip("sentence_transformers")
    done = warm.run(chained.main, start, 1, environment={"DUPMAE_CACHE": str(start / "cache")})
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["stopped"] == report["whole"]
    assert report["whole"]["metrics"]["mrr@10"] > 0
    hit = [stage for stage, found in report["killed"] if stage == found]
    assert len(hit) >= len(report["killed"]) - 2, report["killed"]


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"sing": {}}, "line 5: stage sing: no stage sing (write stage: and one of prepare,"),
    (
        {"mine": {"data": "$dat"}},
        "line 5: stage mine: $dat names no value and no earlier stage (known here: out, data, model)",
    ),
    ({"mine": {"data": "$"}}, "line 5: stage mine: '$' has a $ without a name"),
    ({"mine": {"data": "$data", "dept": 3}}, "line 7: stage mine: no setting dept (did you mean depth?)"),
    ({"mine": {"data": "$data", "depth": 0}}, "line 7: stage mine: depth cannot be 0"),
    ({"mine": {"depth": 3}}, "line 5: stage mine: data is not given"),
    ({"mine": {"data": "$mine"}}, "line 5: stage mine: $mine names no value"),
    ({"data": {"stage": "mine"}}, "line 5: stage data: the name stands for a value"),
    ({"pretrain": {"recipe": "nowhere"}}, "stage pretrain: no such recipe"),
]


@pytest.mark.parametrize(("stages", "told"), FAULTS)
def test_faults_name_stage_and_line(
    stages: dict[str, Any], told: str, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["out: OUT", "values: {data: d, model: m}", "# Stages.", "stages:"]
    for name, values in stages.items():
        lines += (
            [f"  {name}:", *(f"    {key}: {value}" for key, value in values.items())] if values else [f"  {name}: {{}}"]
        )
    file = write_text(start / "chain.yaml", "\n".join(lines).replace("OUT", str(start / "out")))
    assert call("run", file, "--quiet") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert told in said
    assert not (start / "out").exists()


def test_the_command(start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = recipe(start, evaluate={"retriever": "$model", "data": "$data"}, mine={"data": "$data", "depth": 3})
    assert call("run", file, "--quiet") == 2
    assert "not a retriever folder" in capsys.readouterr().err
    file = recipe(start, mine={"data": "$data", "depth": 3})
    assert call("run", file, "--json", "--quiet") == 0
    (told,) = json.loads(capsys.readouterr().out)["stages"]
    assert (told["name"], told["before"], told["metrics"]) == ("mine", False, None)
    assert len((start / "out" / "mine" / "negatives.jsonl").read_text().splitlines()) == QUERIES
    assert call("run", file, "--quiet") == 0
    assert "finished before" in capsys.readouterr().out


def test_the_recipe_that_comes_along() -> None:
    file = RECIPES / "dupmae-msmarco-finetune.yaml"
    stages = stages_of(load(Chain, file, ["values.data=mine"]), file)
    by_name = {stage.name: stage.settings for stage in stages}
    assert [stage.kind for stage in stages] == [
        "prepare", "pretrain", "mine", "finetune", "mine", "finetune", "evaluate", "train-reranker",
        "distill", "evaluate",
    ]  # fmt: skip
    assert by_name["pretrain"].epochs == 20
    assert by_name["pretrain"].data == [by_name["prepare"].out]
    assert by_name["finetune-hard"].mined == by_name["mine-hard"].out / "negatives.jsonl"
    assert by_name["mine-hard"].retriever == by_name["finetune-bm25"].out
    assert by_name["distill"].scores == by_name["reranker"].out / "scores.jsonl"
    assert by_name["finetune-hard"].data == Path("mine")
