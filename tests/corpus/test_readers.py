from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.corpus.beir import Passage, write_beir
from dupmae.corpus.readers import read_passages, read_texts
from dupmae.errors import DupmaeError


def write_parquet(path: Path, columns: dict[str, list[str | None]]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_jsonl_gives_title_and_text(tmp_path: Path, ending: str) -> None:
    text = '{"text": "one\\n two"}\n{"title": "T", "text": "three", "id": 3}\n{"text": " "}\n'
    assert list(read_texts([write(tmp_path / f"a.jsonl{ending}", text)])) == ["one\n two", "T\n\nthree"]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("one\ntwo\nthree", ["one", "two", "three"]),
        ("\n\none\ntwo\n\n\n", ["one", "two"]),
        ("one\ntwo\n\nthree\n \nfour\nfive\n", ["one two", "three", "four five"]),
        ("one\r\ntwo\r\n\r\nthree\r\n", ["one two", "three"]),
    ],
)
def test_txt_gives_paragraphs_or_lines(tmp_path: Path, text: str, records: list[str], ending: str) -> None:
    assert list(read_texts([write(tmp_path / f"a.txt{ending}", text)])) == records


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["tea", "green tea", "a cup"]), min_size=1, max_size=4), min_size=2))
def test_paragraphs_come_back_whole(tmp_path_factory: pytest.TempPathFactory, paragraphs: list[list[str]]) -> None:
    file = tmp_path_factory.mktemp("txt") / "a.txt"
    file.write_text("\n\n".join("\n".join(lines) for lines in paragraphs))
    assert list(read_texts([file])) == [" ".join(lines) for lines in paragraphs]


def test_parquet_gives_title_and_text(tmp_path: Path) -> None:
    titled = write_parquet(tmp_path / "a.parquet", {"text": ["one", None, "three"], "title": ["A", "B", None]})
    many = write_parquet(tmp_path / "b.parquet", {"text": [str(n) for n in range(3000)], "url": [None] * 3000})
    assert list(read_texts([titled])) == ["A\n\none", "B\n\n", "three"]
    assert list(read_texts([many])) == [str(n) for n in range(3000)]


def test_folders_give_their_corpus_or_their_files(tmp_path: Path) -> None:
    write_beir(tmp_path / "beir", [Passage("1", "A", "one")], {"q": "not this"}, {})
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write(mixed / "b.txt", "two")
    write(mixed / "a.jsonl.gz", '{"text": "first"}')
    write(mixed / "README.md", "not this")
    assert list(read_texts([tmp_path / "beir", mixed])) == ["A\n\none", "first", "two"]


def tables(folder: Path) -> Path:
    folder.mkdir()
    write(folder / "queries.tsv", "1\tnot this")
    return folder


def test_ms_marcos_table_and_folder(tmp_path: Path) -> None:
    folder = tmp_path / "msmarco"
    folder.mkdir()
    write(folder / "collection.tsv.gz", "7\tseven, with a line\r\n3\tthree")
    write(folder / "queries.train.tsv", "1\tnot this")
    assert list(read_texts([folder])) == list(read_texts([folder / "collection.tsv.gz"]))
    assert list(read_texts([folder])) == ["seven, with a line", "three"]
    assert [passage.id for passage in read_passages(folder)] == ["7", "3"]
    assert read_passages(folder / "collection.tsv.gz") == read_passages(folder)
    with pytest.raises(DupmaeError, match="has no jsonl, txt or parquet file"):
        read_texts([tables(tmp_path / "plain")])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1\tone\n2", "line 2: needs 2 tab-separated columns"),
        ("1\tone\n2\t ", "line 2: passage 2 is blank"),
        ("D1\thttps://example.org\ttitle\tbody", "line 1: has more than 2 tab-separated columns"),
        ("1\tone\n1\ttwo", "line 2: duplicate id 1"),
    ],
)
def test_a_table_of_another_kind_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DupmaeError, match=problem):
        read_passages(write(tmp_path / "collection.tsv", text))


def test_globs_give_the_files_they_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    write(tmp_path / "b" / "deep" / "z.txt", "deep")
    write(tmp_path / "b" / "a.txt", "a")
    write(tmp_path / "c.txt.gz", "c")
    write(tmp_path / "odd[1].txt", "as it is named")
    assert list(read_texts([tmp_path / "*" / "*.txt"])) == ["a"]
    assert list(read_texts([tmp_path / "**" / "[abz]*.txt*"])) == ["a", "deep"]
    assert list(read_texts([tmp_path / "odd[1].txt"])) == ["as it is named"]
    monkeypatch.chdir(tmp_path)
    assert list(read_texts([Path("b/**/*"), Path("?.txt.gz")])) == ["a", "deep", "c"]
    with pytest.raises(DupmaeError, match=r"x\*\.txt: matches no file"):
        read_texts([Path("x*.txt")])
    write(tmp_path / "b" / "x.md", "x")
    with pytest.raises(DupmaeError, match=r"unknown kind of file '\.md'"):
        read_texts([Path("b/*")])


def test_records_are_streamed(tmp_path: Path) -> None:
    texts = read_texts([write(tmp_path / "a.jsonl", '{"text": "fine"}\noops\n')])
    assert next(texts) == "fine"
    with pytest.raises(DupmaeError, match="line 2: not JSON"):
        next(texts)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "x", "holds no records"),
        ("a.csv", "id,body\n1,x", "line 2: record without `text`"),
        ("a.csv", "text,title\nx", "line 2: 1 entries in a row, 2 in the header"),
        ("a.parquet.gz", "x", "unknown kind of file '.gz'"),
        ("a.jsonl", "", "holds no records"),
        ("a.jsonl", '{"text": ""}', "holds no text"),
        ("a.jsonl", '{"title": "only"}', "line 1: record without `text`"),
        ("a.txt", " \n\n", "holds no text"),
        ("a.txt", "", "holds no text"),
        ("a.parquet", "x", "not a readable parquet file"),
        ("a.parquet", "", "not a readable parquet file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, text: str, problem: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DupmaeError, match=problem) as error:
        list(read_texts([tmp_path / name]))
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_parquet_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"has no column `text` \(has body\)"):
        list(read_texts([write_parquet(tmp_path / "a.parquet", {"body": ["x"]})]))
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(DupmaeError, match="line 1: `text` is not text"):
        list(read_texts([tmp_path / "b.parquet"]))


def test_paths_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    good = write(tmp_path / "a.jsonl", json.dumps({"text": "fine"}))
    empty = tmp_path / "empty"
    empty.mkdir()
    odd = tmp_path / "odd"
    odd.mkdir()
    write(odd / "a.md", "x")
    cases = [(empty, "empty folder"), (odd, "has no jsonl"), (tmp_path / "absent", "no such file or folder")]
    for path, problem in cases:
        with pytest.raises(DupmaeError, match=problem):
            read_texts([good, path])
    with pytest.raises(DupmaeError, match="no input files"):
        read_texts([])
