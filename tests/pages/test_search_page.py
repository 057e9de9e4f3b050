"""The examples of docs/search.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.paths import ROOT
from tests.tiny import tiny_retriever

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "search.md").read_text(encoding="utf-8"), re.S)


def test_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_retriever(tmp_path / "retriever")
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(block, names)
    assert capsys.readouterr().out.splitlines()[-1] == "2"
