"""The page on two stages: its commands and code run on small data, and the settings it names are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dupmae import settings as recipe
from dupmae.retriever.model import Retriever
from dupmae.settings.loading import RECIPES, load
from dupmae.training.log import read_log
from tests.paths import DOCS
from tests.tiny import beir_folder, call, documents

PAGE = (DOCS / "unified.md").read_text(encoding="utf-8")
TINY = "steps=1 batch_tokens=256 from_scratch.layers=1 from_scratch.hidden=16"
PAIRS = "contrastive.batch_size=4 contrastive.query_length=16 contrastive.passage_length=16"
# What makes a command small enough for a test, by how it begins.
SMALL = {
    "prepare mine": "vocabulary=300 max_length=32",
    "prepare nli.txt": "max_length=32",
    "pretrain --data shards --out": TINY,
    "pretrain --data shards --model": f"{TINY} {PAIRS}",
    "pretrain --recipe": f"{TINY} {PAIRS}",
    "finetune --model": "steps=1 batch_size=4 passage_length=32 representation.dimensions=8",
    "finetune --recipe": "steps=1 batch_size=4 query_length=16 passage_length=16 representation.dimensions=8",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def words_of(line: str) -> list[str]:
    """The words of a command, cut down."""
    line = line.removeprefix("dupmae ")
    (small,) = [small for start, small in SMALL.items() if line.startswith(start)]
    line = re.sub(r"--steps \d+|max_length=\d+", "", line)
    return [*shlex.split(line), *small.split()]


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(tmp_path / "mine", 40)
    (triples,) = blocks("text")
    texts = [" ".join(passage.text.split()[:9]).replace('"', "") for passage in documents(12)]
    rows = "".join(f'"{texts[n]}","{texts[n - 1]}","{texts[n - 2]}"\n' for n in range(12))
    Path("nli.csv").write_text(triples + rows, encoding="utf-8")
    scored = "\n".join(f"g\tf\t2015\t{n}\t{n % 5}\t{texts[n]}\t{texts[n - 1]}" for n in range(12))
    Path("sts-dev.csv").write_text(scored, encoding="utf-8")
    first, second = blocks("bash")
    (code,) = blocks("python")
    for line in first.splitlines():
        assert call(*words_of(line)) == 0, capsys.readouterr().err
    exec(code, {})
    for line in second.splitlines():
        assert call(*words_of(line)) == 0, capsys.readouterr().err
    for run in ("stage-2", "stage-2-nli"):
        assert {"mlm", "decoder", "contrastive", "contrastive_accuracy"} <= set(read_log(Path(run))[0])
    assert "probe_spearman" in read_log(Path("sentences-training"))[-1]
    assert Retriever.load("sentences").representation.part_weights == [20, 1]


def test_every_setting_and_recipe_is_on_the_page() -> None:
    for name in recipe.Contrastive.model_fields:
        assert f"`{name}`" in PAGE, name
    (shown,) = blocks("yaml")
    assert recipe.Pretrain.model_validate(yaml.safe_load(shown)).contrastive is not None
    named = re.findall(r"^\| `(\S+-\S+)` \|", PAGE, re.MULTILINE)
    assert named == ["unified-generic", "unified-msmarco", "unified-nli", "simcse-nli"]
    for name in named:
        load(recipe.Finetune if name == "simcse-nli" else recipe.Pretrain, RECIPES / f"{name}.yaml")
