"""The examples and tables of docs/backbones.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import FAMILIES
from tests.paths import DOCS

PAGE = (DOCS / "backbones.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_table_is_the_one_in_the_code() -> None:
    assert re.findall(r"^\| `(\S+)` \|", PAGE, re.MULTILINE) == ["model_type", *FAMILIES]


def test_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gpt2-folder").mkdir()
    Path("gpt2-folder", "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(DupmaeError) as error:
        exec(blocks("python")[0], {})
    assert f"{error.value}\n" == blocks("text")[0]


def test_the_words(capsys: pytest.CaptureFixture[str]) -> None:
    exec(blocks("python")[1], {})
    assert capsys.readouterr().out == blocks("text")[1]
