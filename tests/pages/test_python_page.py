"""The examples of docs/python.md run as they stand, with training cut down to a single step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dupmae
from dupmae.stages import STAGES
from tests.paths import DOCS
from tests.reference.tiny import sentences
from tests.tiny import unchanged_process

PAGE = (DOCS / "python.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("\n".join(sentences(40)), encoding="utf-8")
    names: dict[str, object] = {}
    with unchanged_process():
        for example in EXAMPLES:
            exec(example.replace("minutes=60", "steps=1, batch_tokens=256, head_start='keep'"), names)
    printed = capsys.readouterr().out
    assert re.search(r"\{'ndcg@10': [\d.]+, 'recall@100': 1.0\}", printed)
    assert "Retriever(not saved, cls, 384 dimensions" in printed
    assert "Index(in memory, 3 passages" in printed
    assert "Encoded(1 texts" in printed
    assert printed.endswith(re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0])


def test_the_page_names_all_that_is_public() -> None:
    for name in set(dupmae.__all__) - {"__version__"}:
        assert f"`{name}`" in PAGE
    # Of the commands, the first two answer a person at a terminal; the others are stages that only chains have.
    apart = {"report", "search", "documentation", "gather", "untrained", "from-encoder", "merge"}
    assert set(STAGES) - apart == set(dupmae._STAGES.values())


def test_first_steps_begin_with_the_same_ten_lines() -> None:
    first = re.search(r"^```py\n(.*?)^```$", (DOCS / "first-steps.md").read_text(encoding="utf-8"), re.DOTALL | re.M)
    assert first is not None
    assert first[1] == EXAMPLES[0]
