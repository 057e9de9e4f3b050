"""The one user error says everything in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dupmae.errors import USER_ERROR_EXIT_CODE, DupmaeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (DupmaeError("no queries"), "no queries"),
        (DupmaeError("not JSON", where=Path("a/b.jsonl"), line=7), "a/b.jsonl, line 7: not JSON"),
        (
            DupmaeError("unknown setting", where="stpes", fix="did you mean steps?"),
            "stpes: unknown setting (did you mean steps?)",
        ),
        (DupmaeError("is blank", where="x", line=0, fix="remove it"), "x, line 0: is blank (remove it)"),
        (DupmaeError("two\n  lines\tand a tab", fix="join\nthem"), "two lines and a tab (join them)"),
    ],
)
def test_message_is_one_line_with_place_problem_and_fix(error: DupmaeError, message: str) -> None:
    assert str(error) == message


def test_parts_can_be_read_back() -> None:
    error = DupmaeError("not JSON", where="b.jsonl", line=7, fix="mend it")
    assert (error.problem, error.where, error.line, error.fix) == ("not JSON", "b.jsonl", 7, "mend it")
    assert USER_ERROR_EXIT_CODE == 2
