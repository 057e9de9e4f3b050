"""The examples of docs/compare.md run as they stand, and what it says of files and settings is so."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dupmae.settings import Compare
from tests.paths import DOCS
from tests.tiny import beir_folder, call, tiny_retriever, unchanged_process

PAGE = (DOCS / "compare.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(Path("mine"), 20)
    tiny_retriever(Path("first"))
    tiny_retriever(Path("second"), "cls")
    for line in "".join(blocks("bash")).splitlines():
        assert call(*shlex.split(line)[1:], "--quiet") == 0, capsys.readouterr().err
    table = PAGE.split("| file |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([\w.-]+\.(?:html|json|md|png)|bm25/)`", table))
    assert {path.name + "/" * path.is_dir() for path in Path("comparison").iterdir()} == named
    found = json.loads(Path("comparison/report.json").read_text())
    (row,) = re.findall(r"^\| `report.json` \| (.*) \|$", PAGE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) <= found.keys()
    named = json.loads(Path("named/report.json").read_text())["systems"]
    assert {name: system["label"] for name, system in named.items()} == {
        "plain": "no pre-training",
        "pretrained": "pretrained",
    }
    assert f"the `movers` ({Compare(inputs=[Path('a')]).movers})" in PAGE
    capsys.readouterr()
    (python,) = blocks("python")
    with unchanged_process():
        exec(python, {})
    assert re.fullmatch(r"second - first -?[\d.]+ [\d.]+ \d+ \d+ \d+\n", capsys.readouterr().out)
