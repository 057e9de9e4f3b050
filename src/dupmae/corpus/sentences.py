"""Sentences of a text: `split_sentences`."""

from __future__ import annotations

import sentencex  # type: ignore[import-untyped]


def split_sentences(text: str, language: str) -> list[str]:
    """Split a text where sentences and paragraphs end; white space becomes single spaces.

    Joined without anything between them, the sentences are the text again: each but the first keeps the space in
    front of it, since many tokenizers write a word after a space in another way than one at the start of a text.

    Args:
        language: ISO 639 code, for its abbreviations; one without rules of its own is taken for English.
    """
    sentences: list[str] = []
    spaced = False
    for part in sentencex.segment(language, text):
        words = part.split()
        if words:
            space = " " if sentences and (spaced or part[0].isspace()) else ""
            sentences.append(space + " ".join(words))
        spaced = (spaced and not words) or part[-1:].isspace()
    return sentences
