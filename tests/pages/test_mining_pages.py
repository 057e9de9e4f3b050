"""The pages on mining and distillation: their commands run, training cut down to single steps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dupmae.corpus.negatives import read_mined
from dupmae.settings import Mine
from tests.paths import DOCS
from tests.reference.tiny import tiny_folder
from tests.tiny import beir_folder, call, documents, tiny_retriever

MINING, DISTILLATION = ((DOCS / name).read_text(encoding="utf-8") for name in ("mining.md", "distillation.md"))
TUNING = "batch_size=4 passage_length=32 representation.dimensions=8 representation.top_k=16 remine_every=null"
SMALL = {
    "finetune": f"steps=2 {TUNING}",
    "train-reranker": "steps=1 length=32 batch_size=2 negatives=2 log_every=1",
    "distill": "steps=1 batch_size=2 negatives=2",
    "run": "stages.finetune.steps=1 stages.finetune.batch_size=4 stages.finetune.passage_length=32 "
    "stages.finetune.representation.dimensions=8 stages.finetune.representation.top_k=16",
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    beir_folder(tmp_path / "mine", 30)
    tiny_folder(tmp_path / "encoder")
    tiny_retriever(tmp_path / "retriever", texts=[passage.content for passage in documents(30)])
    return tmp_path


def run(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in text.splitlines():
        words = shlex.split(line)
        assert words[0] == "dupmae"
        small = shlex.split(SMALL.get(words[1], ""))
        if "remine_every=50" in words:
            words, small = [word.replace("remine_every=50", "remine_every=1") for word in words], small[:-1]
        given = {word.partition("=")[0] for word in small}
        kept = [word for word in words[1:] if word.partition("=")[0] not in given]
        if "--steps" in kept and "steps" in given:
            del kept[kept.index("--steps") : kept.index("--steps") + 2]
        assert call(*kept, *small, "--quiet") == 0, capsys.readouterr().err


def test_the_commands_of_mining(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, chain, change = blocks(MINING, "bash")
    (recipe,) = blocks(MINING, "yaml")
    (folder / "chain.yaml").write_text(recipe)
    run(first + second + chain, capsys)
    capsys.readouterr()
    run(change, capsys)
    assert re.search(r"^mine +finished before$", capsys.readouterr().out, re.MULTILINE)
    mined = list(read_mined(folder / "mined" / "negatives.jsonl"))
    assert len(mined) == 30
    keys = set(re.findall(r"`(\w+)`", MINING.split("`negatives.jsonl` | |")[1].split("\n\n")[0]))
    assert keys == set(json.loads((folder / "mined" / "negatives.jsonl").read_text().splitlines()[0]))
    assert sorted(path.name for path in (folder / "third-training").glob("*.npy")) == ["negatives-1.npy"]


def test_the_commands_of_distillation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(blocks(DISTILLATION, "bash")[0], capsys)
    assert "mrr@10" in capsys.readouterr().out
    keys = set(json.loads((folder / "teacher" / "scores.jsonl").read_text().splitlines()[0]))
    assert keys <= set(re.findall(r"`(\w+)`", DISTILLATION))


def test_the_defaults_that_are_named() -> None:
    settings = Mine(data=Path("a"), out=Path("b"))
    assert f"({settings.block:,})" in MINING
    assert f"`margin` ({settings.margin}," in MINING
