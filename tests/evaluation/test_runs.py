from __future__ import annotations

from pathlib import Path

import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Run
from dupmae.evaluation.runs import read_run, write_run

ids = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1).filter(
    lambda text: text.split() == [text]
)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.dictionaries(ids, st.dictionaries(ids, finite, min_size=1, max_size=5), max_size=4))
def test_reads_what_it_wrote(tmp_path_factory: pytest.TempPathFactory, run: Run) -> None:
    path = tmp_path_factory.mktemp("runs") / "run.trec"
    write_run(path, run, "dupmae")
    assert read_run(path) == run


def test_format_is_trecs(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.trec"
    write_run(path, {"q1": {"a": 1.0, "b": 2.5, "c": 1.0}, "q2": {}}, "bm25")
    assert path.read_text() == "q1 Q0 b 1 2.5 bm25\nq1 Q0 c 2 1.0 bm25\nq1 Q0 a 3 1.0 bm25\n"
    with path.open() as file:
        assert pytrec_eval.parse_run(file) == {"q1": {"a": 1.0, "b": 2.5, "c": 1.0}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("q Q0 d 1 0.5", "5 columns where a run has 6"),
        ("", "0 columns"),
        ("q Q0 d 1 0.5 tag more", "7 columns"),
        ("q Q0 d 1 high tag", "the score 'high' is not a finite number"),
        ("q Q0 d 1 nan tag", "'nan' is not a finite number"),
        ("q Q0 d1 2 0.4 tag", "document 'd1' is ranked twice for query 'q'"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "run.trec"
    path.write_text(f"q Q0 d1 1 0.5 tag\n{line}\n")
    with pytest.raises(DupmaeError) as error:
        read_run(path)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"gone\.trec: cannot read: No such file"):
        read_run(tmp_path / "gone.trec")
    with pytest.raises(DupmaeError, match="cannot read"):
        read_run(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DupmaeError, match="not UTF-8"):
        read_run(tmp_path / "binary")


@pytest.mark.parametrize(
    ("run", "tag", "problem"),
    [
        ({"a b": {"d": 1.0}}, "t", "query id 'a b'"),
        ({"q": {"d\n": 1.0}}, "t", "document id"),
        ({"q": {"": 1.0}}, "t", "document id '' is empty"),
        ({"q": {"d": 1.0}}, "my run", "tag 'my run'"),
        ({"q": {"d": float("inf")}}, "t", "'d' for query 'q' is not finite"),
    ],
)
def test_what_a_run_cannot_express_is_refused_and_nothing_left(
    tmp_path: Path, run: Run, tag: str, problem: str
) -> None:
    with pytest.raises(DupmaeError, match=problem):
        write_run(tmp_path / "run.trec", run, tag)
    assert list(tmp_path.iterdir()) == []
