"""An index in a folder: whatever happens to the process or the files, it opens and is right, or says what is wrong."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dupmae.errors import DupmaeError
from dupmae.search.documents import Document
from dupmae.search.index import Index
from tests.search.vectors import WordEncoder

TEXTS = {f"id {n}/ü": f"word{n % 5} text {n}" for n in range(12)}


def encoder(folder: Path) -> WordEncoder:
    return WordEncoder(folder / "retriever")


def made(folder: Path, texts: dict[str, str] = TEXTS) -> Index:
    return Index.build(encoder(folder), list(texts.values()), list(texts), folder / "index", segment=5)


def opened(folder: Path) -> Index:
    return Index.open(folder / "index", encoder(folder))


def holds(index: Index, texts: dict[str, str]) -> bool:
    """Whether the index has these documents, and gives for a query what one made of them anew gives."""
    if {document.id: document.text for document in index.snapshot.documents()} != texts:
        return False
    found = index.run({"q": "word1 text 3"}, k=50)["q"]
    anew = (
        Index.build(WordEncoder(), list(texts.values()), list(texts)).run({"q": "word1 text 3"}, k=50) if texts else {}
    )
    return found == anew.get("q", {})


class AgainstADictionary(RuleBasedStateMachine):
    """add, update, delete, compact and reopen in any order leave what a dictionary has."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(mkdtemp())
        self.texts = {"first": "word1"}
        self.index = made(self.folder, self.texts)

    @rule(name=st.sampled_from("abcdef"), text=st.sampled_from(["word1", "word2 word3", "", "text 3"]))
    def put(self, name: str, text: str) -> None:
        if name in self.texts:
            with pytest.raises(DupmaeError, match="there is a document with this id"):
                self.index.add([text], [name])
            self.index.update([{"id": name, "text": text}])
        else:
            self.index.add([text], [name])
        self.texts[name] = text

    @rule(names=st.lists(st.sampled_from([*"abcdef", "first", "nowhere"]), max_size=4))
    def delete(self, names: list[str]) -> None:
        assert self.index.delete(names) == len(set(names) & self.texts.keys())
        for name in names:
            self.texts.pop(name, None)

    @rule()
    def compact(self) -> None:
        self.index.compact()
        assert len(self.index.snapshot.segments) <= 1

    @rule()
    def reopen(self) -> None:
        self.index = opened(self.folder)

    @invariant()
    def the_same(self) -> None:
        assert len(self.index) == len(self.texts)
        assert holds(self.index, self.texts)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


AgainstADictionary.TestCase.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)
TestAgainstADictionary = AgainstADictionary.TestCase

CHANGES: dict[str, tuple[Callable[[Index], Any], dict[str, str]]] = {
    "add": (lambda index: index.add(["word1 new"], ["new"]), TEXTS | {"new": "word1 new"}),
    "update": (lambda index: index.update(["word1 new"], ["id 3/ü"]), TEXTS | {"id 3/ü": "word1 new"}),
    "delete": (lambda index: index.delete(["id 3/ü"]), {name: TEXTS[name] for name in TEXTS if name != "id 3/ü"}),
    "compact": (lambda index: index.compact(), TEXTS),
}


def killed_at(call: int, work: Callable[[], object]) -> bool:
    """Do some work in a forked process that is killed before its n-th file-system call; whether it was."""
    child = os.fork()
    if not child:
        left = [call]

        def count(event: str, _: object) -> None:
            if event == "open" or (event.startswith(("os.", "shutil.")) and event != "os.kill"):
                left[0] -= 1
                if left[0] <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        fsync = os.fsync

        def counted(handle: int) -> None:
            count("os.fsync", None)
            fsync(handle)

        os.fsync = counted
        sys.addaudithook(count)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("change", CHANGES)
def test_a_kill_at_any_call_leaves_the_old_or_the_new_version(tmp_path: Path, change: str) -> None:
    made(tmp_path / "before")
    work, after = CHANGES[change]
    seen, call = set(), 0
    while True:
        # Each call of the richest change, every third of the others, which differ little.
        call += 1 if change == "update" else 3
        folder = tmp_path / str(call)
        shutil.copytree(tmp_path / "before", folder)
        index = opened(folder)
        killed = killed_at(call, lambda index=index: work(index))
        index = opened(folder)
        texts = {document.id: document.text for document in index.snapshot.documents()}
        assert texts in (TEXTS, after)
        seen.add(texts == after)
        index.verify()
        if call % 5 == 0:
            index.add(["one more"], ["more"])
            assert holds(opened(folder), texts | {"more": "one more"})
        shutil.rmtree(folder)
        if not killed:
            break
    assert call > 15
    assert True in seen


def test_a_build_that_was_killed_goes_on(tmp_path: Path) -> None:
    for call in (20, 60, 110):
        folder = tmp_path / str(call)
        assert killed_at(call, lambda folder=folder: made(folder))
        words = encoder(folder)
        index = Index.build(words, list(TEXTS.values()), list(TEXTS), folder / "index", segment=5)
        assert holds(index, TEXTS)
        left = words.encoded
    assert left < len(TEXTS)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"half", b"flipped", b"\xff" * 50])
def test_a_damaged_newest_manifest_is_stepped_over(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    index = made(tmp_path)
    index.add(["lost"], ["lost"])
    file = tmp_path / "index" / "manifest-00000002.json"
    whole = file.read_bytes()
    flipped = whole.replace(b"a", b"b", 1)
    file.write_bytes({b"half": whole[: len(whole) // 2], b"flipped": flipped}.get(content, content))
    with caplog.at_level(logging.WARNING, logger="dupmae"):
        older = opened(tmp_path)
    assert "version 2 cannot be used" in caplog.text
    assert holds(older, TEXTS)
    older.add(["new"], ["new"])
    assert older.snapshot.number == 3
    assert holds(opened(tmp_path), TEXTS | {"new": "new"})


def test_files_cut_or_gone_are_named_and_flipped_bits_are_found(tmp_path: Path) -> None:
    made(tmp_path)
    home = sorted((tmp_path / "index" / "segments").iterdir())[0]
    for file in sorted(home.iterdir()):
        whole = file.read_bytes()
        if file.name == ".dupmae":
            continue
        for content in (whole[:-1], whole[: len(whole) // 2], b"", None):
            file.unlink() if content is None else file.write_bytes(content)
            with pytest.raises(DupmaeError, match=file.name) as caught:
                opened(tmp_path)
            assert "\n" not in str(caught.value)
        file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        with pytest.raises(DupmaeError, match=r"damaged|not JSON"):
            opened(tmp_path).verify()
        file.write_bytes(whole)
    opened(tmp_path).verify()


def test_a_second_writer_gets_one_line(tmp_path: Path) -> None:
    index = made(tmp_path)
    with index._writing(), pytest.raises(DupmaeError, match="another process is writing this index"):
        opened(tmp_path).add(["b"], ["b"])
    assert holds(opened(tmp_path), TEXTS)


def test_a_reader_keeps_its_version_until_it_asks_for_the_newest(tmp_path: Path) -> None:
    writer = made(tmp_path)
    reader = opened(tmp_path)
    writer.delete(["id 1/ü"])
    writer.update(["word1"], ["id 2/ü"])
    writer.compact()
    writer.add(["word1"], ["new"])
    assert holds(reader, TEXTS)
    assert len(reader.refresh()) == 12
    assert holds(
        reader, {name: TEXTS[name] for name in TEXTS if name != "id 1/ü"} | {"id 2/ü": "word1", "new": "word1"}
    )
    assert len(list((tmp_path / "index").glob("manifest-*"))) == 2


def test_threads_search_while_one_writes(tmp_path: Path) -> None:
    index = made(tmp_path)
    expected = index.run({"q": "word1 text 3"}, k=50)["q"]
    wrong: list[object] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            found = index.run({"q": "word1 text 3"}, k=50)["q"]
            if {name: score for name, score in found.items() if name in expected} != expected:
                wrong.append(found)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(6):
        index.add([f"other {n}"], [f"other {n}"])
        index.delete([f"other {n - 1}"])
        index.compact()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_full_disk_keeps_the_old_index(tmp_path: Path) -> None:
    index = made(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 100, 500):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            with pytest.raises(DupmaeError, match="cannot write"):
                index.add(["word1 " * 300], ["large"])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert holds(index, TEXTS)
    assert holds(opened(tmp_path), TEXTS)


def test_a_new_build_takes_the_place_of_the_old(tmp_path: Path) -> None:
    made(tmp_path)
    reader = opened(tmp_path)
    assert made(tmp_path, {"a": "word1"}).snapshot.number == 2
    assert holds(reader, TEXTS)
    assert holds(opened(tmp_path), {"a": "word1"})


def test_folders_that_are_no_index(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"nowhere: no such index folder .*dupmae index"):
        Index.open(tmp_path / "nowhere")
    with pytest.raises(DupmaeError, match=r"not an index"):
        Index.open(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter").write_text("mine")
    with pytest.raises(DupmaeError, match="holds files of something else"):
        Index.build(encoder(tmp_path), ["a"], path=tmp_path / "other")
    for name in ("settings.json", "term_offsets.npy"):
        (tmp_path / "other" / name).write_text("{}")
    with pytest.raises(DupmaeError, match="an index of an older version"):
        Index.open(tmp_path / "other")


def test_what_cannot_be_indexed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = encoder(tmp_path)
    cases: list[tuple[list[Any], list[str] | None, str]] = [
        ([], None, "no passages to index"),
        (["a", "b"], ["x", "x"], "an id comes twice"),
        (["a", "b"], ["x"], "ids for more documents"),
        (["a"], ["x", "y"], "more ids than"),
        ([{"id": 3}], None, "has no text"),
        ([{"text": "a"}], None, "has no id"),
        ([Document("a", "", "", {"n": 1}), Document("b", "", "", {"n": "one"})], None, "values of several types"),
    ]
    for documents, ids, problem in cases:
        with pytest.raises(DupmaeError, match=problem):
            Index.build(words, documents, ids, tmp_path / "index")
        assert not (tmp_path / "index").exists()
    with pytest.raises(DupmaeError, match="an id comes twice"):
        Index.build(words, ["a", "b", "c"], ["x", "y", "x"], tmp_path / "index", segment=2)
    for value in (np.nan, np.inf, 1e6):
        monkeypatch.setattr(words, "encode_queries", lambda texts, value=value: _with(value, texts))
        with pytest.raises(DupmaeError, match="not finite"):
            Index.build(words, ["other"])


def _with(value: float, texts: Any) -> Any:
    vectors = WordEncoder().encode_queries(texts)
    vectors.dense[:] = value
    return vectors
