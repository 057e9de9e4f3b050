"""A study runs each cell once, goes on where it was stopped, and reports from its record alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dupmae.errors import DupmaeError
from dupmae.study.cells import Cells
from dupmae.study.grid import cell_of
from dupmae.study.runner import Done, study
from dupmae.training import checkpoints
from tests.study.studied import data_folder, recipe, settings
from tests.tiny import call


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Done]]:
    """The folder of a study that was run one cell first, then whole."""
    folder = tmp_path_factory.mktemp("study")
    data_folder(folder)
    file = recipe(folder)
    return file, [study(settings(file, "limit=1"), file), study(settings(file), file)]


def record(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((file.parent / "results/study.json").read_text())
    return found


def by_level(file: Path) -> dict[str, dict[str, Any]]:
    """Runs by level of pre-training, or by the name of the system."""
    return {
        cell["settings"].get("system") or ", ".join(cell["settings"].values()): cell for cell in record(file)["cells"]
    }


def test_every_cell_is_run_once(ran: tuple[Path, list[Done]]) -> None:
    file, (first, whole) = ran
    assert [(done.ran, done.finished, done.planned) for done in (first, whole)] == [(1, 1, 5), (4, 5, 5)]
    cells = by_level(file)
    trained = ["none, hybrid", "DupMAE, hybrid", "MLM, hybrid", "OT only, hybrid", "DupMAE, CLS"]
    assert list(cells) == ["BM25", "start as it comes", *trained]
    for cell in cells.values():
        assert {"settings", "seed", "metrics", "seconds", "hardware"} <= set(cell)
        assert set(cell["metrics"]) == {"first", "second"}
        assert [len(values) for values in cell["per_query"].values()] == [20, 10]
        for name, metrics in cell["metrics"].items():
            mean = sum(cell["per_query"][name]) / len(cell["per_query"][name])
            assert metrics["ndcg@10"] == pytest.approx(mean, abs=1e-5)
    before = (file.parent / "results/study.json").read_bytes()
    assert study(settings(file), file).ran == 0
    assert (file.parent / "results/study.json").read_bytes() == before


def test_all_cells_spend_the_same_operations(ran: tuple[Path, list[Done]]) -> None:
    cells = by_level(ran[0])
    assert "pretrain" not in cells["none, hybrid"]["steps"]
    spent = {name: cells[f"{name}, hybrid"]["steps"]["pretrain"] for name in ("DupMAE", "MLM", "OT only")}
    assert spent["DupMAE"]["steps"] < spent["OT only"]["steps"] <= spent["MLM"]["steps"]
    for done in spent.values():
        assert done["flops"] == pytest.approx(2e8, rel=0.5 / done["steps"])
    # Cells that differ in fine-tuning alone share the pre-training.
    assert cells["DupMAE, CLS"]["seconds"]["pretrain"] == cells["DupMAE, hybrid"]["seconds"]["pretrain"]


def test_models_of_finished_cells_are_removed(ran: tuple[Path, list[Done]]) -> None:
    left = {path.name.partition("-")[0] for path in (ran[0].parent / "work").iterdir() if path.is_dir()}
    assert left == {"prepare", "gather"}


def test_the_report_is_made_of_the_record_alone(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    file = ran[0]
    results = file.parent / "results"
    text = (results / "README.md").read_text()
    for name in ("pre-training.png", "representation.png"):
        assert (results / name).read_bytes().startswith(b"\x89PNG")
        assert f"]({name})" in text
    assert "5 runs: 5 cells, seed 0" in text
    assert "| It helps | .41 / .39 | DupMAE / none |" in text
    assert "- It helps: So short." in text
    assert "| Both are better | – | DupMAE / representation CLS |" in text
    assert "| BM25 |" in text
    assert "| start as it comes |" in text
    assert "not run" not in text.lower()
    other = tmp_path / "results"
    done = study(settings(file, f"out={other}", f"merge=[{results / 'study.json'}]", f"work={tmp_path / 'work'}"), file)
    assert (done.ran, done.finished) == (0, 5)
    assert (other / "README.md").read_text() == text
    assert (other / "study.json").read_bytes() == (results / "study.json").read_bytes()


def test_other_settings_are_other_cells(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    shutil.copytree(ran[0].parent / "results", tmp_path / "results")
    done = study(settings(ran[0], f"out={tmp_path / 'results'}", "limit=0", "flops=3e8", "seeds=[0, 1]"), ran[0])
    # The cell without pre-training does not depend on the budget of pre-training.
    assert (done.finished, done.planned) == (1, 10)
    text = (tmp_path / "results/README.md").read_text()
    assert "1 runs: 1 cells" in text
    assert "Not run yet: DupMAE, MLM and OT only." in text
    found = json.loads((tmp_path / "results/study.json").read_text())
    assert [cell["current"] for cell in found["cells"]] == [True] * 3 + [False] * 4


def test_seeds_that_are_not_asked_for_stay_in_the_tables(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    shutil.copytree(ran[0].parent / "results", tmp_path / "results")
    done = study(settings(ran[0], f"out={tmp_path / 'results'}", "limit=0", "seeds=[1]"), ran[0])
    assert (done.finished, done.planned) == (0, 5)
    assert "5 runs: 5 cells, seed 0" in (tmp_path / "results/README.md").read_text()
    found = json.loads((tmp_path / "results/study.json").read_text())
    assert all(cell["current"] for cell in found["cells"])


def killed(save: Callable[..., Any], out: Path, step: int, *rest: Any) -> None:
    """Save a checkpoint, and be killed by the second step's: a cell is then in the midst of its pre-training."""
    save(out, step, *rest)
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_study_goes_on(ran: tuple[Path, list[Done]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ran[0]
    changes = [f"out={tmp_path / 'results'}", f"work={tmp_path / 'work'}", "bm25=false"]
    child = os.fork()
    if child == 0:
        try:
            saved = checkpoints.save
            monkeypatch.setattr(checkpoints, "save", lambda out, step, *rest: killed(saved, out, step, *rest))
            study(settings(file, *changes), file)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    done = study(settings(file, *changes, "limit=1"), file)
    assert (done.ran, done.finished) == (1, 2)
    found = json.loads((tmp_path / "results/study.json").read_text())["cells"]
    same = {cell["key"]: cell["per_query"] for cell in record(file)["cells"]}
    assert len(found) == 3
    assert all(cell["per_query"] == same[cell["key"]] for cell in found)


def test_two_stages_share_the_budget(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    file = ran[0]
    axes = {"stages": {"one": {}, "two": {"second": {"contrastive": {"batch_size": 4, "passage_length": 32}}}}}
    changed = recipe(tmp_path, axes=axes, baseline={}, findings=[], bm25=False, as_it_comes=None, seeds=[3])
    chosen = settings(changed, f"data={file.parent}", f"start.model={file.parent / 'model'}", f"work={tmp_path / 'w'}")
    cells = Cells(chosen)
    work = cells.work(cell_of(chosen, {"stages": "two"}), 3)
    entry = cells.run(work)
    assert entry["settings"] == {"stages": "two"}
    assert set(entry["seconds"]) == {"pretrain", "second", "finetune", "evaluate"}
    for stage in ("pretrain", "second"):
        assert entry["steps"][stage]["flops"] == pytest.approx(1e8, rel=0.5 / entry["steps"][stage]["steps"])
    assert entry["steps"]["second"]["steps"] < entry["steps"]["pretrain"]["steps"]
    for name, paired in (("pretrain", False), ("second", True)):
        first, *_ = (work.stages[name].out / "log.jsonl").read_text().splitlines()
        assert ("contrastive" in json.loads(first)) is paired


def test_a_start_from_nothing(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    shape = {"layers": 1, "hidden": 16, "heads": 2}
    axes = {"pre-training": {"MLM": {"pretrain": {"objective": {"kind": "mlm"}}}}}
    start = {"from_scratch": shape, "vocabulary": 120}
    changes = {"start": start, "axes": axes, "baseline": {}, "findings": [], "as_it_comes": None, "flops": 2e7}
    file = recipe(tmp_path, **changes, data=str(ran[0].parent))
    assert study(settings(file), file).ran == 1
    assert len(list((tmp_path / "work").glob("untrained-*"))) == 1


def test_the_command(ran: tuple[Path, list[Done]], capsys: pytest.CaptureFixture[str]) -> None:
    file = ran[0]
    assert call("study", file, "--data", file.parent, "--out", file.parent / "results", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["finished"], found["planned"], found["ran"]) == (5, 5, 0)
    assert call("study", file, "only=[pretraining]") == 2
    assert "no axis pretraining (give some of: pre-training, representation)" in capsys.readouterr().err


def test_missing_data_is_named(ran: tuple[Path, list[Done]], tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"first: data: no such file or folder \(check the path"):
        study(settings(ran[0], f"data={tmp_path}", f"out={tmp_path / 'results'}", f"work={tmp_path / 'w'}"), ran[0])


@pytest.mark.parametrize("text", ['{"metrics": {}}', '{"cells": [{"key": "a"}]}'])
def test_a_file_that_is_no_record_is_refused(ran: tuple[Path, list[Done]], tmp_path: Path, text: str) -> None:
    other = tmp_path / "other.json"
    other.write_text(text)
    with pytest.raises(DupmaeError, match="is no record of a study"):
        study(settings(ran[0], f"merge=[{other}]"), ran[0])
