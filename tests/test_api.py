"""The public names: what `import dupmae` gives, and stages as functions of keywords."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dupmae
from dupmae import stages
from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.settings import Pretrain
from tests.tiny import beir_folder, tiny_retriever, unchanged_process


@pytest.fixture(autouse=True)
def process() -> Iterator[None]:
    with unchanged_process():
        yield


def test_the_public_names_are_there() -> None:
    for name in dupmae.__all__:
        assert getattr(dupmae, name) is getattr(dupmae, name)
        assert name in dir(dupmae)
    with pytest.raises(AttributeError, match="no attribute 'pretain'"):
        dupmae.pretain  # noqa: B018


def test_importing_loads_no_library() -> None:
    program = "import sys; import dupmae; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "pydantic", "yaml", "rich", "importlib.metadata"}


def test_no_public_name_is_a_package_that_would_hide_it() -> None:
    assert not [name for name in dupmae.__all__ if importlib.util.find_spec(f"dupmae.{name}") is not None]


def test_a_stage_is_called_with_checked_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[object, Pretrain, Path | None]] = []
    monkeypatch.setattr("dupmae.stages.functions.call", lambda *given: seen.append(given))
    Path("mine.yaml").write_text("data: shards\nobjective: {kind: retromae, decoder_weight: 2}\nsteps: 1\n")
    dupmae.pretrain("mine.yaml", out="o", steps=3, objective={"bow_weight": 0.5, "decoder_weight": 3})
    dupmae.pretrain(data="d", out=Path("o"), minutes=60, quiet=True)
    (stage, first, file), (_, second, none) = seen
    assert (stage, file, none) == (stages.STAGES["pretrain"], Path("mine.yaml"), None)
    assert (first.steps, first.objective.kind) == (3, "retromae")
    assert (first.objective.bow_weight, first.objective.decoder_weight) == (0.5, 3)
    assert (second.data, second.out, second.minutes) == ([Path("d")], Path("o"), 60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stps": 3}, r"^no setting stps \(did you mean steps\?\)$"),
        ({"objective": {"knd": "mlm"}}, r"^no setting objective\.knd \(did you mean objective\.kind\?\)$"),
        ({"steps": 0}, r"^steps cannot be 0 \(give a whole number, at least 1, or null\)$"),
        ({"recipe": "retromae-generc"}, r"no such recipe \(did you mean retromae-generic\?\)"),
        ({}, r"^absent: no such file or folder \(it is given as data: check the path\)$"),
        ({"data": None}, "^data cannot be None"),
    ],
)
def test_a_mistake_is_told_before_the_stage_is_imported(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DupmaeError, match=message):
        dupmae.pretrain(**{"data": "absent", "out": "o", **settings})  # type: ignore[arg-type]


def test_a_stage_says_what_it_takes() -> None:
    parameters = inspect.signature(dupmae.finetune).parameters
    assert parameters["batch_size"].default == 32
    assert parameters["model"].default is inspect.Parameter.empty
    assert dupmae.finetune.__name__ == "finetune"  # type: ignore[attr-defined]
    assert "representation.pooling: what the dense part is read from" in str(dupmae.finetune.__doc__)


def test_progress_is_told_as_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("one line of text that is long enough to be kept, with some words in it\n" * 30)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    dupmae.prepare(inputs=[tmp_path / "a.txt"], out=tmp_path / "shards", vocabulary=200)
    assert "30 records" in capsys.readouterr().err
    dupmae.prepare(inputs=[tmp_path / "a.txt"], out=tmp_path / "shards", vocabulary=200, quiet=True)
    assert capsys.readouterr().err == ""
    handler = logging.NullHandler()
    monkeypatch.setattr(logger, "handlers", [handler])
    dupmae.prepare(inputs=[tmp_path / "a.txt"], out=tmp_path / "shards", vocabulary=200)
    assert logger.handlers == [handler]
    assert capsys.readouterr().err == ""


def test_one_string_is_one_text_and_results_tell_what_they_are(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever")
    one, two = retriever.encode_queries("what is a class"), retriever.encode_queries(["what is a class", "a loop"])
    assert (len(one), len(two), len(retriever.encode_passages("a passage"))) == (1, 2, 1)
    assert (one.dense == two.dense[:1]).all()
    assert repr(retriever) == f"Retriever({tmp_path / 'retriever'}, hybrid, 8 dimensions, 400 terms)"
    assert repr(two).startswith("Encoded(2 texts, 8 dimensions, ")


def test_the_stage_that_measures_and_the_function_that_does_agree(tmp_path: Path) -> None:
    from dupmae.corpus.beir import load_split
    from dupmae.evaluation.runs import read_run

    tiny_retriever(tmp_path / "retriever")
    data = beir_folder(tmp_path / "texts", 12)
    result = dupmae.evaluate_retriever(retriever=tmp_path / "retriever", data=data, out=tmp_path / "measured")
    _, _, qrels = load_split(data, "test")
    assert dupmae.evaluate(qrels, read_run(tmp_path / "measured" / "run.trec"), ["ndcg@10"]) == {
        "ndcg@10": result["metrics"]["ndcg@10"]
    }
