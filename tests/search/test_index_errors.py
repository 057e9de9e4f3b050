"""A bad, damaged or unwritable index is told in one line, and nothing half-written stays."""

from __future__ import annotations

import errno
import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded
from dupmae.search import builder as writer
from dupmae.search import postings
from dupmae.search.builder import build_index
from dupmae.search.index import HybridIndex

PASSAGES = 50
Damage = Callable[[Path], Any]


def build(folder: Path, *, passages: int = PASSAGES, value: float = 1.0, texts: int | None = None) -> HybridIndex:
    vectors = Encoded(np.full((passages, 40), value, np.float32), csr_array(np.ones((passages, 30), np.float32)))
    texts = passages if texts is None else texts
    return build_index(
        folder,
        [vectors.rows(start, start + 10) for start in range(0, passages, 10)],
        [Passage(str(n), "", "word " * 30) for n in range(texts)],
        dimensions=40,
        vocabulary=30,
        retriever={},
    )


def one_line(error: DupmaeError, *parts: str) -> None:
    message = str(error)
    assert "\n" not in message
    for part in parts:
        assert part in message


def settings_with(**changes: object) -> Damage:
    def change(folder: Path) -> None:
        file = folder / "settings.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def past_the_last(folder: Path) -> None:
    np.save(folder / "posting_passages.npy", np.full(PASSAGES * 30, PASSAGES, np.uint16))


def falling(folder: Path) -> None:
    offsets = np.load(folder / "term_offsets.npy")
    offsets[3] = 0
    np.save(folder / "term_offsets.npy", offsets)


ARRAYS = ["dense.npy", "term_offsets.npy", "posting_passages.npy", "posting_impacts.npy"]


@pytest.mark.parametrize("name", [*ARRAYS, "passages.arrow"])
def test_missing_empty_and_cut_files_are_named(tmp_path: Path, name: str) -> None:
    build(tmp_path / "index")
    file = tmp_path / "index" / name
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:5], b"", b"rubbish"):
        file.write_bytes(content)
        with pytest.raises(DupmaeError) as caught:
            HybridIndex.load(tmp_path / "index")
        one_line(caught.value, name, "damaged", "dupmae index")
    file.unlink()
    with pytest.raises(DupmaeError) as caught:
        HybridIndex.load(tmp_path / "index")
    one_line(caught.value, name, "no such file", "dupmae index")


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (settings_with(version=2), ["settings.json", "version"]),
        (settings_with(passages="many"), ["settings.json", "passages"]),
        (settings_with(surprise=1), ["settings.json", "surprise"]),
        (settings_with(passages=51), ["dense.npy", "(50, 40)", "(51, 40)"]),
        (settings_with(vocabulary=29), ["term_offsets.npy", "(31,)", "(30,)"]),
        (lambda folder: (folder / "settings.json").write_text("{"), ["settings.json", "line 1", "not JSON"]),
        (lambda folder: (folder / "settings.json").write_text("[]"), ["settings.json"]),
        (falling, ["term_offsets.npy", "do not rise"]),
        (lambda folder: np.save(folder / "dense.npy", np.zeros((50, 40))), ["dense.npy", "float64"]),
        (lambda folder: (folder / "settings.json").unlink(), ["index", "not an index"]),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, damage: Damage, parts: list[str]) -> None:
    build(tmp_path / "index")
    damage(tmp_path / "index")
    with pytest.raises(DupmaeError) as caught:
        HybridIndex.load(tmp_path / "index")
    one_line(caught.value, *parts, "dupmae index" if "not JSON" not in parts else "mend")


def test_postings_that_name_no_passage_are_refused_at_search(tmp_path: Path) -> None:
    build(tmp_path / "index")
    past_the_last(tmp_path / "index")
    query = Encoded(np.ones((1, 40), np.float32), csr_array(np.ones((1, 30), np.float32)))
    with pytest.raises(DupmaeError) as caught:
        HybridIndex.load(tmp_path / "index").search(query, 3)
    one_line(caught.value, "posting_passages.npy", "past the last")


def test_pickled_arrays_are_never_opened(tmp_path: Path) -> None:
    build(tmp_path / "index")
    np.save(tmp_path / "index" / "dense.npy", np.array([[object()]]), allow_pickle=True)
    with pytest.raises(DupmaeError) as caught:
        HybridIndex.load(tmp_path / "index")
    one_line(caught.value, "dense.npy", "damaged")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"nowhere: no such index folder .*dupmae index"):
        HybridIndex.load(tmp_path / "nowhere")


def test_no_passages_and_unfinite_vectors_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match="no passages to index"):
        build(tmp_path / "index", passages=0)
    for value in (float("nan"), float("inf"), 1e6):
        with pytest.raises(DupmaeError, match="not finite"):
            build(tmp_path / "index", value=value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("texts", [40, 45, 60])
def test_texts_that_do_not_match_the_vectors_leave_nothing(tmp_path: Path, texts: int) -> None:
    with pytest.raises(ValueError, match="passages"):
        build(tmp_path / "index", texts=texts)
    assert list(tmp_path.iterdir()) == []


def test_batches_of_another_width_are_refused(tmp_path: Path) -> None:
    batch = Encoded(np.ones((1, 3), np.float32), csr_array((1, 9), dtype=np.float32))
    with pytest.raises(ValueError, match="widths 3 and 8"):
        build_index(tmp_path / "i", [batch], [Passage("a", "", "")], dimensions=3, vocabulary=8, retriever={})


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the system refuse to write past `size` bytes of any file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 64, 200, 300, 2000, 3100, 4000, 8000])
def test_a_write_the_system_refuses_keeps_the_old_index(tmp_path: Path, size: int) -> None:
    build(tmp_path / "index", passages=10)
    with largest_file(size), pytest.raises(DupmaeError) as caught:
        build(tmp_path / "index")
    one_line(caught.value, "index: cannot write", "free some space")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert len(HybridIndex.load(tmp_path / "index")) == 10


def test_a_full_disk_leaves_nothing_under_the_final_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((postings, "_reserve"), (writer, "write_json"), (writer._DenseWriter, "add")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            with pytest.raises(DupmaeError) as caught:
                build(tmp_path / "index")
        one_line(caught.value, "index: cannot write: No space left on device")
        assert list(tmp_path.iterdir()) == []
