"""The cells of a study, and what is refused before any of them is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dupmae.errors import DupmaeError
from dupmae.settings.loading import RECIPES
from dupmae.study.grid import cell_of, check, expand
from tests.study.studied import recipe, settings


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recipe(tmp_path_factory.mktemp("grid"))


def levels(file: Path, *overrides: str) -> list[str]:
    study = settings(file, *overrides)
    return [", ".join(cell.levels.values()) for cell in expand(study, study.only)]


def test_each_axis_is_varied_at_the_first_levels_of_the_others(file: Path) -> None:
    alone = ["none, hybrid", "DupMAE, hybrid", "MLM, hybrid", "OT only, hybrid"]
    assert levels(file) == [*alone, "DupMAE, CLS"]
    assert levels(file, "only=[representation]") == ["none, hybrid", "DupMAE, hybrid", "DupMAE, CLS"]
    crossed = "cross=[[pre-training, representation]]"
    assert levels(file, crossed) == [*alone, "DupMAE, CLS", "none, CLS", "MLM, CLS", "OT only, CLS"]
    assert len(levels(file, crossed, "only=[pre-training+representation]")) == 8


def test_levels_change_settings_group_by_group(file: Path) -> None:
    study = settings(file)
    cell = cell_of(study, {"pre-training": "OT only", "representation": "CLS"})
    assert cell.pretrain is not None
    assert cell.pretrain["objective"] == {"kind": "dupmae", "bow": "author", "decoder_weight": 0}
    assert cell.finetune["representation"] == {"kind": "cls", "dimensions": 16, "top_k": 8}
    assert study.pretrain["objective"] == {"kind": "dupmae", "bow": "author"}


def test_what_a_level_leaves_out_no_other_brings_back(tmp_path: Path) -> None:
    axes = {
        "pre-training": {"some": {}, "none": {"pretrain": None}},
        "masking": {"30%": {}, "15%": {"pretrain": {"masking": {"encoder_rate": 0.15}}}},
        "stages": {"one": {}, "two": {"second": {"batch_tokens": 128}}},
    }
    study = settings(recipe(tmp_path, axes=axes, findings=[], cross=[["pre-training", "masking", "stages"]]))
    cells = expand(study)
    # Without pre-training all maskings and stages are the same cell.
    assert len(cells) == 1 + 4
    assert [cell.levels for cell in cells if cell.pretrain is None] == [
        {"pre-training": "none", "masking": "30%", "stages": "one"}
    ]
    both = cell_of(study, {"masking": "15%", "stages": "two"})
    assert both.second is not None
    assert both.second["masking"] == {"encoder_rate": 0.15}
    assert both.second["batch_tokens"] == 128


AXES: dict[str, Any] = {"pre-training": {"DupMAE": {}, "none": {"pretrain": None}}}


@pytest.mark.parametrize(
    ("changes", "message", "on"),
    [
        (
            {"axes": {"a": {"b": {"pretrain": {"objektive": 1}}}}},
            "axes.a.b.pretrain: no setting objektive",
            "objektive",
        ),
        (
            {"axes": {"a": {"b": {"pretrain": {"objective": {"kind": "bert"}}}}}},
            "objective.kind cannot be 'bert'",
            "bert",
        ),
        ({"axes": {"a": {"b": {"pretrain": {"steps": 5}}}}}, "axes.a.b.pretrain.steps is set by the study", "steps: 5"),
        ({"axes": {"a": {"b": {"pretrain": {"data": ["web"]}}}}}, "no corpus web (corpora: own)", "- web"),
        (
            {"axes": {"a": {"b": {"finetune": {"model": "x"}}}}},
            "axes.a.b.finetune.model is set by the study",
            "model: x",
        ),
        ({"axes": {"a": {"b": {"second": {"contrastive": {"wait": 1}}}}}}, "no setting contrastive.wait", "wait"),
        ({"axes": {"a": {"b": {"finetun": {}}}}}, "no setting axes.a.b.finetun", "finetun:"),
        ({"baseline": {"pretraining": "none"}}, "baseline names no axis pretraining (axes: pre-training)", "baseline"),
        ({"baseline": {"pre-training": "no"}}, "no level no of pre-training (levels: DupMAE, none)", "baseline"),
        ({"cross": [["pre-training", "x"]]}, "cross names no axis x", "cross"),
        ({"findings": [{"claim": "c", "better": {}, "worse": {"x": "y"}}]}, "findings names no axis x", "findings"),
        ({"corpora": {"own": {"inputs": ["a"], "out": "b"}}}, "corpora.own.out is set by the study", "out: b"),
        ({"finetune": {"batch_size": 4}}, "neither finetune.steps nor finetune.epochs is given", "finetune"),
        ({"tests": {"t": {"path": "x", "splits": "y"}}}, "no setting tests.t.splits", "splits"),
        ({"pairs": {"p": {"path": "x", "kind": "y"}}}, "pairs", "kind: y"),
    ],
)
def test_wrong_names_are_refused_with_their_line(
    tmp_path: Path, changes: dict[str, Any], message: str, on: str
) -> None:
    base = {"axes": AXES, "findings": [], "baseline": {} if "axes" in changes else {"pre-training": "none"}}
    file = recipe(tmp_path, **{**base, **changes})
    with pytest.raises(DupmaeError) as caught:
        check(settings(file), file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.line is not None
    lines = file.read_text().splitlines()
    assert any(on in line for line in lines[caught.value.line - 1 :])
    assert f"{file}, line {caught.value.line}" in str(caught.value)


@pytest.mark.parametrize("name", ["study", "zero-shot", "small-from-nothing"])
def test_the_recipes_that_come_along(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    study = settings(path)
    check(study, path)
    cells = expand(study)
    assert cells[0].pretrain is None
    assert {name for finding in yaml.safe_load(path.read_text())["findings"] for name in finding} <= {
        "claim",
        "better",
        "worse",
        "quoted",
        "note",
    }
