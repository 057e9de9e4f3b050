"""The page on adapting an encoder: its commands run, and its figures are those that were kept."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.adapt import BEGIN, END, PAGE, RESULTS, SYSTEMS, table
from dupmae.settings import Chain, Pretrain, Synthesize
from dupmae.settings.loading import RECIPES, load
from dupmae.stages.chain import stages_of
from tests.tiny import beir_folder, call

TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_pairs_are_made_by_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(tmp_path / "texts", 30)
    for line in BLOCKS[2].splitlines():
        assert call(*shlex.split(line)[1:], "--quiet") == 0, capsys.readouterr().err
    queries = [json.loads(line)["_id"] for line in Path("pairs/queries.jsonl").read_text().splitlines()]
    assert all(re.fullmatch(r"(title|sentence|crop)-\d+", name) for name in queries)


def test_its_chains_are_understood() -> None:
    recipe = RECIPES / "adapt.yaml"
    chain = load(Chain, recipe)
    for line in (BLOCKS[0] + BLOCKS[1]).splitlines():
        words = shlex.split(line)[1:]
        if words[0] == "run":
            given = load(Chain, recipe, words[2:])
            by_name = {stage.name: stage.settings for stage in stages_of(given, recipe)}
            assert ("evaluate" in by_name) == ("values.judged" in line)
            assert f"dupmae search {given.out}" in BLOCKS[0] or "evaluate" in by_name
    pretrained = by_name["pretrain"]
    assert isinstance(pretrained, Pretrain)
    assert f"{pretrained.steps} steps of {pretrained.batch_tokens:,} tokens" in TEXT
    apart = ("inputs", "out", "language", "seed")
    named = [*chain.values, *chain.stages, *(name for name in Synthesize.model_fields if name not in apart)]
    assert [name for name in named if f"`{name}`" not in TEXT and f"**{name}**" not in TEXT] == []


def test_its_figures_are_those_that_were_kept() -> None:
    figures = TEXT.partition(BEGIN)[2].partition(END)[0].strip()
    assert figures == table(json.loads(RESULTS.read_text(encoding="utf-8")))


def test_the_table() -> None:
    systems = {name: {"ndcg@10": 0.1 * place, "recall@100": 0.5} for place, name in enumerate(SYSTEMS)}
    found = {
        "queries": 1200,
        "passages": 30,
        "systems": systems,
        "p_values": {"bm25": 0.01, "encoder": 0.2},
        "p_holm": {"bm25": 0.02, "encoder": 0.2},
        "seconds": {"prepare": 30.0, "pretrain": 150.0},
    }
    lines = table({"sets": {"a": found, "b": found}, "threads": 1}).splitlines()
    assert lines[0] == "| | a: 1,200 queries, 30 passages | b: 1,200 queries, 30 passages |"
    assert "| adapted hybrid | 0.300 (0.500) | 0.300 (0.500) |" in lines
    assert "| adapted hybrid against BM25: p | 0.0100 (0.0200) | 0.0100 (0.0200) |" in lines
    assert "| minutes of the whole recipe, 1 thread(s) | 3 | 3 |" in lines
