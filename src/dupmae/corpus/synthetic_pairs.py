"""Training pairs from a text without labels: two parts of it that speak of the same thing.

- `title`: the title asks for the text without it.
- `sentence`: the first sentence asks for what follows it.
- `crop`: a span asks for another span, both drawn independently of each other, as in Contriever (Izacard et al. 2022,
  section 3.1), so that they may overlap.

`make_pair` makes one pair of a text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from dupmae.corpus.sentences import split_sentences
from dupmae.corpus.terms import single_spaced, split_words
from dupmae.settings import Synthesize

# Draws of two spans that turn out to read the same, after which a text is given up.
TRIES = 10
Words = list[str]


@dataclass(frozen=True, slots=True)
class SyntheticPair:
    """A query and the passage that answers it, both single-spaced.

    Attributes:
        kind: `title`, `sentence` or `crop`.
        title: of the passage; empty where the title is the query, or there is none.
    """

    kind: str
    query: str
    title: str
    text: str


def make_pair(title: str, text: str, settings: Synthesize, random: Random) -> SyntheticPair | None:
    """A pair of the kinds that are possible for this text, drawn by their shares; None when none is.

    A query and its passage are never the same text, in whatever case.

    Args:
        random: its state decides the kind and the spans.
    """
    title, body = _apart(title, text)
    shares = settings.shares.model_dump()
    kinds = [kind for kind, share in shares.items() if share]
    while kinds:
        kind = random.choices(kinds, [shares[kind] for kind in kinds])[0]
        pair = MAKERS[kind](title, body, settings, random)
        if pair is not None:
            return pair
        kinds.remove(kind)
    return None


def _apart(title: str, text: str) -> tuple[str, str]:
    """Title and text, single-spaced; a text that begins with its title again is what comes after it."""
    title, text = single_spaced(title), single_spaced(text)
    words, heading = split_words(text), split_words(title)
    if heading and _same(words[: len(heading)], heading):
        text = _joined(words[len(heading) :])
    return title, text


def _from_title(title: str, body: str, settings: Synthesize, random: Random) -> SyntheticPair | None:
    return _pair("title", split_words(title), "", split_words(body), settings)


def _from_sentence(title: str, body: str, settings: Synthesize, random: Random) -> SyntheticPair | None:
    sentences = split_sentences(body, settings.language)
    rest = split_words("".join(sentences[1:]))
    return _pair("sentence", split_words(sentences[0]), title, rest, settings) if sentences else None


def _from_crop(title: str, body: str, settings: Synthesize, random: Random) -> SyntheticPair | None:
    """Two spans of the body, or of the title where there is nothing else."""
    title, words = (title, split_words(body)) if body else ("", split_words(title))
    for _ in range(TRIES):
        query = _span(words, settings.query_words[0], settings, random)
        passage = _span(words, settings.passage_words[0], settings, random)
        pair = _pair("crop", query, title, passage, settings)
        if pair is not None:
            return pair
    return None


MAKERS: dict[str, Callable[[str, str, Synthesize, Random], SyntheticPair | None]] = {
    "title": _from_title,
    "sentence": _from_sentence,
    "crop": _from_crop,
}


def _span(words: Words, least: int, settings: Synthesize, random: Random) -> Words:
    """Consecutive words, at least `least` of them where there are so many."""
    shortest, longest = (min(len(words), max(least, round(share * len(words)))) for share in settings.crop)
    length = random.randint(shortest, longest)
    start = random.randint(0, len(words) - length)
    return words[start : start + length]


def _pair(kind: str, query: Words, title: str, passage: Words, settings: Synthesize) -> SyntheticPair | None:
    query, passage = query[: settings.query_words[1]], passage[: settings.passage_words[1]]
    long_enough = len(query) >= settings.query_words[0] and len(passage) >= settings.passage_words[0]
    if not long_enough or _same(query, passage):
        return None
    return SyntheticPair(kind, _joined(query), title, _joined(passage))


def _joined(words: Words) -> str:
    return "".join(words).strip()


def _same(left: Words, right: Words) -> bool:
    return _joined(left).casefold() == _joined(right).casefold()
