"""The page on benchmarks: its commands run on tiny data, its tables say what the code says."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import suites, tables
from dupmae.evaluation.benchmarks import sts as similarity
from dupmae.evaluation.benchmarks import transfer
from dupmae.evaluation.benchmarks.beir_sets import SETS
from dupmae.evaluation.benchmarks.collections import SUITES
from dupmae.retriever.model import Retriever
from dupmae.settings import EvaluateSuite
from tests.evaluation.benchmarks.folders import dpr, msmarco, msmarco_documents
from tests.evaluation.benchmarks.test_similarity import write_year
from tests.evaluation.benchmarks.test_transfer import write_senteval
from tests.paths import DOCS
from tests.reference.tiny import tiny_folder
from tests.tiny import beir_folder, call, tiny_retriever

PAGE = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
SMALL = {"evaluate": ("official=false", "--quiet")}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    for name in ("STRENGTHS", "TRAIN_TEST_STRENGTHS"):
        monkeypatch.setattr(transfer, name, [1.0])
    tiny_retriever(tmp_path / "retriever")
    msmarco(tmp_path / "msmarco")
    msmarco_documents(tmp_path / "msmarco-documents")
    dpr(tmp_path / "wikipedia")
    beir_folder(tmp_path / "beir" / "scifact", 10)
    sentences = tmp_path / "sentences"
    sentences.mkdir()
    write_senteval(sentences)
    for year in similarity.YEARS:
        write_year(sentences, year, table=False)
    row = "g\tf\ty\t1\t{}\tone sentence\tanother {}\n"
    (sentences / "sts-test.csv").write_text("".join(row.format(n, n) for n in range(5)))
    pairs = "".join(f"{n}\tone sentence\tanother {n}\t{n}\tNEUTRAL\n" for n in range(5))
    (sentences / "SICK_test_annotated.txt").write_text("header\n" + pairs)
    return tmp_path


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_folder(folder / "encoder", max_length=256)
    for kind, block in re.findall(r"^```(bash|python)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        if kind == "python":
            exec(block.replace("dimensions=384", "dimensions=32"), {})
            continue
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            folds = ["folds=2"] * ("senteval-transfer" in words)
            assert call(*words, *SMALL[words[0]], *folds) == 0, capsys.readouterr().err
    assert (folder / "as-it-comes-evaluation" / "sts" / "metrics.json").exists()
    assert {path.name for path in (folder / "retriever-evaluation").iterdir()} == {
        "msmarco-passage",
        "msmarco-document",
        "trec-dl-2019",
        "nq",
        "beir",
        "sts",
        "senteval-transfer",
    }


def test_the_tables() -> None:
    for name, suite in SUITES.items():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}`")]
        for file in suite.files:
            assert file.names[0] in row
        for count in (suite.queries, *([suite.judgements] if suite.judgements else [])):
            assert f"{count:,}" in row
    for name, known in SETS.items():
        mark = "" if known.public else " (not public)"
        assert f"| {name} | {known.queries:,} | {known.documents:,} | {known.licence}{mark} |" in PAGE
    fields = EvaluateSuite.model_fields
    for setting in ("passage_words", "folds", "shard"):
        assert f"`{setting}` ({fields[setting].default:,})" in PAGE


def test_the_benchmark_of_suites(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "beir" / "scifact").rename(folder / "sentences" / "scifact")
    monkeypatch.setattr(suites, "as_it_comes", lambda **_: Retriever.load(folder / "retriever"))
    line = ["suites", "--data", "sentences", "--suites", "sts", "beir", "--json", "official=false"]
    monkeypatch.setattr(sys, "argv", line)
    suites.main()
    found = json.loads(capsys.readouterr().out)
    for name in ("sts", "beir"):
        kept = json.loads((folder / f"runs/suites-benchmark/{name}/metrics.json").read_text(encoding="utf-8"))
        assert list(found[name]["metrics"].values()) == list(kept["metrics"].values())
    shown = tables.suites([{"result": found}])
    assert f"| `sts` | STS12 {found['sts']['metrics']['STS12']:.2f}, STS13" in shown
    assert re.search(r"^\| `beir` \| scifact ndcg@10 0\.\d{4}, scifact recall@100", shown, re.MULTILINE)
