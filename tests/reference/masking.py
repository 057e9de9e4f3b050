"""Whole-word masks and decoder visibility position by position (RetroMAE, sections 3.1 and 3.2)."""

from __future__ import annotations

import random
from collections.abc import Sequence

Flags = Sequence[bool]


def words_of(word_starts: Flags) -> list[list[int]]:
    """Positions of every word, in order; a word runs from its start up to the next start."""
    words: list[list[int]] = []
    for position, start in enumerate(word_starts):
        if start or not words:
            words.append([])
        words[-1].append(position)
    return words


def choose_words(keys: Sequence[float], word_starts: Flags, ordinary: Flags, rate: float) -> list[bool]:
    """Mask words in the order of their keys while the middle of the next one lies within the budget.

    The budget is `rate` of the ordinary tokens; the first word is taken in any case, the last one in none.
    """
    words = [[p for p in word if ordinary[p]] for word in words_of(word_starts)]
    numbered = sorted((keys[number], number) for number, word in enumerate(words) if word)
    budget = rate * sum(ordinary)
    masked = [False] * len(ordinary)
    done = 0
    for place, (_, number) in enumerate(numbered[:-1]):
        size = len(words[number])
        if place > 0 and done + size / 2 > budget:
            break
        for position in words[number]:
            masked[position] = True
        done += size
    return masked


def corrupt(input_ids: Sequence[int], masked: Flags, mask_id: int, vocabulary: int, source: random.Random) -> list[int]:
    """80% [MASK], 10% a random token, 10% the token itself, at masked positions."""
    corrupted = list(input_ids)
    for position, chosen in enumerate(masked):
        if not chosen:
            continue
        draw = source.random()
        if draw < 0.8:
            corrupted[position] = mask_id
        elif draw < 0.9:
            corrupted[position] = source.randrange(vocabulary)
    return corrupted


def visibility(
    word_starts: Flags, ordinary: Flags, valid: Flags, rate: float, unit: str, source: random.Random
) -> list[list[bool]]:
    """M of the equation as booleans: for every row a fresh subset of the other positions, and always [CLS]."""
    length = len(valid)
    words = words_of(word_starts) if unit == "word" else [[position] for position in range(length)]
    rows = []
    for row in range(length):
        visible = [False] * length
        for word in words:
            hidden = source.random() < rate
            for position in word:
                visible[position] = valid[position] and (not ordinary[position] or not hidden)
        visible[0] = row != 0
        visible[row] = False
        rows.append(visible)
    return rows


def budgeted_hiding(word_starts: Flags, ordinary: Flags, rate: float, source: random.Random) -> list[bool]:
    """A hiding pattern as the author code draws it: shuffled words while they fit round(rate * length) tokens."""
    words = [[p for p in word if ordinary[p]] for word in words_of(word_starts)]
    words = [word for word in words if word]
    source.shuffle(words)
    budget = max(1, round(rate * len(ordinary)))
    hidden = [False] * len(ordinary)
    for word in words:
        if sum(hidden) + len(word) <= budget:
            for position in word:
                hidden[position] = True
    return hidden
