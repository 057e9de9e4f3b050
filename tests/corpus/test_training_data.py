"""Training data of every layout: the same queries, positives and passages; faults with file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus import records
from dupmae.corpus.beir import Passage, write_beir
from dupmae.corpus.training_data import TrainingData, open_training
from dupmae.errors import DupmaeError
from dupmae.files import write_text

PASSAGES = {"p1": "the sea is blue", "p2": "grass is green", "p3": "snow is white", "p4": "coal is black"}
QUERIES = {"q1": "colour of the sea", "q2": "colour of winter", "q3": "nobody judged this"}
POSITIVES = {"q1": ["p1"], "q2": ["p3", "p4"]}
NEGATIVES = {"q1": ["p2"], "q2": ["p1", "p2"]}


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def beir(folder: Path) -> Path:
    qrels = {query: dict.fromkeys(found, 1) | {"p2": 0} for query, found in POSITIVES.items()}
    passages = [Passage(name, "", text) for name, text in PASSAGES.items()]
    write_beir(folder / "beir", passages, QUERIES, {"train": qrels})
    return folder / "beir"


def msmarco(folder: Path) -> Path:
    folder = folder / "msmarco"
    write_text(folder / "collection.tsv", "".join(f"{name}\t{text}\n" for name, text in PASSAGES.items()))
    with gzip.open(folder / "queries.train.tsv.gz", "wt") as file:
        file.writelines(f"{name}\t{text}\n" for name, text in QUERIES.items())
    rows = [f"{query}\t0\t{name}\t1" for query, found in POSITIVES.items() for name in found] + ["q1 0 p2 0"]
    write_text(folder / "qrels.train.tsv", "\n".join(rows))
    return folder


def dpr_file(folder: Path) -> Path:
    def context(name: str) -> dict[str, Any]:
        return {"title": "", "text": PASSAGES[name], "score": 1.0, "passage_id": name}

    examples = [
        {
            "question": QUERIES[query],
            "answers": ["none"],
            "positive_ctxs": [context(name) for name in POSITIVES[query]],
            "negative_ctxs": [context("p4")] if query == "q1" else [],
            "hard_negative_ctxs": [context(name) for name in NEGATIVES[query]],
        }
        for query in POSITIVES
    ]
    return write_text(folder / "dpr.json", json.dumps(examples, indent=4))


def pairs(folder: Path) -> Path:
    records = [
        {
            "query": QUERIES[query],
            "pos": [PASSAGES[name] for name in POSITIVES[query]],
            "neg": [PASSAGES[name] for name in NEGATIVES[query]],
        }
        for query in POSITIVES
    ]
    return write_text(folder / "pairs.jsonl", lines(*records))


def tevatron(folder: Path) -> Path:
    def passages(names: list[str]) -> list[dict[str, str]]:
        return [{"docid": name, "title": "", "text": PASSAGES[name]} for name in names]

    records = [
        {
            "query_id": query,
            "query": QUERIES[query],
            "positive_passages": passages(POSITIVES[query]),
            "negative_passages": passages(NEGATIVES[query]),
        }
        for query in POSITIVES
    ]
    return write_text(folder / "tevatron.jsonl", lines(*records))


def rows(query: str) -> list[dict[str, str | None]]:
    texts = [*(PASSAGES[name] for name in NEGATIVES[query]), None]
    negatives = {f"negative_{rank}": texts[rank - 1] for rank in (1, 2)}
    return [{"anchor": QUERIES[query], "positive": PASSAGES[name], **negatives} for name in POSITIVES[query]]


def columns(folder: Path) -> Path:
    return write_text(folder / "rows.jsonl", lines(*rows("q1"), *rows("q2")))


def parquet(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([*rows("q1"), *rows("q2")]).to_parquet(str(folder / "rows.parquet"))
    return folder / "rows.parquet"


def saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list([*rows("q1"), *rows("q2")]).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def texts(data: TrainingData, found: dict[str, list[str]]) -> dict[str, list[str]]:
    """What `found` says, in texts."""
    by_id = {passage.id: passage.content for _, passage in data.passages()}
    return {data.queries[query]: [by_id[name] for name in names] for query, names in found.items()}


def as_texts(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {QUERIES[query]: [PASSAGES[name] for name in names] for query, names in found.items()}


@pytest.mark.parametrize("write", [beir, msmarco, dpr_file, pairs, tevatron, columns, parquet, saved])
def test_every_layout_is_the_same_data(write: Callable[[Path], Path], tmp_path: Path) -> None:
    data = open_training(write(tmp_path))
    assert texts(data, data.positives) == as_texts(POSITIVES)
    assert list(data.queries.values()) == [QUERIES["q1"], QUERIES["q2"]]
    with_ids = write in (beir, msmarco)
    assert texts(data, data.negatives) == ({} if with_ids else as_texts(NEGATIVES))
    if write in (beir, msmarco, dpr_file, tevatron):
        wanted = {name for found in POSITIVES.values() for name in found}
        assert data.texts(wanted) == {name: PASSAGES[name] for name in wanted}


def test_long_arrays_are_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dpr_file(tmp_path)
    whole = list(records.read_records(file))
    assert [line for line, _ in whole] == [2, 32]
    for chunk in (1, 7, 100):
        monkeypatch.setattr(records, "CHUNK", chunk)
        assert list(records.read_records(file)) == whole
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert open_training(packed).positives == open_training(file).positives


def test_titles_and_contexts_without_ids(tmp_path: Path) -> None:
    context = {"title": "Sea", "text": "it is blue"}
    example = {"question": "q", "positive_ctxs": [context], "negative_ctxs": [{"text": "no"}, context]}
    data = open_training(write_text(tmp_path / "one.json", json.dumps([example])))
    assert texts(data, data.positives) == {"q": ["Sea it is blue"]}
    assert texts(data, data.negatives) == {"q": ["no"]}


def test_ids_of_other_layouts_are_kept(tmp_path: Path) -> None:
    assert open_training(tevatron(tmp_path)).negatives == NEGATIVES
    # A second text under one docid, as careless files have it, is a passage of its own.
    records = [
        {"query": f"what is {n}", "positive_passages": [{"docid": "1", "title": "t", "text": f"it is {n}"}]}
        for n in range(3)
    ]
    data = open_training(write_text(tmp_path / "t.jsonl", lines(*records)))
    assert data.positives == {"1": ["1"], "2": ["1-2"], "3": ["1-3"]}
    assert texts(data, data.positives) == {f"what is {n}": [f"t it is {n}"] for n in range(3)}


def read(path: Path) -> dict[str, str]:
    data = open_training(path)
    return data.texts({name for found in data.positives.values() for name in found})


def refused(path: Path) -> str:
    with pytest.raises(DupmaeError) as error:
        read(path)
    return str(error.value).replace(str(path.parent), "").lstrip("/")


CASES = [
    ("one.jsonl", lines({"query": "a", "pos": []}), "one.jsonl, line 1: record without a positive"),
    ("one.jsonl", lines({"query": "a", "pos": ["b"]}, {"query": " ", "pos": ["b"]}), "one.jsonl, line 2: `query` is"),
    ("one.jsonl", lines({"anchor": "a", "positive": " "}), "one.jsonl, line 1: `positive` has no text"),
    ("one.jsonl", lines({"anchor": "a"}), "one.jsonl, line 1: row without a positive"),
    ("one.jsonl", lines({"anchor": "a", "positive": "b", "label": 1}), "one.jsonl, line 1: has a column label"),
    ("one.jsonl", lines({"query": "a", "positive_passages": [3]}), "one.jsonl, line 1: `positive_passages` is no"),
    ("one.jsonl", lines({"query": "a", "positive_passages": []}), "one.jsonl, line 1: record without a positive"),
    ("one.json", '{"question": "a"}', "one.json, line 1: not a JSON array"),
    ("one.json", '[\n{"question": "a", "positive_ctxs": []}]', "one.json, line 2: record without a positive"),
    ("one.json", '[{"question": "a", "positive_ctxs": [{"text": " "}]}]', "one.json, line 1: `positive_ctxs` has an"),
    ("one.json", '[\n\n{"question": "a", ]', "one.json, line 3: not JSON"),
    ("one.json", "[1]", "one.json, line 1: not a JSON object"),
    ("none.json", None, "none.json: no such file"),
    ("none.parquet", None, "none.parquet: no such file"),
]


@pytest.mark.parametrize(("name", "text", "told"), CASES)
def test_faults_of_files(name: str, text: str | None, told: str, tmp_path: Path) -> None:
    if text is not None:
        write_text(tmp_path / name, text)
    assert refused(tmp_path / name).startswith(told)


MSMARCO = [
    ("collection.tsv", "p1\tblue\np3\t \np4\tblack\n", "collection.tsv, line 2: passage p3 is blank"),
    ("collection.tsv", "p1 blue\n", "collection.tsv, line 1: needs 2 tab-separated columns"),
    (
        "collection.tsv",
        "p1\tblue\np3\twhite\n",
        "qrels.train.tsv, line 3: unknown passage p4 (add it to collection.tsv",
    ),
    ("qrels.train.tsv", "q1 0 p1 1\nq9 0 p1 1\n", "qrels.train.tsv, line 2: unknown query q9"),
    ("qrels.train.tsv", "q1 p1 1\n", "qrels.train.tsv, line 1: not a judgement"),
    ("qrels.train.tsv", "q1 0 p1 0\n", "qrels.train.tsv: no query has a positive"),
    ("queries.train.tsv", "q1\t \nq2\tb\n", "queries.train.tsv, line 1: query q1 is blank"),
    ("queries.train.tsv", "q1\ta\nq1\tb\n", "queries.train.tsv, line 2: duplicate id q1"),
]


@pytest.mark.parametrize(("name", "text", "told"), MSMARCO)
def test_faults_of_msmarco_folders(name: str, text: str, told: str, tmp_path: Path) -> None:
    folder = msmarco(tmp_path)
    (folder / f"{name}.gz").unlink(missing_ok=True)
    write_text(folder / name, text)
    assert refused(folder).removeprefix("msmarco/").startswith(told)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"has no queries\.dev\.tsv \(there is queries\.train\.tsv\.gz"):
        open_training(msmarco(tmp_path), "dev")


def test_a_blank_positive_of_a_beir_folder(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    corpus = folder / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("snow is white", " "))
    assert refused(folder) == "beir/corpus.jsonl, line 3: passage p3 is blank (give it a text or remove it)"
