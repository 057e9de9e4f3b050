"""Files and folders appear whole or not at all, and nobody else's files are lost."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from dupmae import files
from dupmae.errors import DupmaeError
from dupmae.files import (
    cache_folder,
    check_files,
    check_folder,
    new_file,
    new_folder,
    read_json,
    read_side_file,
    remove_folder,
    remove_leftovers,
    sha256,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


KIND = "a test"


def folder_of_kind(path: Path) -> AbstractContextManager[Path]:
    return new_folder(path, KIND)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def make(folder: Path, text: str) -> None:
    with new_folder(folder, KIND) as out:
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
    for maker in (new_file, folder_of_kind):
        with pytest.raises(type(error)) as caught, maker(tmp_path / "out") as temporary:
            write_half(temporary, error)
        assert caught.value is error
        assert names(tmp_path) == []


def test_a_full_disk_is_told_in_one_line_and_the_old_output_stays(tmp_path: Path) -> None:
    make(tmp_path / "folder", "old")
    write_text(tmp_path / "file", "old")
    for maker, path in ((new_file, tmp_path / "file"), (folder_of_kind, tmp_path / "folder")):
        with pytest.raises(DupmaeError) as caught, maker(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert str(caught.value).startswith(f"{path}: cannot write: No space left on device (free some space")
    assert (tmp_path / "folder" / "deep" / "a.txt").read_text() == "old"
    assert (tmp_path / "file").read_text() == "old"
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("maker", [new_file, folder_of_kind])
def test_a_write_refused_inside_is_told_as_ours(tmp_path: Path, maker: object) -> None:
    with pytest.raises(DupmaeError, match=r"out: cannot write"), maker(tmp_path / "out") as temporary:  # type: ignore[operator]
        (temporary / "not-there" / "a.txt").write_text("x")


def test_an_error_about_another_file_is_not_told_as_a_refused_write(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"input\.jsonl"), new_folder(tmp_path / "out", KIND):
        (tmp_path / "input.jsonl").read_text()
    assert names(tmp_path) == []


def test_a_parent_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for maker in (new_file, folder_of_kind):
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


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "out", "x")
    for write in (
        lambda: check_folder(tmp_path / "out", "an index"),
        lambda: new_folder(tmp_path / "out", "an index").__enter__(),
    ):
        with pytest.raises(DupmaeError, match=r"holds a test, where an index is to be written \(choose a new folder"):
            write()
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["notes.txt", "deep/notes.txt", "own/notes.txt"])
def test_files_that_were_put_beside_ours_are_not_lost(name: str, tmp_path: Path) -> None:
    make(tmp_path / "out", "x")
    mine = tmp_path / "out" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    for write in (lambda: check_folder(tmp_path / "out", KIND), lambda: make(tmp_path / "out", "y")):
        with pytest.raises(DupmaeError, match=f"holds {name}, which would be lost"):
            write()
    assert mine.read_text() == "years of work"
    files.mark(tmp_path / "out", KIND)
    make(tmp_path / "out", "y")
    assert not mine.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "a test"}', '{"kind": "a test", "files": 3}', "\0"])
def test_a_marker_of_something_else_is_none(text: str, tmp_path: Path) -> None:
    make(tmp_path / "out", "x")
    (tmp_path / "out" / files.MARKER).write_text(text)
    with pytest.raises(DupmaeError, match="holds files of something else"):
        make(tmp_path / "out", "y")
    check_files(tmp_path / "out")


def test_a_mount_point_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.os.path, "ismount", lambda path: Path(path) == tmp_path)
    with pytest.raises(DupmaeError, match=r"is a mount point, which no folder can replace \(name a folder in it\)"):
        check_folder(tmp_path, KIND)
    check_folder(tmp_path)
    check_folder(tmp_path / "in-it", KIND)


def test_a_loop_of_links_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for write in (
        lambda: check_folder(tmp_path / "a"),
        lambda: make(tmp_path / "a", "x"),
        lambda: write_text(tmp_path / "a", "x"),
    ):
        with pytest.raises(DupmaeError, match=r"a: (is a loop of links|cannot write)"):
            write()


def test_checked_files_are_those_that_were_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with new_folder(out, KIND, checked=["a", "deep/b", "absent"]) as folder:
        (folder / "deep").mkdir()
        for name in ("a", "deep/b", "c"):
            (folder / name).write_text(name)
    check_files(out)
    (out / "c").write_text("changed, and not checked")
    check_files(out)
    for name in ("a", "deep/b"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(DupmaeError, match=f"{name}: is not what was written"):
            check_files(out)
        (out / name).unlink()
        with pytest.raises(DupmaeError, match=f"{name}: is missing"):
            check_files(out)
        (out / name).write_bytes(whole)
    check_files(out)


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


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "out", "old")
    replace = os.replace

    def fail_on_temporary(source: Path, target: Path) -> bool:
        if str(source).endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error", str(target))
        replace(source, target)
        return False

    if exchange:
        monkeypatch.setattr(files, "_exchange", fail_on_temporary)
    else:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
        monkeypatch.setattr(files.os, "replace", fail_on_temporary)
    with pytest.raises(DupmaeError, match="Input/output error"):
        make(tmp_path / "out", "new")
    assert names(tmp_path) == ["out"]
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "old"


def test_there_is_a_folder_under_the_name_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders change places where the system can; where it cannot, the next writer brings the old one back."""
    make(tmp_path / "out", "old")
    rename = os.replace
    seen: list[bool] = []
    monkeypatch.setattr(
        files.os, "replace", lambda old, new: (rename(old, new), seen.append((tmp_path / "out").exists()))
    )
    make(tmp_path / "out", "new")
    assert all(seen) or sys.platform != "linux"
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "new"
    monkeypatch.undo()
    # What a kill leaves between the two renames of a system without the exchange.
    (tmp_path / "out").rename(tmp_path / f".out.{ended_process()}.old")
    with pytest.raises(ValueError, match="bug"), new_folder(tmp_path / "out", KIND):
        raise ValueError("bug")
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EIO])
def test_a_file_system_without_the_exchange(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def renameat2(self, *given: object) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr(files.ctypes, "CDLL", lambda *given, **options: Library())
    make(tmp_path / "out", "old")
    if number == errno.EIO:
        with pytest.raises(DupmaeError, match="Input/output error"):
            make(tmp_path / "out", "new")
    else:
        make(tmp_path / "out", "new")
    assert (tmp_path / "out" / "deep" / "a.txt").read_text() == ("old" if number == errno.EIO else "new")
    assert names(tmp_path) == ["out"]


def test_a_killed_program_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from dupmae.files import new_file, new_folder\n"
        "with new_folder(sys.argv[1], 'a test') as out, new_file(sys.argv[2]) as file:\n"
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
    path.write_text("[" * 100_000)
    with pytest.raises(DupmaeError, match="too deep"):
        read_json(path)
    path.write_text("1" * 5000)
    with pytest.raises(DupmaeError, match="too long a number"):
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
    with new_folder(tmp_path / "out", KIND) as folder:
        (folder / "a").write_text("x")
    before, after = done[: done.index("rename")], done[done.index("rename") + 1 :]
    assert set(before) == {"a", files.MARKER, folder.name}
    assert after == [tmp_path.name]
    done.clear()
    write_text(tmp_path / "b", "x")
    assert done[1:] == ["rename", tmp_path.name]


def test_leftovers_of_ended_writers_go_and_nothing_else(tmp_path: Path) -> None:
    ended = ended_process()
    (tmp_path / "out").mkdir()
    gone = [f".out.{ended}.tmp", f".out.{ended}.old", f".own.{os.getpid()}.tmp"]
    kept = [f".alive.{os.getppid()}.tmp", ".hidden", ".name.tmp", "out.1.tmp"]
    for name in (*gone[:2], *kept[:1]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("x")
    for name in (*gone[2:], *kept[1:]):
        (tmp_path / name).write_text("x")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*kept, "out"])


@pytest.mark.parametrize("write", [make, write_text])
def test_what_a_killed_writer_left_goes_when_the_same_is_written(write: Callable[..., object], tmp_path: Path) -> None:
    ended = ended_process()
    (tmp_path / f".out.{ended}.tmp").mkdir()
    kept = [f".other.{ended}.tmp", f".out.{os.getppid()}.tmp", f".x.out.{ended}.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    write(tmp_path / "out", "x")
    assert names(tmp_path) == sorted([*kept, "out"])


@pytest.mark.parametrize("text", ["[]", "3", '{"a":', "\udcff", "[" * 100_000, "1" * 5000])
def test_a_side_file_that_is_damaged_counts_as_absent(
    text: str, tmp_path: Path, log_messages: Callable[[], list[str]]
) -> None:
    file = tmp_path / "speed.json"
    assert read_side_file(file) == {}
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_side_file(file) == {}
    assert "counts as absent" in log_messages()[-1]
    file.write_text('{"a": 1}')
    assert read_side_file(file) == {"a": 1}


def test_the_cache_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUPMAE_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("DUPMAE_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "dupmae"


def test_a_folder_is_gone_from_its_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "out", "one")
    monkeypatch.setattr(files.shutil, "rmtree", lambda *given, **options: None)
    remove_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
