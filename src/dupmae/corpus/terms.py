"""Words of a text, whatever its script: `terms` for BM25, `split_words` for cutting a text into spans.

Scripts that put no space between words are told by Unicode (Han, kana, Hangul, and the line-breaking class SA: Thai,
Lao, Khmer, Burmese). BM25 takes their pairs of neighbouring characters, as Lucene's CJKBigramFilter does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

import regex  # type: ignore[import-untyped]

# Lucene's English ones, as bm25s has them.
ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these "
    "they this to was will with"
)
STOP_WORDS = frozenset(ENGLISH.split())
# A Hangul word carries its particles, so that whole words seldom match; hence it stands among the unspaced scripts.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Hangul}\p{Line_Break=SA}ー々"
CHARACTER = rf"[{UNSPACED}]\p{{M}}*"
ASCII_WORD = re.compile(r"\w\w+", re.ASCII)
TERM = regex.compile(
    rf"(?P<unspaced>(?:{CHARACTER})+)|(?P<word>[[\w\p{{M}}]--[{UNSPACED}]]{{2,}})|(?=\p{{Emoji_Presentation}})\X",
    regex.V1,
)
CHARACTERS = regex.compile(CHARACTER, regex.V1)
WORD = regex.compile(rf"\s*(?:{CHARACTER}[^\s\w]*|[^\s{UNSPACED}]+)", regex.V1)


def terms(texts: Iterable[str]) -> list[list[str]]:
    """The terms of each text that BM25 counts, in order.

    Words of two characters or more in lower case, without English stop words and unstemmed, as bm25s has them, but
    with the vowel signs inside them; in unspaced scripts pairs of characters; an emoji is a term.
    """
    return [_terms(text) for text in texts]


def _terms(text: str) -> list[str]:
    if text.isascii():
        return [word for word in ASCII_WORD.findall(text.lower()) if word not in STOP_WORDS]
    found: list[str] = []
    for match in TERM.finditer(unicodedata.normalize("NFKC", text).lower()):
        if match["unspaced"] is None:
            found += [match[0]] if match[0] not in STOP_WORDS else []
            continue
        characters = CHARACTERS.findall(match[0])
        found += map("".join, pairwise(characters)) if len(characters) > 1 else characters
    return found


def split_words(text: str) -> list[str]:
    """The words of a text: between spaces, or in unspaced scripts single characters with the punctuation behind them.

    Each word has the space in front of it, so that joined they are the text, less white space at its end.
    """
    words: list[str] = WORD.findall(text)
    return words


def single_spaced(text: str) -> str:
    """The text on one line, its white space turned into single spaces."""
    return " ".join(text.split())
