"""Files and folders appear whole or not at all, and nobody else's files are lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dupmae import files
from dupmae.errors import DupmaeError
from dupmae.files import (
    new_file,
    new_folder,
    read_json,
    remove_folder,
    remove_leftovers,
    sha256,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make(folder: Path, text: str) -> None:
    with new_folder(folder) as out:
        (out / "deep").mkdir()
        (out / "deep" / "a.txt").write_text(text)


def test_a_file_appears_when_the_block_ends_and_replaces_an_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with new_file(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert names(path.parent) == ["a.txt"]


def test_a_folder_appears_when_the_block_ends_and_replaces_an_older_one(tmp_path: Path) -> None:
    make(tmp_path / "out", "one")
    (tmp_path / "out" / "stale.txt").write_text("of an older version")
    make(tmp_path / "out", "two")
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "two"
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == [".dupmae", "deep"]


def write_half(temporary: Path, error: BaseException) -> None:
    if temporary.is_dir():
        (temporary / "half").write_text("written")
    else:
        temporary.write_text("half")
    raise error


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), DupmaeError("line 7 is bad")])
def test_any_failure_leaves_nothing_and_passes_through(tmp_path: Path, error: BaseException) -> None:
    for maker in (new_file, new_folder):
        with pytest.raises(type(error)) as caught, maker(tmp_path / "out") as temporary:
            write_half(temporary, error)
        assert caught.value is error
        assert names(tmp_path) == []


def test_a_full_disk_is_told_in_one_line_and_the_old_output_stays(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    write_text(tmp_path / "file", "old")
    for maker, path in ((new_file, tmp_path / "file"), (new_folder, tmp_path / "folder")):
        with pytest.raises(DupmaeError) as caught, maker(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert str(caught.value).startswith(f"{path}: cannot write: No space left on device (free some space")
    assert (tmp_path / "folder" / "deep" / "a.txt").read_text() == "old"
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("maker", [new_file, new_folder])
def test_a_write_refused_inside_is_told_as_ours(tmp_path: Path, maker: object) -> None:
    with pytest.raises(DupmaeError, match=r"out: cannot write"), maker(tmp_path / "out") as temporary:  # type: ignore[operator]
        (temporary / "not-there" / "a.txt").write_text("x")


def test_an_error_about_another_file_is_not_told_as_a_refused_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"input\.jsonl"), new_folder(tmp_path / "out"):
        (tmp_path / "input.jsonl").read_text()
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for maker in (new_file, new_folder):
        with pytest.raises(DupmaeError, match="cannot write"), maker(tmp_path / "file" / "out"):
            pass


def test_a_folder_of_other_peoples_files_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DupmaeError, match=r"holds files of something else .*choose a new folder"):
        make(tmp_path, "x")
    assert names(tmp_path) == ["thesis.tex"]
    with pytest.raises(DupmaeError, match="is a file"):
        make(tmp_path / "thesis.tex", "x")
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled_also_by_a_relative_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    make(Path("."), "x")
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "x"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "folder").symlink_to(tmp_path / "disk" / "folder")
    (tmp_path / "file").symlink_to(tmp_path / "disk" / "file")
    for text in ("one", "two"):
        make(tmp_path / "folder", text)
        write_text(tmp_path / "file", text)
        assert (tmp_path / "disk" / "folder" / "deep" / "a.txt").read_text() == text
        assert (tmp_path / "disk" / "file").read_text() == text
    assert names(tmp_path / "disk") == ["file", "folder"]


def test_a_folder_that_cannot_take_its_place_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", "old")
    replace = os.replace

    def fail_on_temporary(source: Path, target: Path) -> None:
        if str(source).endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fail_on_temporary)
    with pytest.raises(DupmaeError, match="Input/output error"):
        make(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "old"


def test_a_killed_program_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from dupmae.files import new_file, new_folder\n"
        "with new_folder(sys.argv[1]) as out, new_file(sys.argv[2]) as file:\n"
        "    (out / 'half').write_text('x'); file.write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "folder", tmp_path / "file"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "folder").exists()
    assert not (tmp_path / "file").exists()


def test_json_comes_back_and_keeps_its_order(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.json", {"b": 1, "a": ["ü", None]})
    assert path.read_text(encoding="utf-8") == '{\n  "b": 1,\n  "a": [\n    "ü",\n    null\n  ]\n}\n'
    assert list(read_json(path)) == ["b", "a"]


def test_json_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(DupmaeError, match=r"a\.json: no such file"):
        read_json(path)
    with pytest.raises(DupmaeError, match="cannot read: Is a directory"):
        read_json(tmp_path)
    path.write_text('{\n"a": }')
    with pytest.raises(DupmaeError, match=r"a\.json, line 2: not JSON"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(DupmaeError, match="not UTF-8"):
        read_json(path)


def test_sha256_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_names_are_flushed_before_and_after_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    rename, flush = os.replace, files._sync
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("rename"), rename(old, new)))
    monkeypatch.setattr(files, "_sync", lambda path: (done.append(path.name), flush(path)))
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("x")
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    assert set(before) == {"a", files.MARKER, folder.name}
    assert after == [tmp_path.name]
    done.clear()
    write_text(tmp_path / "b", "x")
    assert done[1:] == ["rename", tmp_path.name]


def test_leftovers_of_dead_writers_go_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    gone = [f".out.{dead.stdout.strip()}.tmp", f".out.{dead.stdout.strip()}.old", f".own.{os.getpid()}.tmp"]
    kept = [f".alive.{os.getppid()}.tmp", ".hidden", ".name.tmp", "out.1.tmp"]
    for name in (*gone[:2], *kept[:1]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    for name in (*gone[2:], *kept[1:]):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_folder_is_gone_from_its_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out", "one")
    monkeypatch.setattr(files.shutil, "rmtree", lambda *given, **options: None)
    remove_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
