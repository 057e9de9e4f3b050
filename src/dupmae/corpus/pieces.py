"""Texts to token sequences of bounded length, with word starts.

`Cutter` tokenises, cuts long texts at word starts, adds the specials and counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from dupmae.corpus.words import WordStarts
from dupmae.errors import DupmaeError

# Fewer ordinary tokens leave nothing to reconstruct from.
FEWEST_TOKENS = 8


class Cutter:
    """Turns texts into records of at most `max_length` tokens, specials included.

    Attributes:
        fewest: ordinary tokens that a record needs; [UNK] and other specials do not count.
        tokens: tokens given so far, specials included.
        dropped: texts, or pieces of texts, left out so far.

    Raises:
        DupmaeError: when the tokenizer puts no token in front, or `max_length` leaves no room for text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self._backend = _plain_backend(tokenizer)
        self._word_starts = WordStarts(self._backend)
        self._before, self._after = _specials_around(self._backend)
        if len(self._before) != 1:
            problem = f"the tokenizer puts {len(self._before)} special tokens in front of a text, not one"
            raise DupmaeError(problem, where="tokenizer", fix="choose a masked LM's tokenizer")
        self._room = max_length - len(self._before) - len(self._after)
        if self._room < 1:
            raise DupmaeError(f"{max_length} leaves no room for text", where="max_length", fix="raise it")
        self._special = np.array(tokenizer.all_special_ids)
        self.fewest = min(FEWEST_TOKENS, self._room)
        self.tokens, self.dropped = 0, 0

    def cut(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Give the records of the texts, in order: (input_ids int32 [L], word_starts bool [L])."""
        encodings = self._backend.encode_batch(texts, add_special_tokens=False)
        every = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), np.int32)
        flags = self._word_starts(encodings, every)
        for stop, length in zip(accumulate(map(len, encodings)), map(len, encodings), strict=True):
            ids, starts = every[stop - length : stop], flags[stop - length : stop]
            for start, end in spans(starts, self._room):
                if np.isin(ids[start:end], self._special, invert=True).sum() < self.fewest:
                    self.dropped += 1
                    continue
                self.tokens += len(self._before) + end - start + len(self._after)
                yield self._record(ids[start:end], starts[start:end])
            self.dropped += not len(ids)

    def _record(self, ids: NDArray[np.int32], starts: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        whole = np.concatenate([self._before, ids, self._after])
        flags = np.ones(len(whole), dtype=np.bool_)
        # The first token counts as a start even where a word longer than a piece had to be cut.
        flags[len(self._before) + 1 : len(self._before) + len(ids)] = starts[1:]
        return whole, flags


def spans(starts: NDArray[np.bool_], room: int) -> Iterator[tuple[int, int]]:
    """Cut [0, len(starts)) into about equal spans of at most `room`, each ending before a word start.

    A word longer than a span is cut inside.
    """
    start, length = 0, len(starts)
    while start < length:
        left = length - start
        end = start + -(-left // -(-left // room))
        if end < length:
            words = np.flatnonzero(starts[start + 1 : end + 1])
            end = start + 1 + int(words[-1]) if len(words) else end
        yield start, end
        start = end


def _plain_backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy that neither truncates nor pads and takes `[MASK]` in a text for text."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _specials_around(backend: Tokenizer) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The ids that the tokenizer puts before and after a text."""
    encoding = backend.encode("a", add_special_tokens=True)
    ids = np.array(encoding.ids, dtype=np.int32)
    text = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    return (ids[: text[0]], ids[text[-1] + 1 :]) if len(text) else (ids, ids[:0])
