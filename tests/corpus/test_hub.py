"""Hub data sets, read through a stand-in for `datasets`: there is no network in tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dupmae.corpus.hub import HubAddress, hub_address
from dupmae.corpus.readers import read_texts
from dupmae.errors import DupmaeError


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str | None, str], Any]:
    """The data sets that the stand-in has, and what was asked of it."""
    known: dict[tuple[str, str | None, str], Any] = {}

    def load_dataset(name: str, config: str | None, *, split: str, streaming: bool) -> Any:
        assert streaming
        if (name, config, split) not in known:
            raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nby no means")
        return known[name, config, split]

    module = ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return known


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hub:owner/name", HubAddress("owner/name", None, "train")),
        ("hub:name:2024.en", HubAddress("name", "2024.en", "train")),
        ("hub:owner/name:2024.en:test", HubAddress("owner/name", "2024.en", "test")),
        ("hub:owner/name::test", HubAddress("owner/name", None, "test")),
        ("owner/name", None),
        ("data/hub:x.txt", None),
    ],
)
def test_addresses(text: str, address: HubAddress | None) -> None:
    assert hub_address(text) == address


def test_texts_come_with_titles(hub: dict[Any, Any]) -> None:
    hub["owner/name", "en", "train"] = [{"text": "one", "title": "T"}, {"text": "two", "title": None}, {"text": " "}]
    assert list(read_texts([Path("hub:owner/name:en")])) == ["T\n\none", "two"]


def test_the_network_is_asked_before_the_first_record(hub: dict[Any, Any], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("fine")
    with pytest.raises(DupmaeError, match=r"hub:absent:train: cannot open the data set: Couldn't reach") as error:
        read_texts([tmp_path / "a.txt", Path("hub:absent")])
    assert "\n" not in str(error.value)


def broken() -> Iterator[dict[str, str]]:
    yield {"text": "one"}
    raise OSError("connection lost")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"body": "x"}], "line 1: record without `text`"),
        ([{"text": 3}], "line 1: `text` is not text"),
        ([], "holds no text"),
        (broken(), "broke off after 1 rows: connection lost"),
    ],
)
def test_bad_data_sets_are_refused(hub: dict[Any, Any], rows: Any, problem: str) -> None:
    hub["x", None, "train"] = rows
    with pytest.raises(DupmaeError, match=problem) as error:
        list(read_texts([Path("hub:x")]))
    assert str(error.value).startswith("hub:x")


def test_a_bad_address_and_a_missing_package_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hub:", "hub:a:b:c:d"):
        with pytest.raises(DupmaeError, match="not an address of a data set"):
            read_texts([Path(name)])
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DupmaeError, match=r'pip install "dupmae\[hub\]"'):
        read_texts([Path("hub:x")])


def test_the_library_itself_without_a_network(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = """
from dupmae.corpus import hub
try:
    hub.open_hub(hub.hub_address("hub:nobody/nothing"))
except hub.DupmaeError as error:
    print(error)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("hub:nobody/nothing:train: cannot open the data set: ")
    assert done.stdout.count("\n") == 1
