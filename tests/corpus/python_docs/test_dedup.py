from __future__ import annotations

import re
import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.corpus.python_docs.dedup import minima, unlike


def jaccard(one: str, other: str) -> float:
    """Similarity of the sets of three-word shingles, straight from the definition."""
    sets = []
    for text in (one, other):
        words = re.findall(r"\w+", text.lower())
        words += [""] * (3 - len(words))
        sets.append({tuple(words[i : i + 3]) for i in range(len(words) - 2)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def random_text(generator: np.random.Generator, words: int) -> str:
    return " ".join(f"w{number}" for number in generator.integers(0, 500, words))


texts = st.text(st.sampled_from("ab c."), max_size=30)


@settings(deadline=None)
@given(st.lists(texts, min_size=1, max_size=8))
def test_the_estimate_is_near_the_definition(many: list[str]) -> None:
    signatures = minima(many)
    for row, one in enumerate(many):
        for column, other in enumerate(many):
            estimate = (signatures[row] == signatures[column]).mean()
            assert abs(estimate - jaccard(one, other)) < 0.36


@settings(deadline=None)
@given(st.lists(texts, max_size=8))
def test_the_first_of_every_copy_stays(many: list[str]) -> None:
    assert unlike([*many, *many])[len(many) :].sum() == 0
    assert not many or unlike(many)[0]


def test_copies_with_a_changed_word_go_and_different_texts_stay() -> None:
    generator = np.random.default_rng(1)
    originals = [random_text(generator, 60) for _ in range(300)]
    edited = [text.rsplit(" ", 1)[0] + " changed" for text in originals]
    halves = [text[: len(text) // 2] + " " + random_text(generator, 30) for text in originals]
    keep = unlike([*originals, *edited, *halves])
    assert keep[:300].all()
    assert keep[300:600].sum() == 0
    assert keep[600:].mean() > 0.99


def test_batches_do_not_change_the_result() -> None:
    many = [random_text(np.random.default_rng(seed), 10) for seed in range(20)]
    together = minima(many * 500)
    assert (together[:20] == minima(many)).all()
    assert (together[-20:] == minima(many)).all()
    assert minima([]).shape == (0, 64)


def test_ten_thousand_documents_take_seconds() -> None:
    generator = np.random.default_rng(2)
    many = [random_text(generator, 100) for _ in range(10_000)]
    started = time.process_time()
    assert unlike(many).all()
    assert time.process_time() - started < 10
