"""What an index can be made of: corpora with ids, and any other text, numbered as it comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dupmae.corpus.beir import Passage
from dupmae.corpus.readers import read_passages
from dupmae.errors import DupmaeError


def test_a_corpus_keeps_its_ids(tmp_path: Path) -> None:
    lines = ['{"_id": "b", "title": "T", "text": "one"}', '{"_id": "a", "text": "two"}', '{"_id": "c", "text": ""}']
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    expected = [Passage("b", "T", "one"), Passage("a", "", "two"), Passage("c", "", "")]
    assert read_passages(tmp_path) == expected
    assert read_passages(tmp_path / "corpus.jsonl") == expected


def test_other_text_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "T", "text": "one"}\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_text("three\n\nfour\n")
    numbered = [Passage("1", "T", "one"), Passage("2", "", "two"), Passage("3", "", "three"), Passage("4", "", "four")]
    assert read_passages(tmp_path) == numbered
    assert read_passages(tmp_path / "a.jsonl") == numbered[:2]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"_id": "x", "text": "one"}\n{"_id": "x", "text": "two"}\n')
    with pytest.raises(DupmaeError, match="line 2: duplicate id x"):
        read_passages(tmp_path / "a.jsonl")
    with pytest.raises(DupmaeError, match="no such file"):
        read_passages(tmp_path / "b.jsonl")
