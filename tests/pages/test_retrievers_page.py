"""The examples of docs/retrievers.md run as they stand, one after the other, on a tiny retriever."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.paths import DOCS
from tests.tiny import beir_folder, call, tiny_retriever

PAGE = (DOCS / "retrievers.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    beir_folder(Path("mine"), 30)
    retriever = tiny_retriever(Path("retriever"))
    with torch.no_grad():
        retriever.encoder.term_weights.add_(torch.rand_like(retriever.encoder.term_weights))
    retriever.save("retriever")
    names: dict[str, Any] = {"__name__": "page"}
    encode, stock, weighted, onnx, mteb = blocks("python")
    for block in (encode, stock):
        exec(block, names)
    assert "(2, 8)" in capsys.readouterr().out
    exec(weighted, names)
    for line in blocks("bash")[0].splitlines():
        assert call(*shlex.split(line)[1:]) == 0, capsys.readouterr().err
    exec(onnx, names)
    exec(mteb, names)
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
