"""Pairs made of one text: what each kind takes, and what is never made."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from dupmae.corpus.synthetic_pairs import make_pair
from dupmae.settings import Synthesize

TITLE = "Wings in a slipstream"
FIRST = "A wing behind a propeller was measured."
REST = "Its lift grew most near the hub, and fell off towards the tip of the blade."


def settings(**options: Any) -> Synthesize:
    return Synthesize.model_validate({"inputs": ["a"], "out": "b", **options})


def only(kind: str, **options: Any) -> Synthesize:
    return settings(shares={"title": 0, "sentence": 0, "crop": 0, kind: 1}, **options)


def test_a_title_asks_for_its_text() -> None:
    pair = make_pair(f" {TITLE}\n", f"{FIRST}\n\n{REST}", only("title"), Random(0))
    assert pair is not None
    assert (pair.kind, pair.query, pair.title, pair.text) == ("title", TITLE, "", f"{FIRST} {REST}")


def test_a_text_that_repeats_its_title_is_what_comes_after_it() -> None:
    pair = make_pair(TITLE, f"{TITLE.upper()}  {REST}", only("title"), Random(0))
    assert pair is not None
    assert (pair.query, pair.text) == (TITLE, REST)
    assert make_pair(TITLE, TITLE, only("title"), Random(0)) is None


def test_a_first_sentence_asks_for_the_rest() -> None:
    pair = make_pair(TITLE, f"{FIRST} {REST}", only("sentence"), Random(0))
    assert pair is not None
    assert (pair.query, pair.title, pair.text) == (FIRST, TITLE, REST)
    assert make_pair(TITLE, REST, only("sentence"), Random(0)) is None


def test_spans_have_the_lengths_asked_for_and_may_overlap() -> None:
    words = [f"w{n}" for n in range(100)]
    random, overlapping = Random(0), 0
    made = settings(shares={"title": 0, "sentence": 0}, crop=[0.2, 0.6], query_words=[3, 30], passage_words=[8, 50])
    for _ in range(300):
        pair = make_pair("T", " ".join(words), made, random)
        assert pair is not None
        query, passage = pair.query.split(), pair.text.split()
        for span, longest in ((query, 30), (passage, 50)):
            assert 20 <= len(span) <= longest
            start = words.index(span[0])
            assert span == words[start : start + len(span)]
        assert pair.title == "T"
        assert query != passage
        overlapping += bool(set(query) & set(passage))
    assert 0 < overlapping < 300


def test_a_title_alone_is_cropped_when_it_is_long_enough() -> None:
    words = " ".join(f"w{n}" for n in range(12))
    pair = make_pair(words, "", settings(), Random(0))
    assert pair is not None
    assert (pair.kind, pair.title) == ("crop", "")
    assert pair.query in words
    assert pair.text in words
    assert make_pair("three words here", "", settings(), Random(0)) is None


def test_query_and_passage_are_never_the_same_text() -> None:
    same = "spam Spam " * 20
    for kind in ("title", "crop"):
        assert make_pair("", same, only(kind, crop=[0.5, 0.5]), Random(0)) is None
    assert make_pair("", "one two three. ONE two three.", only("sentence", passage_words=[3, 9]), Random(0)) is None
    random = Random(1)
    for _ in range(200):
        pair = make_pair("", "one two three one two three", only("crop", passage_words=[3, 9]), random)
        assert pair is not None
        assert pair.query != pair.text


def test_lengths_are_cut_and_short_ones_refused() -> None:
    pair = make_pair(TITLE, REST, only("title", query_words=[1, 2], passage_words=[1, 4]), Random(0))
    assert pair is not None
    assert (pair.query, pair.text) == ("Wings in", "Its lift grew most")
    assert make_pair(TITLE, REST, only("title", query_words=[5, 9]), Random(0)) is None
    assert make_pair(TITLE, REST, only("title", passage_words=[40, 90]), Random(0)) is None


def test_kinds_are_drawn_by_their_shares_among_those_possible() -> None:
    def kinds(heading: str, **shares: float) -> Counter[str]:
        made, random = settings(shares=shares), Random(0)
        pairs = [make_pair(heading, f"{FIRST} {REST}", made, random) for _ in range(1000)]
        return Counter(pair.kind for pair in pairs if pair is not None)

    counts = kinds(TITLE, title=3, sentence=1, crop=0)
    assert set(counts) == {"title", "sentence"}
    assert counts["title"] == pytest.approx(750, abs=60)
    counts = kinds("", title=3, sentence=1, crop=1)
    assert set(counts) == {"sentence", "crop"}
    assert counts.total() == 1000
    assert counts["sentence"] == pytest.approx(500, abs=60)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"shares": {"title": 0, "sentence": 0, "crop": 0}}, "shares: one of title"),
        ({"shares": {"title": -1}}, "greater than or equal to 0"),
        ({"crop": [0.5, 0.1]}, "crop: two numbers above 0, the smaller first"),
        ({"crop": [0.5, 1.5]}, "crop: a span is no longer than its text"),
        ({"query_words": [0, 3]}, "query_words: two numbers above 0"),
        ({"passage_words": [3]}, "passage_words: two numbers above 0"),
        ({"out": "a"}, "out: a is also an input"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**options)
