"""DPR's answer match: words, normalisation, and a slow twin on random text."""

from __future__ import annotations

import random
import unicodedata

import pytest

from dupmae.evaluation.benchmarks.answers import holds_answer, joined, words


def slow_words(text: str) -> list[str]:
    """Character by character, from the definition."""
    found, inside = [], False
    for char in unicodedata.normalize("NFD", text):
        kind = unicodedata.category(char)[0]
        if kind in "LNM":
            found = [*found[:-1], found[-1] + char] if inside else [*found, char]
        elif kind not in "ZC":
            found.append(char)
        inside = kind in "LNM"
    return [word.lower() for word in found]


def slow_match(passage: str, answers: list[str]) -> bool:
    text = slow_words(passage)
    for answer in map(slow_words, answers):
        if answer and any(text[at : at + len(answer)] == answer for at in range(len(text))):
            return True
    return False


@pytest.mark.parametrize(
    ("passage", "answers", "expected"),
    [
        ("Born in 1879 in Ulm.", ["1879"], True),
        ("Born in 18790 in Ulm.", ["1879"], False),
        ("He met WILHELM  Conrad\nRöntgen there", ["Wilhelm Conrad Ro\u0308ntgen"], True),
        ("Rontgen", ["Röntgen"], False),
        ("May 18, 2018", ["May 18 , 2018"], True),
        ("May 18 2018", ["May 18 , 2018"], False),
        ("Destiny's Child", ["Destiny 's Child"], True),
        ("a b", ["b a", "c"], False),
        ("nothing", ["", "  ", "\u200b"], False),
        ("", ["a"], False),
        ("snake_case", ["case"], True),
        ("हिन्दी भाषा", ["हिन्दी"], True),
    ],
)
def test_hand_made_cases(passage: str, answers: list[str], expected: bool) -> None:
    assert holds_answer(joined(passage), map(joined, answers)) is expected
    assert slow_match(passage, answers) is expected


def test_words_equal_the_definition_on_random_characters() -> None:
    draw = random.Random(0)
    points = [*range(0x20, 0x250), *range(0x300, 0x370), *range(0x900, 0x980), *range(0x2000, 0x2070), 0x1F600]
    for _ in range(300):
        text = "".join(chr(draw.choice(points)) for _ in range(draw.randrange(40)))
        assert words(text) == slow_words(text)


def test_the_match_equals_the_definition_on_random_words() -> None:
    draw = random.Random(1)
    found = 0
    for _ in range(500):
        passage = " ".join(draw.choices(["a", "A", "b-", "c", "é", "e\u0301", "1"], k=12))
        answers = [" ".join(draw.choices(["a", "b-", "b", "é", "1"], k=draw.randrange(4))) for _ in range(2)]
        expected = slow_match(passage, answers)
        assert holds_answer(joined(passage), [joined(answer) for answer in answers]) is expected
        found += expected
    assert 50 < found < 450
