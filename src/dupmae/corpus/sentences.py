"""Sentences of a text: `split_sentences`, `single_spaces`."""

from __future__ import annotations

from collections.abc import Iterable

import sentencex  # type: ignore[import-untyped]


def split_sentences(text: str, language: str) -> list[str]:
    """Split a text where sentences and paragraphs end; joined, the parts are the text.

    Args:
        language: ISO 639 code, for its abbreviations; one without rules of its own is taken for English.
    """
    parts: list[str] = sentencex.segment(language, text)
    return parts


def single_spaces(parts: Iterable[str]) -> list[str]:
    """The parts of a text with its white space turned into single spaces, less those without anything else.

    Each part but the first keeps the space in front of it: many tokenizers write a word after a space in another
    way than one at the start of a text.
    """
    tidy: list[str] = []
    spaced = False
    for part in parts:
        words = part.split()
        if words:
            space = " " if tidy and (spaced or part[0].isspace()) else ""
            tidy.append(space + " ".join(words))
        spaced = (spaced and not words) or part[-1:].isspace()
    return tidy
