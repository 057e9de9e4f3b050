"""Texts to token sequences of bounded length, with word starts.

`Cutter` tokenises, joins sentences, cuts what is too long at word starts, adds the specials and counts; its
results are `Pieces`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Encoding
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers import PreTrainedTokenizerFast

from dupmae.corpus.sentences import single_spaces, split_sentences
from dupmae.errors import DupmaeError
from dupmae.shards.tokenise import plain_backend, specials_around
from dupmae.shards.words import WordStarts

# Fewer ordinary tokens leave nothing to reconstruct from.
FEWEST_TOKENS = 8
# ASCII's record separator, which is white space in any text, parts the sentences that are tokenised together: one
# call for a text costs a sixth less than one for each of its sentences.
MARK = "\x1e"
# A text of no more characters is first taken for one that fits a record as a whole, without looking for its sentences.
CHARACTERS_PER_TOKEN = 3


@dataclass(frozen=True, slots=True)
class Pieces:
    """Records, one after another.

    Attributes:
        lengths: tokens of each record, int64 [R].
        ids: int32 [T], T the sum of the lengths.
        starts: whether a token starts a word, bool [T].
        texts: how many texts they come from.
        dropped: texts, or pieces of them, left out.
    """

    lengths: NDArray[np.int64]
    ids: NDArray[np.int32]
    starts: NDArray[np.bool_]
    texts: int = 0
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_]]]:
        """Give the records: (input_ids int32 [L], word_starts bool [L])."""
        for end, length in zip(self.lengths.cumsum(), self.lengths, strict=True):
            yield self.ids[end - length : end], self.starts[end - length : end]


class Cutter:
    """Turns texts into records of at most `max_length` tokens, specials included.

    Args:
        language: of the sentences: a record holds as many whole sentences of one text as it has room for. None
            keeps texts whole. Sentences and texts that are too long are cut at word starts into about equal parts.

    Attributes:
        fewest: ordinary tokens that a record needs; [UNK] and other specials do not count.

    Raises:
        DupmaeError: when the tokenizer puts no token in front, or `max_length` leaves no room for text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int, language: str | None = None) -> None:
        backend = plain_backend(tokenizer)
        self._before, self._after = specials_around(backend)
        # `[MASK]` in a text that is learned from is text.
        backend.encode_special_tokens = True
        self._room = max_length - len(self._before) - len(self._after)
        if self._room < 1:
            raise DupmaeError(f"{max_length} leaves no room for text", where="max_length", fix="raise it")
        self._language = language
        # BERT's splitter drops white space of every kind: tidying it up first would cost a twentieth.
        self._spaces_count = not isinstance(backend.pre_tokenizer, BertPreTokenizer)
        backend.add_tokens([AddedToken(MARK, normalized=False, special=False)])
        self._mark = backend.token_to_id(MARK)
        self._word_starts = WordStarts(backend)
        # WordPiece tokens tell by themselves whether they start a word, so nothing but ids is asked for.
        ids_tell = isinstance(backend.model, WordPiece)
        self._encode = backend.encode_batch_fast if ids_tell else backend.encode_batch
        self._ordinary = np.ones(max(backend.get_vocab(with_added_tokens=True).values()) + 1, dtype=np.bool_)
        self._ordinary[tokenizer.all_special_ids] = False
        self.fewest = min(FEWEST_TOKENS, self._room)

    def __call__(self, texts: Sequence[str]) -> Pieces:
        """The records of the texts, in order."""
        encodings = self._encodings(texts)
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in encodings), dtype=np.int32)
        starts = self._word_starts(encodings, ids)
        marks = np.flatnonzero(ids == self._mark)
        text_ends = np.cumsum([len(encoding) for encoding in encodings], dtype=np.int64)
        marks_before = np.searchsorted(marks, text_ends)
        # Where units begin and end once the marks are gone.
        ids, starts = np.delete(ids, marks), np.delete(starts, marks)
        edges = np.sort(np.concatenate([[0], marks - np.arange(len(marks)), text_ends - marks_before]))
        starts[edges[edges < len(starts)]] = True
        sizes = iter(np.diff(edges).tolist())
        units = (list(islice(sizes, count + 1)) for count in np.diff(marks_before, prepend=0).tolist())
        begins, ends = np.array(list(_cut(units, starts, self._room)), dtype=np.int64).reshape(-1, 2).T
        ordinary = np.concatenate([[0], self._ordinary[ids].cumsum()])
        kept = ordinary[ends] - ordinary[begins] >= self.fewest
        pieces = self._wrapped(ids, starts, begins[kept], ends[kept])
        return Pieces(*pieces, texts=len(texts), dropped=int(np.count_nonzero(~kept)))

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        """The tokens of each text, with marks between sentences at least in those that are too long for a record."""
        enough = CHARACTERS_PER_TOKEN * self._room
        marked = [self._marked(text, sentences=len(text) > enough) for text in texts]
        encodings = self._encode(marked, add_special_tokens=False)
        if self._language is not None:
            long = [place for place, found in enumerate(encodings) if len(found) > self._room]
            again = [place for place in long if len(texts[place]) <= enough]
            better = self._encode(
                [self._marked(texts[place], sentences=True) for place in again], add_special_tokens=False
            )
            for place, encoding in zip(again, better, strict=True):
                encodings[place] = encoding
        return encodings

    def _marked(self, text: str, *, sentences: bool) -> str:
        parts = split_sentences(text, self._language) if sentences and self._language is not None else [text]
        return MARK.join(single_spaces(parts) if self._spaces_count else parts)

    def _wrapped(
        self, ids: NDArray[np.int32], starts: NDArray[np.bool_], begins: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
        """The spans [begin, end) of the tokens, each between the specials."""
        lengths = ends - begins + len(self._before) + len(self._after)
        closes = lengths.cumsum()
        opens = closes - lengths
        whole = np.empty(lengths.sum(), dtype=np.int32)
        flags, inner = np.ones((2, len(whole)), dtype=np.bool_)
        for place, special in enumerate(self._before):
            whole[opens + place], inner[opens + place] = special, False
        for place, special in enumerate(self._after[::-1], start=1):
            whole[closes - place], inner[closes - place] = special, False
        edges = np.bincount(begins, minlength=len(ids) + 1) - np.bincount(ends, minlength=len(ids) + 1)
        taken = edges.cumsum()[:-1] > 0
        whole[inner], flags[inner] = ids[taken], starts[taken]
        # The first token counts as a start even where a word longer than a record had to be cut.
        flags[opens + len(self._before)] = True
        return lengths, whole, flags


def _cut(texts: Iterable[list[int]], starts: NDArray[np.bool_], room: int) -> Iterator[tuple[int, int]]:
    """Spans of at most `room` tokens; `texts` has the number of tokens of every unit of every text.

    A text without tokens gives one empty span.
    """
    end = 0
    for sizes in texts:
        begin = end
        for size in sizes:
            for part in [size] if size <= room else [b - a for a, b in spans(starts[end : end + size], room)]:
                if end + part - begin > room:
                    yield begin, end
                    begin = end
                end += part
        yield begin, end


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
