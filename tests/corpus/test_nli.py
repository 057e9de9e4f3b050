"""NLI files as training pairs: premises with what they entail and what contradicts them; odd files get one line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dupmae.corpus.sts_pairs import Alike, read_sts_pairs
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from dupmae.files import write_text

JUDGED = [
    ("a man sleeps", "a person sleeps", "entailment"),
    ("a dog runs", "an animal moves", "entailment"),
    ("a man sleeps", "a man runs", "contradiction"),
    ("a man sleeps", "a man dreams", "neutral"),
    ("a man sleeps", "someone sleeps", "entailment"),
    ("a dog runs", "a dog barks", "-"),
    ("a cat eats", "a cat starves", "contradiction"),
    ("two cars race", "cars move", "entailment"),
    ("two cars race", "the cars are parked", "contradiction"),
]


def judged(*rows: tuple[str, str, str], end: str = "\n") -> str:
    records = [
        {"gold_label": label, "sentence1": left, "sentence2": right, "pairID": "1"} for left, right, label in rows
    ]
    return end.join(json.dumps(record) for record in records)


def texts(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Query -> positives and negatives, in words."""
    data = open_training(path)
    by_id = {passage.id: passage.content for _, passage in data.passages()}
    return {
        query: tuple([by_id[name] for name in found.get(number, [])] for found in (data.positives, data.negatives))
        for number, query in data.queries.items()
    }


EXPECTED = {
    "a man sleeps": (["a person sleeps", "someone sleeps"], ["a man runs"]),
    "two cars race": (["cars move"], ["the cars are parked"]),
}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_premises_with_both_labels_are_taken(tmp_path: Path, end: str) -> None:
    file = write_text(tmp_path / "snli_1.0_train.jsonl", "\ufeff" + judged(*JUDGED, end=end))
    assert texts(file) == EXPECTED


def test_it_may_be_gzipped(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "train.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write(judged(*JUDGED))
    assert texts(tmp_path / "train.jsonl.gz") == EXPECTED


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (judged(("a", "b", "entails")), "line 1: unknown gold_label 'entails' (write one of entailment"),
        ('{"gold_label": "entailment", "sentence1": "a"}\n', "line 1: record without `sentence2`"),
        ('{"sentence1": "a", "sentence2": "b"}\n', "line 1: record without `gold_label`"),
        (judged(("a", " ", "entailment")), "line 1: `sentence2` is blank (remove the record)"),
        (judged(*JUDGED[:2]), "no premise has both an entailment and a contradiction"),
    ],
)
def test_odd_judgements_are_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = write_text(tmp_path / "nli.jsonl", text)
    with pytest.raises(DupmaeError) as error:
        open_training(file)
    assert told in str(error.value)
    assert str(error.value).startswith(str(file))


ROWS = (
    'a man sleeps,a person sleeps,a man runs\n"one, two",three,"says ""no"""\na man sleeps,someone sleeps,a man runs\n'
)
TRIPLES = {
    "a man sleeps": (["a person sleeps", "someone sleeps"], ["a man runs"]),
    "one, two": (["three"], ['says "no"']),
}


@pytest.mark.parametrize(
    "text",
    [
        "sent0,sent1,hard_neg\n" + ROWS,
        "\ufeff" + ("sent0,sent1,hard_neg\n\n" + ROWS + "\n,,\n").replace("\n", "\r\n"),
        ("sent0,sent1,hard_neg\n" + ROWS).rstrip("\n"),
    ],
)
def test_triples_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "nli.csv").write_bytes(text.encode())
    assert texts(tmp_path / "nli.csv") == TRIPLES


def test_columns_are_found_by_name_and_pairs_will_do(tmp_path: Path) -> None:
    file = write_text(tmp_path / "nli.csv", "id,sent1,sent0\n1,b,a\n2,d,c\n")
    assert texts(file) == {"a": (["b"], []), "c": (["d"], [])}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sent0,sent1,sent0\na,b,c\n", "has the column sent0 twice (rename one of them)"),
        ("sent0\na\n", "line 2: row without a positive"),
        ("sent0,sent1,hard_neg\n\na,b\n", "line 3: 2 entries in a row, 3 in the header (put texts with commas"),
        ("sent0,sent1,hard_neg\na, ,c\n", "line 2: `sent1` has no text (remove the row)"),
        ('sent0,sent1,hard_neg\na,b,c\na,"b,c\n', "line 3: not CSV"),
        ("sent0,sent1,hard_neg\n", "holds no records (write a header and a row"),
        ("", "holds no records (write a header and a row"),
    ],
)
def test_odd_triples_are_one_line(tmp_path: Path, text: str, told: str) -> None:
    file = write_text(tmp_path / "nli.csv", text)
    with pytest.raises(DupmaeError) as error:
        open_training(file)
    assert told in str(error.value)


def test_scored_pairs_of_the_benchmark_and_of_json(tmp_path: Path) -> None:
    rows = ["main-news\theadlines\t2015\t0001\t3.200\ta b\tc d", "", 'x\ty\tz\t1\t0\t"e\tf\tlicence\tmore']
    table = tmp_path / "sts-dev.csv"
    table.write_bytes("\r\n".join(rows).encode())
    records = [
        {"sentence1": "a b", "sentence2": "c d", "score": 3.2},
        {"sentence1": '"e', "sentence2": "f", "score": "0"},
    ]
    lines = write_text(tmp_path / "dev.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    assert read_sts_pairs(table) == read_sts_pairs(lines) == [Alike("a b", "c d", 3.2), Alike('"e', "f", 0.0)]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("dev.csv", "a,b,3\n", "line 1: needs 7 tab-separated columns, has 1"),
        ("dev.csv", "g\tf\ty\t1\tmuch\ta\tb\n", "line 1: the score 'much' is no number"),
        ("dev.csv", "g\tf\ty\t1\tnan\ta\tb\n", "line 1: the score 'nan' is no number"),
        ("dev.csv", "g\tf\ty\t1\t2\t\tb\n", "line 1: a sentence is blank"),
        ("dev.csv", "g\tf\ty\t1\t2\ta\tb\n", "holds fewer than two sentence pairs"),
        ("dev.jsonl", '{"sentence1": "a", "sentence2": "b"}\n', "line 1: record without `score`"),
    ],
)
def test_odd_scored_pairs_are_one_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(DupmaeError) as error:
        read_sts_pairs(write_text(tmp_path / name, text))
    assert told in str(error.value)
