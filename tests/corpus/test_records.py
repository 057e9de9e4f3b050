"""Every reader of records: the same faults of JSON, CSV and parquet in one line with file and line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae.corpus.beir import read_corpus, read_qrels
from dupmae.corpus.negatives import read_mined, read_scores
from dupmae.corpus.readers import read_passages, read_texts
from dupmae.corpus.records import read_records
from dupmae.corpus.sts_pairs import read_sts_pairs
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError

LONG = "7" * 4301
READERS: dict[str, Callable[[Path], Any]] = {
    "records": lambda file: list(read_records(file)),
    "corpus": read_corpus,
    "passages": read_passages,
    "texts": lambda file: list(read_texts([file])),
    "training": open_training,
    "mined": lambda file: list(read_mined(file)),
    "scores": read_scores,
    "sts": read_sts_pairs,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (f'{{"_id": "1", "text": "key", "modulus": {LONG}}}', "a number has too many digits"),
        ('{"_id": "1", "text": "key", "deep": ' + "[" * 5000 + "]" * 5000 + "}", "nested too deep"),
        ('{"_id": "1", ', "not JSON"),
        ("[]", "not a JSON object"),
    ],
)
def test_json_that_cannot_be_read(tmp_path: Path, name: str, line: str, problem: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(f"\n{line}\n")
    with pytest.raises(DupmaeError, match=rf"a\.jsonl, line 2: .*{problem}") as error:
        READERS[name](file)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", [f'[\n{{"a": {LONG}}}]', '[\n{"a": ' + "[" * 50_000])
def test_arrays_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DupmaeError, match=r"a\.json, line 2: not JSON: (a number has|nested too deep)"):
        list(read_records(tmp_path / "a.json"))


def test_harmless_oddities(tmp_path: Path) -> None:
    lines = ['{"_id": "1", "text": "half \\ud83d\\u0000"}', '{"\\ud83d": ["\\ud83d"], "_id": "\\udc00"}', ""]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\n \n")
    found = list(read_records(tmp_path / "a.jsonl"))
    assert found == [(1, {"_id": "1", "text": "half ?\x00"}), (2, {"?": ["?"], "_id": "?"})]


def test_one_format_is_as_good_as_another(tmp_path: Path) -> None:
    rows = [{"a": "one, two", "b": 'say "x"\nagain'}, {"a": "three", "b": "x" * 200_000}]
    quoted = [row["b"].replace('"', '""') for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "a.csv").write_text(f'a,b\r\n"one, two","{quoted[0]}"\r\nthree,{quoted[1]}\r\n')
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.csv", "a.parquet"):
        assert [record for _, record in read_records(tmp_path / name)] == rows


def test_parquet_that_cannot_be_read(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    latin = pa.array([b"fine", b"caf\xe9"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"text": latin}), tmp_path / "latin.parquet")
    for name, problem in (("twice", "has the column text twice"), ("latin", "line 2: not UTF-8")):
        for read in (read_passages, open_training, lambda file: list(read_texts([file]))):
            with pytest.raises(DupmaeError, match=rf"{name}\.parquet.*{problem}"):
                read(tmp_path / f"{name}.parquet")


@pytest.mark.parametrize("grade", ["--5", LONG, "1" + "0" * 400, "1.5", ""])
def test_grades_that_are_none(tmp_path: Path, grade: str) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\td\t{grade}\n")
    with pytest.raises(DupmaeError, match=r"test\.tsv, line 2: ") as error:
        read_qrels(tmp_path, "test")
    assert len(str(error.value)) < 300
    (tmp_path / "collection.tsv").write_text("d\ttext\n")
    (tmp_path / "qrels.test.tsv").write_text(f"q 0 d {grade}\n")
    with pytest.raises(DupmaeError, match=r"qrels\.test\.tsv, line 1: "):
        read_qrels(tmp_path, "test")


@pytest.mark.parametrize("score", ["1" + "0" * 400, "1e400", "NaN", '"high"', "null", "true"])
def test_scores_that_are_none(tmp_path: Path, score: str) -> None:
    (tmp_path / "s.jsonl").write_text(f'{{"query_id": "q", "passage_ids": ["d"], "scores": [{score}]}}\n')
    with pytest.raises(DupmaeError, match=r"s\.jsonl, line 1: the score of query q and passage d"):
        read_scores(tmp_path / "s.jsonl")
