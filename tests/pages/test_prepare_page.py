"""The examples of docs/prepare.md run as they stand, with training cut down to three steps."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dupmae.shards.folder import Shards
from tests.paths import DOCS
from tests.tiny import call

PAGE = (DOCS / "prepare.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    write, read = blocks("python")
    exec(write, {})
    for line in "".join(blocks("bash")).splitlines():
        words = [word.replace("minutes=60", "steps=3") for word in shlex.split(line)]
        small = ["from_scratch.layers=1", "from_scratch.hidden=16", "from_scratch.heads=2"]
        assert words[0] == "dupmae"
        assert call(*words[1:], *(small if words[1] == "pretrain" else [])) == 0, capsys.readouterr().err
    assert (tmp_path / "mixed" / "encoder" / "config.json").is_file()
    assert Shards.open("passages").manifest.text == "passages"
    capsys.readouterr()
    exec(read, {})
    assert re.match(
        r"[\d,]+ records, \d+ batches an epoch, \d\.\d\d% padding\n\[CLS\] .*\[SEP\]\n", capsys.readouterr().out
    )


def test_corpora_that_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"number {n} of the texts that are long enough to be a record" for n in range(40)))
    for name, vocabulary in (("a", 100), ("b", 120)):
        assert call("prepare", text, "--out", tmp_path / name, f"vocabulary={vocabulary}") == 0
    capsys.readouterr()

    def refusal(*words: str) -> str:
        assert call("pretrain", "--out", tmp_path / "run", "steps=1", *words) == 2
        return capsys.readouterr().err

    both = f"data=[{tmp_path / 'a'},{tmp_path / 'b'}]"
    assert "was made with another tokenizer than" in refusal(both)
    assert "weights: 1 given for 2 folders in data" in refusal(both, "weights=[1]")
    assert "weights: each must be above 0" in refusal(both, "weights=[1,0]")
    assert "data: names a folder twice" in refusal(f"data=[{tmp_path / 'a'},{tmp_path / 'a'}]")
