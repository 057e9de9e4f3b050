"""The one error a user can cause, and the exit code that goes with it."""

from __future__ import annotations

from pathlib import Path

USER_ERROR_EXIT_CODE = 2


class DupmaeError(Exception):
    """Bad input, said in one line: what is wrong, where, and how to mend it.

    Args:
        problem: what is wrong.
        where: the file (with a line, when there is one) or the setting.
        fix: what the person can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | Path | None = None,
        line: int | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.where, self.line, self.fix = problem, where, line, fix
        place = "" if where is None else f"{where}" + (f", line {line}" if line is not None else "") + ": "
        remedy = "" if fix is None else f" ({fix})"
        super().__init__(" ".join(f"{place}{problem}{remedy}".split()))
