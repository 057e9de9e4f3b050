"""Where words start, character by character."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

UNSPACED_NAMES = ("CJK ", "HIRAGANA ", "KATAKANA", "IDEOGRAPHIC ", "FULLWIDTH ", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script that puts no spaces between words."""
    return unicodedata.name(character, "").startswith(UNSPACED_NAMES)


def word_starts(tokens: Sequence[bytes], joins: Sequence[bool], words: Sequence[int], marked: bool) -> list[bool]:
    """The rules of `WordStarts`, from each token's bytes, its continuation mark, and its pre-tokenizer word.

    With `marked`, a token's own word starts unless it joins; otherwise with a new pre-tokenizer word or a space.
    """
    text = b"".join(tokens).decode()
    # For every byte, the character it belongs to, and whether it is that character's first.
    characters = [(character, place == 0) for character in text for place in range(len(character.encode()))]
    starts, begin = [], 0
    for place, token in enumerate(tokens):
        spaces = len(token) - len(token.lstrip(b" "))
        own = not joins[place] if marked else token[:1].isspace() or place == 0 or words[place] != words[place - 1]
        if place > 0:
            own = own or (tokens[place - 1].isspace() and not tokens[place - 1].endswith(b" "))
            own = own or is_unspaced(characters[begin - 1][0])
            after_mark = tokens[place - 1].strip(b" ") == b""
            if spaces < len(token) and not after_mark:
                own = own or is_unspaced(characters[begin + spaces][0])
            own = own and characters[begin][1]
        starts.append(own or place == 0)
        begin += len(token)
    return starts
