"""The command: every suite on tiny data, what is written, what is kept, what is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import read_queries
from dupmae.evaluation.benchmarks.answers import holds_answer, joined
from dupmae.evaluation.benchmarks.collections import SUITES
from dupmae.evaluation.benchmarks.official import read_judgements, read_questions, read_wikipedia
from dupmae.evaluation.metrics import evaluate, per_query
from dupmae.evaluation.runs import read_run
from dupmae.files import read_json
from dupmae.retriever.model import Retriever
from tests.evaluation.benchmarks.folders import dpr, msmarco, msmarco_documents
from tests.tiny import beir_folder, call, tiny_retriever

SMALL = ("official=false", "shard=7")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    tiny_retriever(folder / "retriever")
    msmarco(folder / "msmarco")
    msmarco_documents(folder / "documents")
    dpr(folder / "dpr")
    beir_folder(folder / "beir" / "mine", 20)
    beir_folder(folder / "beir" / "scifact" / "beir", 20)
    return folder


def measured(folder: Path, suite: str, data: str, *words: object) -> dict[str, Any]:
    cut = ["passage_words=20"] * (suite == "msmarco-document")
    assert call("evaluate", folder / "retriever", "--suite", suite, "--data", folder / data, *SMALL, *cut, *words) == 0
    given = [Path(word.removeprefix("out=")) for word in map(str, words) if word.startswith("out=")]
    result: dict[str, Any] = read_json((*given, folder / "retriever-evaluation" / suite)[0] / "metrics.json")
    return result


@pytest.mark.parametrize(
    ("suite", "data", "qrels"),
    [
        ("msmarco-passage", "msmarco", "qrels.dev.small.tsv"),
        ("msmarco-document", "documents", "msmarco-docdev-qrels.tsv"),
    ],
)
def test_metrics_run_file_and_values_agree(folder: Path, suite: str, data: str, qrels: str) -> None:
    result = measured(folder, suite, data)
    out = folder / "retriever-evaluation" / suite
    judged, run = read_judgements(folder / data / qrels), read_run(out / "run.trec")
    assert run.keys() == judged.keys()
    assert evaluate(judged, run, list(result["metrics"])) == pytest.approx(result["metrics"], abs=1e-9)
    assert read_json(out / "per_query.json") == per_query(judged, run, list(result["metrics"]))
    assert result["retriever"] == Retriever.load(folder / "retriever").fingerprint()
    assert qrels in result["data"]
    assert result["official"] is False
    assert result["counts"]["queries"] == 20


def test_trec_counts_from_grade_two_on(folder: Path) -> None:
    result = measured(folder, "trec-dl-2019", "msmarco")
    graded = read_judgements(folder / "msmarco" / "2019qrels-pass.txt")
    run = read_run(folder / "retriever-evaluation" / "trec-dl-2019" / "run.trec")
    binary = {query: {name: int(grade >= 2) for name, grade in found.items()} for query, found in graded.items()}
    assert result["metrics"]["ndcg@10"] == pytest.approx(evaluate(graded, run, ["ndcg@10"])["ndcg@10"])
    rest = [name for name in result["metrics"] if name != "ndcg@10"]
    assert {name: result["metrics"][name] for name in rest} == pytest.approx(evaluate(binary, run, rest))
    assert result["counts"]["queries"] == 3


def test_questions_are_answered_by_texts(folder: Path) -> None:
    result = measured(folder, "nq", "dpr")
    _, answers = read_questions(folder / "dpr" / "nq-test.qa.csv")
    texts = {parts[0].id: joined(parts[0].text) for parts in read_wikipedia(folder / "dpr" / "psgs_w100.tsv")}
    ranks: dict[str, list[str]] = {}
    for line in (folder / "retriever-evaluation" / "nq" / "run.trec").read_text().splitlines():
        ranks.setdefault(line.split()[0], []).append(line.split()[2])
    for k in (5, 20, 100):
        right = [
            any(holds_answer(texts[name], [joined(answer) for answer in answers[query]]) for name in found[:k])
            for query, found in ranks.items()
        ]
        assert len(right) == 10
        assert result["metrics"][f"recall@{k}"] == sum(right) / 10


def test_suites_of_one_corpus_share_its_shards(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    measured(folder, "msmarco-passage", "msmarco")
    shards = sorted((folder / "retriever-shards").iterdir())
    elsewhere = measured(folder, "trec-dl-2019", "msmarco", f"out={folder / 'elsewhere'}")
    assert sorted((folder / "retriever-shards").iterdir()) == shards
    assert elsewhere["seconds"]["encoded_passages"] == 0
    assert measured(folder, "trec-dl-2019", "msmarco")["metrics"] == elsewhere["metrics"]


def test_results_are_kept_until_something_changes(folder: Path, tmp_path: Path) -> None:
    out = f"out={tmp_path / 'out'}"
    file = tmp_path / "out" / "metrics.json"
    measured(folder, "msmarco-passage", "msmarco", out)
    written = file.stat().st_mtime_ns
    measured(folder, "msmarco-passage", "msmarco", out)
    assert file.stat().st_mtime_ns == written
    measured(folder, "msmarco-passage", "msmarco", out, "part=dense")
    assert file.stat().st_mtime_ns > written
    dense = read_json(file)
    (tmp_path / "out" / "run.trec").write_text("garbage\n")
    measured(folder, "msmarco-passage", "msmarco", out, "part=dense", "keep_shards=false", f"shards={tmp_path / 's'}")
    again = read_json(file)
    assert len(read_run(tmp_path / "out" / "run.trec")) == 20
    assert again["metrics"] == dense["metrics"]
    assert not list((tmp_path / "s").iterdir())


def test_beir_folders_one_by_one_and_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = measured(folder, "beir", "beir")
    out = folder / "retriever-evaluation" / "beir"
    alone = {name: read_json(out / name / "metrics.json")["metrics"] for name in ("mine", "scifact")}
    assert {name: told["metrics"] for name, told in result["sets"].items()} == alone
    mean = (alone["mine"]["ndcg@10"] + alone["scifact"]["ndcg@10"]) / 2
    assert result["metrics"]["ndcg@10, mean of all here"] == pytest.approx(mean)
    assert len(result["missing"]) == 17
    assert set(read_run(out / "mine" / "run.trec")) == set(read_queries(folder / "beir" / "mine"))
    told = capsys.readouterr().out
    assert "(CC BY-NC 2.0; not the official counts)" in told
    assert "the data of mine, scifact has not the official counts: these numbers are not those of" in told
    assert f"next: dupmae compare {out} --bm25" in told
    assert result["official"] is False
    written = (out / "mine" / "metrics.json").stat().st_mtime_ns
    picked = measured(folder, "beir", "beir", "sets=[mine]")
    assert list(picked["sets"]) == ["mine"]
    assert (out / "mine" / "metrics.json").stat().st_mtime_ns == written


def test_a_lone_forum_is_named_where_the_mean_leaves_it_out(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beir_folder(tmp_path / "cqadupstack" / "gis", 12)
    beir_folder(tmp_path / "scifact", 12)
    result = measured(folder, "beir", str(tmp_path), f"out={tmp_path / 'out'}")
    assert result["left_out"] == ["cqadupstack/gis"]
    told = capsys.readouterr().out
    assert "in no average, since cqadupstack is the mean of its 12 forums: cqadupstack/gis" in told


def test_all_sets_are_looked_at_before_the_first_is_encoded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    beir_folder(tmp_path / "data" / "aaa", 12)
    file = beir_folder(tmp_path / "data" / "bbb", 12) / "corpus.jsonl"
    file.write_text(file.read_text() + file.read_text().splitlines()[0] + "\n")
    words = ("--suite", "beir", "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert call("evaluate", folder / "retriever", *words, f"shards={tmp_path / 'shards'}", *SMALL) == 2
    assert f"{file}: an id comes twice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "shards").exists()


def test_official_is_what_the_counts_are(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    suite = replace(SUITES["msmarco-passage"], documents=40, queries=20, judgements=20)
    monkeypatch.setitem(SUITES, "msmarco-passage", suite)
    assert measured(folder, "msmarco-passage", "msmarco", f"out={tmp_path / 'out'}")["official"] is True


def test_results_of_nested_folders_are_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    dpr(data)
    for name, inner in (("psgs_w100.tsv", "wiki"), ("nq-test.qa.csv", "qa")):
        (data / inner).mkdir()
        (data / name).rename(data / inner / name)
    for part in ("hybrid", "dense"):
        measured(folder, "nq", str(data), f"part={part}", f"out={tmp_path / part}")
    assert call("compare", tmp_path / "hybrid", tmp_path / "dense", "--bm25", "--quiet") == 0
    assert "BM25" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "garbage\n", None])
def test_rankings_that_were_cut_short_are_not_compared(
    folder: Path, tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("hybrid", "dense"):
        measured(folder, "msmarco-passage", "msmarco", f"part={part}", f"out={tmp_path / part}")
    run = tmp_path / "dense" / "run.trec"
    run.write_text(run.read_text().splitlines(keepends=True)[0] if content is None else content)
    capsys.readouterr()
    assert call("compare", tmp_path / "hybrid", tmp_path / "dense", "--quiet") == 2
    error = capsys.readouterr().err
    assert f"{run}: is not the file that metrics.json was written with" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("suite", "word"),
    [
        ("nq", "sets=[foo]"),
        ("nq", "folds=3"),
        ("msmarco-passage", "split=dev"),
        ("beir", "passage_words=50"),
        ("sts", "depth=10"),
        ("senteval-transfer", "keep_shards=false"),
    ],
)
def test_options_that_a_suite_does_not_read_are_refused(
    suite: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", "retriever", "--suite", suite, "--data", "data", word, "--quiet") == 2
    assert f"{suite} does not read {word.partition('=')[0]} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--suite", "msmarco"),
            "--suite=msmarco: suite cannot be 'msmarco' (give msmarco-passage or msmarco-document",
        ),
        (("--suite", "beir", "--data", "none"), "none: no such file or folder"),
        (("--suite", "beir"), "test queries/documents of each: trec-covid 50/171,332; bioasq 500/14,914,602; nfcorpus"),
        (
            ("--suite", "beir", "--data", "beir", "sets=[quora]"),
            "beir: has no data set quora (there are: mine, scifact)",
        ),
        (("--suite", "beir", "--data", "beir"), "has 20 judged queries, officially 300"),
        (("--suite", "msmarco-passage", "--data", "msmarco", *SMALL, "depth=10"), "depth: msmarco-passage needs 1,000"),
        (("--suite", "trec-dl-2019"), "trec-dl-2019: data is not given (trec-dl-2019 reads"),
        (("--data", "beir"), "out is not given (give out=PATH)"),
    ],
)
def test_mistakes_are_told_in_one_line(
    folder: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(folder)
    assert call("evaluate", "retriever", "--quiet", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("suite", ["nq", "beir", "sts", "senteval-transfer"])
def test_the_data_is_looked_at_before_the_retriever(suite: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "nowhere", "--suite", suite, "--quiet") == 2
    assert f"{suite}: data is not given" in capsys.readouterr().err


def test_a_recipe_may_name_the_suite(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "suite.yaml"
    recipe.write_text(f"suite: nq\ndata: {folder / 'dpr'}\nofficial: false\nshard: 7\n")
    capsys.readouterr()
    assert call("evaluate", folder / "retriever", "--recipe", recipe, "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out)["suite"] == "nq"


def test_a_suite_is_a_stage_of_a_chain(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(
        f"out: {tmp_path / 'run'}\nstages:\n  questions:\n    stage: evaluate-suite\n    suite: nq\n    shard: 7\n"
        f"    retriever: {folder / 'retriever'}\n    data: {folder / 'dpr'}\n    official: false\n"
    )
    for told in ("recall@20", "finished before"):
        assert call("run", recipe, "--quiet") == 0
        assert told in capsys.readouterr().out
    assert (tmp_path / "run" / "questions" / "run.trec").is_file()
