"""What a person gets wrong is told in one line with file, line and fix; nothing half-written stays."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tiny import beir_folder, call, tiny_retriever

QUICK = ["steps=1", "batch_size=2", "passage_length=32", "representation.dimensions=8", "representation.top_k=16"]
Said = Callable[..., str]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retriever, a BEIR folder, shards and an index that are as they should be."""
    folder = tmp_path_factory.mktemp("ready")
    beir_folder(folder / "texts", 30)
    tiny_retriever(folder / "retriever")
    assert (
        call("index", "--retriever", folder / "retriever", "--data", folder / "texts", "--out", folder / "index") == 0
    )
    words = ["--tokenizer", folder / "retriever", "max_length=32", "--out", folder / "shards"]
    assert call("prepare", folder / "texts", *words) == 0
    return folder


@pytest.fixture
def texts(ready: Path, tmp_path: Path) -> Path:
    """A copy of the BEIR folder, to be spoilt."""
    return Path(shutil.copytree(ready / "texts", tmp_path / "texts"))


@pytest.fixture
def said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Run a command that must fail as a user's mistake does; gives its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))

    def run(*words: object) -> str:
        before = everything(tmp_path)
        capsys.readouterr()
        assert call(*words, "--quiet") == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        lines = [line for line in printed.err.splitlines() if line.startswith("dupmae: ")]
        assert printed.err.splitlines() == lines
        assert len(lines) == 1
        assert everything(tmp_path) == before
        return lines[0]

    return run


def everything(folder: Path) -> dict[Path, int]:
    """Files and their sizes, hidden ones too, less the log that training grows line by line."""
    return {path: path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != "log.jsonl"}


def spoil(file: Path, line: int, text: str) -> None:
    lines = file.read_text().splitlines()
    lines[line - 1] = text
    file.write_text("\n".join(lines) + "\n")


def jsonl(file: Path, records: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def stages(ready: Path, data: object, out: object = "out") -> dict[str, list[object]]:
    """The commands that read text, each on `data`."""
    return {
        "prepare": ["prepare", data, "--tokenizer", ready / "retriever", "--out", out, "max_length=32"],
        "finetune": ["finetune", "--model", ready / "retriever", "--data", data, "--out", out, *QUICK],
        "index": ["index", "--retriever", ready / "retriever", "--data", data, "--out", out],
        "evaluate": ["evaluate", "--retriever", ready / "retriever", "--data", data, "--out", out],
    }


READERS = ["prepare", "finetune", "index", "evaluate"]


@pytest.mark.parametrize("stage", READERS)
def test_a_missing_file(stage: str, ready: Path, said: Said) -> None:
    line = said(*stages(ready, "nope.jsonl")[stage])
    assert "nope.jsonl" in line
    assert "no such" in line
    assert "(" in line


@pytest.mark.parametrize("stage", READERS)
def test_an_empty_folder(stage: str, ready: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    line = said(*stages(ready, "empty")[stage])
    assert "empty" in line
    assert "(" in line


@pytest.mark.parametrize("stage", READERS)
def test_line_7_is_not_json(stage: str, ready: Path, said: Said, texts: Path) -> None:
    spoil(texts / "corpus.jsonl", 7, '{"_id": "7", "text": oops}')
    line = said(*stages(ready, texts)[stage])
    assert line == f"dupmae: {texts / 'corpus.jsonl'}, line 7: not JSON: Expecting value (mend or remove it)"


@pytest.mark.parametrize("stage", READERS)
def test_a_record_without_text(stage: str, ready: Path, said: Said, texts: Path) -> None:
    spoil(texts / "corpus.jsonl", 3, '{"_id": "3", "title": "tea"}')
    line = said(*stages(ready, texts)[stage])
    assert line == f"dupmae: {texts / 'corpus.jsonl'}, line 3: record without `text` (add a `text` field)"


@pytest.mark.parametrize("stage", ["finetune", "index", "evaluate"])
def test_duplicate_ids(stage: str, ready: Path, said: Said, texts: Path) -> None:
    first = (texts / "corpus.jsonl").read_text().splitlines()[0]
    spoil(texts / "corpus.jsonl", 5, first)
    line = said(*stages(ready, texts)[stage])
    name = json.loads(first)["_id"]
    assert line == f"dupmae: {texts / 'corpus.jsonl'}, line 5: duplicate id {name} (give each record its own id)"


@pytest.mark.parametrize(("stage", "split"), [("finetune", "train"), ("evaluate", "test")])
def test_qrels_that_name_no_known_passage(stage: str, split: str, ready: Path, said: Said, texts: Path) -> None:
    file = texts / "qrels" / f"{split}.tsv"
    query = file.read_text().splitlines()[3].split("\t")[0]
    spoil(file, 4, f"{query}\tnowhere\t1")
    line = said(*stages(ready, texts)[stage])
    assert line.startswith(f"dupmae: {file}, line 4: unknown passage nowhere (add it to corpus.jsonl")


def test_a_missing_split_names_those_there_are(ready: Path, said: Said) -> None:
    line = said(*stages(ready, ready / "texts")["evaluate"], "--split", "dev")
    assert "dev.tsv: no such file (splits here: test, train)" in line


def test_a_file_of_pairs_with_a_bad_line(ready: Path, said: Said, tmp_path: Path) -> None:
    file = jsonl(tmp_path / "pairs.jsonl", [{"query": "tea", "positive": f"leaves {n}"} for n in range(9)])
    spoil(file, 7, '{"query": "tea"}')
    assert said(*stages(ready, file)["finetune"]) == (
        f"dupmae: {file}, line 7: record without a positive (add a `positive` field)"
    )


@pytest.mark.parametrize(
    ("query", "problem"),
    [("", "'': the query is empty (give at least one word)"), (" \t", "the query is empty")],
)
def test_an_empty_query(query: str, problem: str, ready: Path, said: Said) -> None:
    assert problem in said("search", ready / "index", query)


def test_a_query_of_unknown_words_is_answered(ready: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", ready / "index", "漢字 仮名", "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["hits"]
    assert "knows no word of the query" in " ".join(printed.err.split())


@pytest.mark.parametrize("target", ["nope", "texts"])
def test_a_search_where_there_is_no_index(target: str, ready: Path, said: Said) -> None:
    line = said("search", ready / target, "tea")
    assert str(ready / target) in line
    assert "dupmae index" in line or "no such file or folder" in line


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        (
            "seed: 1\nobjective:\n  knd: mlm\n",
            "mine.yaml, line 3: no setting objective.knd (did you mean objective.kind?)",
        ),
        ("seed: 1\nsteps: 0\n", "mine.yaml, line 2: steps cannot be 0 (give a whole number, at least 1, or null)"),
        (
            "objective:\n  decoder: basic\n  decoder_queries: embedded\n",
            "mine.yaml, line 3: objective.decoder_queries: 'embedded' needs objective.decoder: enhanced (change one",
        ),
        ("steps: [1\n", "mine.yaml, line 2: not YAML"),
    ],
)
def test_a_recipe_that_cannot_work(recipe: str, problem: str, ready: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(recipe)
    line = said("pretrain", "--recipe", "mine.yaml", "--data", ready / "shards", "--out", "out")
    assert line.startswith(f"dupmae: {problem}")


def test_neither_steps_nor_minutes(ready: Path, said: Said) -> None:
    line = said("pretrain", "--data", ready / "shards", "--out", "out", "from_scratch.layers=1")
    assert "neither steps nor minutes" in line


@pytest.mark.parametrize("stage", READERS)
def test_an_output_that_is_a_file_is_refused_before_the_work(
    stage: str, ready: Path, said: Said, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("mine")
    assert said(*stages(ready, "not even looked at")[stage]).startswith("dupmae: out: is a file, a folder is to be")


@pytest.mark.parametrize("stage", ["prepare", "finetune", "index"])
def test_a_folder_of_something_else_is_refused_before_the_work(
    stage: str, ready: Path, said: Said, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    line = said(*stages(ready, "not even looked at")[stage])
    assert line.startswith("dupmae: out: holds files of something else")


def test_a_pretraining_folder_that_is_a_file(ready: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    assert said("pretrain", "--data", ready / "shards", "--out", "out", "steps=1").startswith("dupmae: out: is a file")


@pytest.mark.parametrize("model", ["./encoder", "here/encoder", "a/b/encoder"])
def test_a_model_folder_that_is_not_there(model: str, ready: Path, said: Said, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    line = said("pretrain", "--data", ready / "shards", "--model", model, "--out", "out", "steps=1")
    assert line == f"dupmae: {model}: no such model folder (check the path)"


def test_a_damaged_model(ready: Path, said: Said, tmp_path: Path) -> None:
    shutil.copytree(ready / "retriever", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    line = said("pretrain", "--data", ready / "shards", "--model", "./model", "--out", "out", "steps=1")
    assert line.startswith("dupmae: ./model: no model can be loaded: ")


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """No file can grow past `limit` bytes, which the system tells as it tells a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("stage", READERS)
def test_a_full_disk(stage: str, ready: Path, said: Said) -> None:
    # The retriever's own settings: others would be told of in lines before the one that counts.
    same = ["query_length=16", "passage_length=64", "representation.top_k=32"] if stage == "finetune" else []
    with small_disk(2000):
        line = said(*stages(ready, ready / "texts")[stage], *same)
    assert "File too large" in line
    assert line.rstrip().endswith("(free some space or choose another place)")


def test_a_full_disk_while_the_encoder_is_saved(
    ready: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = ["from_scratch.layers=1", "from_scratch.hidden=16", "from_scratch.heads=2", "steps=1", "batch_tokens=64"]
    with small_disk(8000):
        assert call("pretrain", "--data", ready / "shards", "--out", tmp_path / "out", *shape, "--quiet") == 2
    told = capsys.readouterr().err
    assert "File too large" in told
    assert told.endswith("(free some space or choose another place)\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"log.jsonl", "tensorboard"}


def test_a_full_disk_in_a_process_of_its_own(ready: Path, tmp_path: Path) -> None:
    words = ["prepare", ready / "texts", "--tokenizer", ready / "retriever", "--out", tmp_path / "out", "max_length=32"]
    done = subprocess.run(
        [sys.executable, "-m", "dupmae", *map(str, words), "--quiet"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("dupmae: ")
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []
