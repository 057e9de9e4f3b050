"""Whether a passage holds an answer, as DPR counts it (Karpukhin et al. 2020, section 5: top-k accuracy).

Passage and answer are brought to Unicode's NFD, cut into words, and lowered; the passage is a hit when the words of
an answer stand in it one after another. A word is a run of letters, digits and combining marks; any other character
that is neither white space nor a control character is a word by itself.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import regex  # type: ignore[import-untyped]

# Python's own regular expressions know no categories, and their \w leaves the combining marks out.
WORD = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]")
# Stands between words; a control character is never part of one.
BETWEEN = "\x1f"


def words(text: str) -> list[str]:
    """The words that answers are compared by."""
    return [word.lower() for word in WORD.findall(unicodedata.normalize("NFD", text))]


def joined(text: str) -> str:
    """The words of a text with a mark before and behind each, so that a run of words is a substring."""
    return f"{BETWEEN}{BETWEEN.join(words(text))}{BETWEEN}"


def holds_answer(passage: str, answers: Iterable[str]) -> bool:
    """Whether one of the answers is in the passage, both given by `joined`; one without a word is in none."""
    return any(answer in passage for answer in answers if len(answer) > 2 * len(BETWEEN))
