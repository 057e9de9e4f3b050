"""One process on one output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dupmae.errors import DupmaeError
from dupmae.locks import locked

HOLD = """
import sys, time
from dupmae.locks import locked
with locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_second_process_is_refused_until_the_first_ends(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "out")], stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        first.stdout.readline()
        for name in ("out", "link", "x/../out"):
            with pytest.raises(DupmaeError, match=f"is being written by process {first.pid} ") as caught:
                locked(tmp_path / name).__enter__()
            assert str(tmp_path / name) in str(caught.value)
        with locked(tmp_path / "other"):
            pass
        first.send_signal(signal.SIGKILL)
    with locked(tmp_path / "out"):
        assert len(list((cache / "locks").iterdir())) == 1
    assert not list((cache / "locks").iterdir())
    assert not (tmp_path / "out").exists()


def test_without_a_cache_folder_there_is_no_lock(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with locked(tmp_path / "out"), locked(tmp_path / "out"):
        pass


def test_a_failure_ends_it(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="bug"), locked(tmp_path / "out"):
            raise ValueError("bug")
    assert os.listdir(tmp_path / "cache" / "locks") == []
