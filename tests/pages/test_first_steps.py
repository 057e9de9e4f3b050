"""The examples of docs/first-steps.md run as they stand, with training cut down to single steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dupmae import cli
from dupmae import settings as recipe
from dupmae.settings.loading import load
from tests.paths import DOCS
from tests.tiny import call, unchanged_process

# Pages of their own tell of these.
APART = (
    "quickstart",
    "mine",
    "train-reranker",
    "distill",
    "export",
    "rerank",
    "run",
    "plan",
    "synthesize",
    "study",
    "compare",
)
PAGE = (DOCS / "first-steps.md").read_text(encoding="utf-8")
SMALL = {
    "bash": {"minutes=8": "steps=1 from_scratch.layers=1 from_scratch.hidden=16", "minutes=2": "steps=1 batch_size=4"},
    "python": {
        "minutes=8": "steps=1, from_scratch={'layers': 1, 'hidden': 16}",
        "minutes=2": "steps=1, batch_size=4",
    },
}


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    for long, short in SMALL.get(language, {}).items():
        assert any(long in block for block in found)
        found = [block.replace(long, short) for block in found]
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    exec(blocks("python")[0], {})  # writes mine/, which the other examples start from
    return tmp_path


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (commands,) = blocks("bash")
    lines = [shlex.split(line) for line in commands.splitlines()]
    assert [line[1] for line in lines] == [name for name in cli.COMMANDS if name not in APART]
    for line in lines:
        assert line[0] == "dupmae"
        assert call(*line[1:]) == 0, capsys.readouterr().err
    assert "recall@100" in capsys.readouterr().out
    assert (folder / "measured" / "metrics.json").is_file()


def test_the_python_twin(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with unchanged_process():
        exec(blocks("python")[1], {})
    assert "recall@100" in capsys.readouterr().out


def test_the_recipe(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    (tmp_path / "pretraining.yaml").write_text(text)
    found = load(recipe.Pretrain, tmp_path / "pretraining.yaml", ["seed=1"])
    assert (found.objective.bow_weight, found.minutes, found.seed) == (0.5, 8, 1)
    assert yaml.safe_load(text)["masking"] == {"encoder_rate": 0.3}


def test_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = blocks("yaml")
    # The page's file without its leading comment and with one name misspelt.
    Path("pretraining.yaml").write_text(text.replace("  kind:", "  knd:"))
    assert call("pretrain", "--recipe", "pretraining.yaml") == 2
    (shown,) = blocks("text")
    assert capsys.readouterr().err == shown
