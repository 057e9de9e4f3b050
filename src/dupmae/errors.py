"""The one error a user can cause, the exit code that goes with it, and the guess at what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

USER_ERROR_EXIT_CODE = 2
# All that moves a terminal's cursor, changes its colours or the direction of its text; not tab and end of line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


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
        super().__init__(printable(" ".join(f"{place}{problem}{remedy}".split())))


def printable(text: str) -> str:
    r"""A text without control characters, each written as JSON would write it.

    >>> print(printable("title \x1b[31m in red"))
    title \u001b[31m in red
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another one; None when none is."""
    # Needed for mistakes alone, and a tenth of the time that `import dupmae` takes.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.7)), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The fix for a misspelt name.

    >>> did_you_mean("pretain", ["prepare", "pretrain"], "see --help")
    'did you mean pretrain?'
    """
    guess = nearest(name, known)
    return otherwise if guess is None else f"did you mean {guess}?"
