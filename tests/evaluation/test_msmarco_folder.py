"""MS MARCO's own files are measured as the same data in the BEIR layout are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupmae.corpus.beir import load_split, read_corpus, read_qrels, read_queries
from dupmae.errors import DupmaeError
from tests.tiny import beir_folder, call, tiny_retriever


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A BEIR folder `beir`, the same as `msmarco`, and a retriever."""
    beir = beir_folder(tmp_path / "beir", 30)
    split = next((beir / "qrels").iterdir()).stem
    tables = tmp_path / "msmarco"
    tables.mkdir()
    rows = {
        "collection.tsv": [f"{passage.id}\t{passage.content}" for passage in read_corpus(beir)],
        # Some queries that nobody judged, as in MS MARCO.
        "queries.dev.tsv": [f"{name}\t{text}" for name, text in read_queries(beir).items()] + ["extra\twho asked"],
        "qrels.dev.tsv": [f"{query} 0 {name} 1" for query, found in read_qrels(beir, split).items() for name in found],
    }
    for name, lines in rows.items():
        (tables / name).write_text("\n".join(lines) + "\n")
    (beir / "qrels" / f"{split}.tsv").rename(beir / "qrels" / "dev.tsv")
    tiny_retriever(tmp_path / "retriever")
    return tmp_path


def metrics(out: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["metrics"]
    return found


def test_it_is_prepared_indexed_measured_and_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = folder / "msmarco"
    assert call("prepare", data, "--out", folder / "shards", "text=passages", "max_length=512", "--quiet") == 0
    manifest = json.loads((folder / "shards" / "manifest.json").read_text(encoding="utf-8"))
    assert sum(shard["records"] for shard in manifest["shards"]) == 30
    assert call("index", "--retriever", folder / "retriever", "--data", data, "--out", folder / "index", "--quiet") == 0
    for name in ("msmarco", "beir"):
        line = ("--retriever", folder / "retriever", "--data", folder / name, "--out", folder / f"of-{name}")
        assert call("evaluate", *line, "split=dev", "--quiet") == 0
    assert metrics(folder / "of-msmarco") == pytest.approx(metrics(folder / "of-beir"))
    capsys.readouterr()
    compared = {}
    for name in ("msmarco", "beir"):
        assert call("compare", folder / f"of-{name}", "--bm25", f"out={folder / f'c-{name}'}", "--json", "--quiet") == 0
        compared[name] = metrics(folder / f"c-{name}" / "bm25")
    assert compared["msmarco"] == pytest.approx(compared["beir"])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("d0 0 nowhere 1", "unknown passage nowhere"),
        ("nobody 0 d0 1", "unknown query nobody"),
        ("", "holds no judgements"),
    ],
)
def test_judgements_of_what_is_not_there_are_refused(folder: Path, line: str, problem: str) -> None:
    file = folder / "msmarco" / "qrels.dev.tsv"
    query = file.read_text().split()[0]
    file.write_text(line.replace("d0 0 nowhere", f"{query} 0 nowhere") + "\n")
    with pytest.raises(DupmaeError, match=problem) as error:
        load_split(folder / "msmarco", "dev")
    assert "qrels.dev.tsv" in str(error.value)
