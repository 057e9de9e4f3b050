"""What an index can be made of: whatever is prepared, with the ids that it has or numbered as it comes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae.corpus.beir import Passage
from dupmae.corpus.readers import read_passages, read_texts
from dupmae.errors import DupmaeError


def test_a_corpus_keeps_its_ids(tmp_path: Path) -> None:
    lines = ['{"_id": "b", "title": "T", "text": "one"}', '{"_id": "a", "text": "two"}', '{"_id": "c", "text": ""}']
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    expected = [Passage("b", "T", "one"), Passage("a", "", "two"), Passage("c", "", "")]
    assert read_passages(tmp_path) == expected
    assert read_passages(tmp_path / "corpus.jsonl") == expected


def test_other_text_is_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "T", "text": "one"}\n{"text": " "}\n{"text": "two"}\n')
    (tmp_path / "b.txt").write_text("three\n\nfour\n")
    numbered = [Passage("1", "T", "one"), Passage("2", "", "two"), Passage("3", "", "three"), Passage("4", "", "four")]
    assert read_passages(tmp_path) == numbered
    assert read_passages(tmp_path / "a.jsonl") == numbered[:2]


def test_ids_are_kept_in_every_layout(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "a.jsonl").write_text('{"_id": "doc-17", "text": "tea leaves are boiled"}\n')
    (parts / "b.jsonl").write_text('{"id": 42, "text": "objects are compared"}\n')
    expected = [Passage("doc-17", "", "tea leaves are boiled"), Passage("42", "", "objects are compared")]
    assert (
        read_passages(parts) == read_passages(parts / "*.jsonl") == read_passages(tmp_path / "**/*.jsonl") == expected
    )
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["one", "two"], "more": [1, 2]}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"text": ["one", "two"], "_id": [7, 8]}), tmp_path / "d.parquet")
    (tmp_path / "e.csv").write_text('id,title,text\nx,T,"one, two"\n')
    assert [passage.id for passage in read_passages(tmp_path / "c.parquet")] == ["x", "y"]
    assert [passage.id for passage in read_passages(tmp_path / "d.parquet")] == ["7", "8"]
    assert read_passages(tmp_path / "e.csv") == [Passage("x", "T", "one, two")]
    assert list(read_texts([tmp_path / "e.csv"])) == ["T\n\none, two"]


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ('{"_id": "x", "text": "one"}', '{"text": "two"}', r"b\.jsonl, line 1: record without an id among others"),
        ('{"text": "one"}', '{"id": "x", "text": "two"}', r"b\.jsonl, line 1: only some records have an id"),
        ('{"_id": "x", "text": "one"}', '{"id": "x", "text": "two"}', r"b\.jsonl, line 1: duplicate id x"),
        ('{"_id": "x", "text": "one"}', '{"id": " ", "text": "two"}', r"b\.jsonl, line 1: the id is blank"),
        ('{"_id": "x", "text": "one"}', '{"id": 1.5, "text": "two"}', r"b\.jsonl, line 1: `id` is not text"),
        ('{"_id": "x", "text": ""}', '{"_id": "y", "text": ""}', "holds no text"),
    ],
)
def test_ids_that_cannot_be_kept_are_refused(tmp_path: Path, first: str, second: str, problem: str) -> None:
    (tmp_path / "a.jsonl").write_text(first)
    (tmp_path / "b.jsonl").write_text(second)
    with pytest.raises(DupmaeError, match=problem):
        read_passages(tmp_path)


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for path, problem in ((tmp_path / "b.jsonl", "no such file"), (tmp_path / "*.jsonl", "matches no file")):
        with pytest.raises(DupmaeError, match=problem):
            read_passages(path)
