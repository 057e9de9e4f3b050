"""Whether a passage holds an answer, as DPR counts it (Karpukhin et al. 2020, section 5: top-k accuracy).

Passage and answer are brought to Unicode's NFD, cut into words, and lowered; the passage is a hit when the words of
an answer stand in it one after another. A word is a run of letters, digits and combining marks; any other character
that is neither white space nor a control character is a word by itself.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import groupby

# Stands between words; a control character is never part of one.
BETWEEN = "\x1f"


def words(text: str) -> list[str]:
    """The words that answers are compared by."""
    return [word.lower() for word in _pattern().findall(unicodedata.normalize("NFD", text))]


def joined(text: str) -> str:
    """The words of a text with a mark before and behind each, so that a run of words is a substring."""
    return f"{BETWEEN}{BETWEEN.join(words(text))}{BETWEEN}"


def holds_answer(passage: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers is in the passage, both given by `joined`; one without a word is in none."""
    return any(answer in passage for answer in answers if len(answer) > 2 * len(BETWEEN))


@cache
def _pattern() -> re.Pattern[str]:
    """One regular expression for a word. Python's own classes leave the combining marks out."""
    inside, neither = _class("LNM"), _class("ZC")
    return re.compile(f"[{inside}]+|[^{neither}]")


def _class(categories: str) -> str:
    """The characters of some general categories, by their first letter, as ranges of a character class."""
    member = (unicodedata.category(chr(point))[0] in categories for point in range(sys.maxunicode + 1))
    ranges, start = [], 0
    for inside, run in groupby(member):
        end = start + sum(1 for _ in run)
        if inside:
            ranges.append(f"\\U{start:08x}-\\U{end - 1:08x}")
        start = end
    return "".join(ranges)
