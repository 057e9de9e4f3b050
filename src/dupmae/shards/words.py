"""Telling words apart in the output of any fast tokenizer.

`WordStarts` says where words start; `token_bytes` gives the text that a token stands for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer
from tokenizers.models import WordPiece

# How SentencePiece writes a space, and a byte that has no piece of its own.
SPACE_MARK = "▁"
BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")
# Scripts written without spaces between words, in blocks of 64 code points, which share their first two UTF-8 bytes:
# Thai and Lao; Burmese; Khmer; CJK punctuation, kana and Han; compatibility Han; full-width forms; old kana; rare Han.
UNSPACED = (
    (0x0E00, 0x0F00),
    (0x1000, 0x1080),
    (0x1780, 0x1800),
    (0x3000, 0xA000),
    (0xF900, 0xFB00),
    (0xFF00, 0x10000),
    (0x1B000, 0x1C000),
    (0x20000, 0x40000),
)
NO_BYTE = 256


def _unspaced_leads() -> NDArray[np.bool_]:
    """Whether a character that starts with bytes (i, j) belongs to `UNSPACED`, [257, 257]."""
    table = np.zeros((NO_BYTE + 1, NO_BYTE + 1), dtype=np.bool_)
    for first, end in UNSPACED:
        for code in range(first, end, 64):
            lead = chr(code).encode()
            table[lead[0], lead[1]] = True
    return table


UNSPACED_LEADS = _unspaced_leads()


class WordStarts:
    """Where words start in the encodings of one tokenizer.

    Words are the tokenizer's own: what its pre-tokenizer keeps together, in WordPiece a piece with the `##` pieces
    behind it, in SentencePiece everything up to the next space mark. A sentence in a script without spaces (Chinese,
    Japanese, Thai) could be one word that way, so there every token is a word; tokens that hold parts of one
    character stay together.

    Tables by token id, made once from the vocabulary, answer all but the pre-tokenizer's part: a batch costs a few
    array operations.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._marked = isinstance(tokenizer.model, WordPiece)
        vocabulary, read = tokenizer.get_vocab(with_added_tokens=True), token_bytes(tokenizer)
        table = np.zeros((max(vocabulary.values(), default=-1) + 1, 8), dtype=np.int16)
        if vocabulary:
            table[list(vocabulary.values())] = [self._describe(*read(token)) for token in vocabulary]
        self._starts, self._ends, self._bare, self._wide = np.ascontiguousarray(table[:, :4].T.astype(np.bool_))
        # The first two bytes of each token's first and of its last character.
        self._head, self._tail = np.ascontiguousarray(table[:, 4:].T).reshape(2, 2, -1)

    def _describe(self, raw: bytes, joins: bool) -> tuple[int, ...]:
        """One token: starts a word, ends one, is only spaces, is not ASCII; two bytes of its first and last character.

        WordPiece marks what continues a word; the others mark what starts one, by the space before it.
        """
        text = raw.lstrip(b" ")
        last = next((at for at in reversed(range(len(raw))) if not 0x80 <= raw[at] < 0xC0), len(raw))
        ends = ([*part[:2], NO_BYTE, NO_BYTE][:2] for part in (text, raw[last:]))
        starts = not joins if self._marked else raw[:1].isspace()
        return starts, text[-1:].isspace(), not text, not raw.isascii(), *chain.from_iterable(ends)

    def __call__(self, encodings: Sequence[Encoding], ids: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Where words start in a batch of texts.

        Args:
            encodings: the tokenizer's output, with no special tokens added.
            ids: [N] all their ids, one text after another.

        Returns:
            Booleans [N]; the first token of a text always starts a word.
        """
        starts: NDArray[np.bool_] = self._starts[ids]
        if not self._marked:
            words = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), np.int32, len(ids))
            starts[1:] |= words[1:] != words[:-1]
        starts[1:] |= self._ends[ids[:-1]]
        if self._wide[ids].any():
            self._split_unspaced(starts, ids)
        lengths = np.array([len(encoding) for encoding in encodings], dtype=np.int64)
        starts[(lengths.cumsum() - lengths)[lengths > 0]] = True
        return starts

    def _split_unspaced(self, starts: NDArray[np.bool_], ids: NDArray[np.integer]) -> None:
        """Add starts before and behind every token of unspaced text, and take them from inside characters."""
        head, tail = self._head[:, ids], self._tail[:, ids]
        following = np.append(head[0, 1:], NO_BYTE)
        # A token may hold only the first byte of a character: the second is in the next one.
        for lead in (head, tail):
            lead[1] = np.where(lead[1] == NO_BYTE, following, lead[1])
        unspaced = UNSPACED_LEADS[tail[0], tail[1]]
        # Inside a character, what its first token says holds.
        opened = np.maximum.accumulate(np.where(tail[0] == NO_BYTE, 0, np.arange(len(ids))))
        before = UNSPACED_LEADS[head[0], head[1]][1:] & ~self._bare[ids[:-1]]
        starts[1:] |= before | unspaced[opened[:-1]]
        starts[1:] &= (head[0, 1:] < 0x80) | (head[0, 1:] >= 0xC0)


def token_bytes(tokenizer: Tokenizer) -> Callable[[str], tuple[bytes, bool]]:
    """A function from a token to its text in UTF-8, spaces for space marks, and whether it is marked as continuing.

    A token of a byte-level vocabulary, or a byte piece, may be part of a character.
    """
    if isinstance(tokenizer.model, WordPiece):
        prefix = tokenizer.model.continuing_subword_prefix
        return lambda token: (token.removeprefix(prefix).encode(), token.startswith(prefix))
    if any("ByteLevel" in repr(part) for part in (tokenizer.pre_tokenizer, tokenizer.normalizer)):
        alphabet = byte_alphabet()
        # Added tokens are written as they are, whatever their characters.
        return lambda token: (
            bytes(alphabet[c] for c in token) if all(c in alphabet for c in token) else token.encode(),
            False,
        )
    return lambda token: (_piece_bytes(token), False)


def _piece_bytes(token: str) -> bytes:
    byte = BYTE_PIECE.fullmatch(token)
    return bytes.fromhex(byte[1]) if byte else token.replace(SPACE_MARK, " ").encode()


def byte_alphabet() -> dict[str, int]:
    """The character by which byte-level vocabularies write each byte: itself where printable, else one from 256 up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
