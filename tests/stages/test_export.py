"""`dupmae export`: the folder it writes, what it refuses, and what it pushes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from dupmae.retriever.model import Retriever
from tests.tiny import beir_folder, call, tiny_retriever


@pytest.fixture
def retriever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_retriever(Path("retriever"))
    return Path("retriever")


def test_the_folder_is_the_retriever_with_a_card(retriever: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beir_folder(Path("texts"))
    assert call("evaluate", "--retriever", "retriever", "--data", "texts", "--out", "measured") == 0
    capsys.readouterr()
    words = ["--license", "mit", "metrics=[measured/metrics.json]", "data=[language reference]", "--json"]
    assert call("export", "--retriever", "retriever", "--out", "exported", *words) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == "exported"
    assert Retriever.load("exported").fingerprint() == Retriever.load("retriever").fingerprint()
    card = Path("exported/README.md").read_text()
    assert card.startswith("---\n")
    assert "license: mit" in card
    assert "texts, test: 60 queries in 60 passages" in card
    assert "- language reference" in card
    assert not Path("exported/onnx").exists()


def test_metrics_of_another_retriever_are_refused(retriever: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beir_folder(Path("texts"))
    tiny_retriever(Path("other"), kind="cls")
    assert call("evaluate", "--retriever", "other", "--data", "texts", "--out", "measured") == 0
    words = ["metrics=[measured/metrics.json]"]
    assert call("export", "--retriever", "retriever", "--out", "exported", *words) == 2
    assert "measured/metrics.json: the metrics are another retriever's" in capsys.readouterr().err
    assert not Path("exported").exists()


def test_a_folder_is_pushed_without_the_marker(
    retriever: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pushed: dict[str, Any] = {}

    class Hub:
        def __init__(self, **given: Any) -> None: ...

        def create_repo(self, name: str, **given: Any) -> str:
            pushed["made"] = (name, given)
            return f"https://hub/{name}"

        def upload_folder(self, **given: Any) -> None:
            pushed["uploaded"] = given

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert call("export", "--retriever", "retriever", "--out", "exported", "--push", "owner/name", "--quiet") == 0
    assert "pushed to https://hub/owner/name" in capsys.readouterr().out
    assert pushed["made"][1]["private"] is True
    assert (pushed["uploaded"]["repo_id"], pushed["uploaded"]["ignore_patterns"]) == ("owner/name", [".dupmae"])


def test_a_hub_that_refuses_is_told_in_one_line(
    retriever: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Any, *given: Any, **named: Any) -> None:
        raise ConnectionError("no route to host\nwith a second line")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    assert call("export", "--retriever", "retriever", "--out", "exported", "--push", "owner/name", "--quiet") == 2
    assert capsys.readouterr().err.startswith("dupmae: owner/name: cannot push: no route to host (check OWNER/NAME")
    assert Path("exported/README.md").exists()


def test_a_missing_extra_is_told(
    retriever: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert call("export", "--retriever", "retriever", "--out", "exported", "--onnx") == 2
    assert 'is not installed (pip install "dupmae[onnx]")' in capsys.readouterr().err
    assert not Path("exported").exists()
