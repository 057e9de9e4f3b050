"""Texts to token ids, the one way that training and inference share.

`Tokenisation` turns texts into `Tokens`, which `padded` makes batches of. It uses a copy of the tokenizer's backend
that neither truncates nor pads and that nothing changes: threads may share it, and the tokenizer stays as it came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dupmae.corpus.lines import encodable
from dupmae.errors import DupmaeError
from dupmae.shards.counts import TokenCounts, count_tokens

# The library holds some hundred bytes for each token of the texts of a call, however few tokens are kept of them.
CALL_CHARACTERS = 1 << 24


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of texts, one after another.

    Attributes:
        ids: int64 [T].
        lengths: tokens of each text, int64 [N], specials included.
        counts: how often tokens stand in the whole texts, also past the limit; None where nobody asked.
    """

    ids: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: TokenCounts | None = None

    def padded(self, rows: NDArray[np.integer], pad: int) -> tuple[Tensor, Tensor]:
        """Ids int64 and validity bool of some texts, both [B, L]; padding stands behind them."""
        lengths = self.lengths[rows]
        starts = (self.lengths.cumsum() - self.lengths)[rows]
        places = np.arange(lengths.max())
        valid = places < lengths[:, None]
        ids = np.full(valid.shape, pad, dtype=np.int64)
        ids[valid] = self.ids[(starts[:, None] + places)[valid]]
        return torch.from_numpy(ids), torch.from_numpy(valid)

    def split(self) -> list[NDArray[np.int64]]:
        """The ids of each text."""
        return np.split(self.ids, self.lengths.cumsum()[:-1])


class Tokenisation:
    """Texts to token ids.

    A text that is too long loses its end, or its beginning where the tokenizer says `truncation_side: left`; its
    specials stay. A special token that a text spells is one, as in every library that opens the tokenizer.

    Attributes:
        pad: id of padding.
        special: ids of the special tokens, int64 [S].

    Raises:
        DupmaeError: when the tokenizer puts no token, or several, in front of a text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = plain_backend(tokenizer)
        self._before, self._after = specials_around(self._backend)
        self._keeps_end = tokenizer.truncation_side == "left"
        self.pad = int(tokenizer.pad_token_id)
        self.special = torch.tensor(tokenizer.all_special_ids)

    def __call__(self, texts: Sequence[str], limit: int, prefix: str = "", *, counts: bool = False) -> Tokens:
        """The tokens of texts with `prefix` before each, at most `limit` a text, specials included; on all cores.

        Args:
            counts: whether the tokens of the whole texts are counted, the prefix's too.

        Raises:
            DupmaeError: when `limit` leaves no room for text.
        """
        room = limit - len(self._before) - len(self._after)
        if room < 1:
            raise DupmaeError(f"{limit} tokens leave no room for text", where="length", fix="raise it")
        kept = slice(-room, None) if self._keeps_end else slice(room)
        parts: list[list[int]] = []
        whole: list[list[int]] = []
        for call in portions(texts, CALL_CHARACTERS):
            prefixed = [encodable(prefix + text) for text in call]
            encodings = self._backend.encode_batch_fast(prefixed, add_special_tokens=False)
            rows = [encoding.ids for encoding in encodings]
            parts += [self._before + row[kept] + self._after for row in rows]
            whole += rows if counts else []
        return Tokens(*_flat(parts), count_tokens(*_flat(whole), self.special.numpy()) if counts else None)

    def counts(self, texts: Sequence[str], prefix: str = "") -> TokenCounts:
        """How often tokens stand in whole texts."""
        counts = self(texts, len(self._before) + len(self._after) + 1, prefix, counts=True).counts
        assert counts is not None
        return counts

    def batch(self, texts: Sequence[str], limit: int, prefix: str = "") -> tuple[Tensor, Tensor, Tensor]:
        """Texts as one padded batch: ids int64, validity and specials bool, all [B, L]."""
        return self.padded(self(texts, limit, prefix))

    def padded(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """All the texts of `tokens` as one padded batch, as `batch` gives it."""
        ids, valid = tokens.padded(np.arange(len(tokens.lengths)), self.pad)
        return ids, valid, torch.isin(ids, self.special)


def _flat(rows: list[list[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of all rows, one after another, and how many each row has."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum())), lengths


def portions(texts: Sequence[str], characters: int, most: int | None = None) -> Iterator[Sequence[str]]:
    """The texts in order, in portions of so many characters and texts; at least one text each."""
    start, held = 0, 0
    for place, text in enumerate(texts):
        if place > start and (held + len(text) > characters or place - start == most):
            yield texts[start:place]
            start, held = place, 0
        held += len(text)
    if start < len(texts):
        yield texts[start:]


def plain_backend(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """A copy of the tokenizer's backend that neither truncates nor pads."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def specials_around(backend: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text.

    Raises:
        DupmaeError: when there is not exactly one before it, from which the vector of a text is read.
    """
    encoding = backend.encode("a", add_special_tokens=True)
    text = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    before = encoding.ids[: text[0]] if text else encoding.ids
    if len(before) != 1:
        problem = f"the tokenizer puts {len(before)} special tokens in front of a text, not one"
        raise DupmaeError(problem, where="tokenizer", fix="choose a masked LM's tokenizer")
    return before, encoding.ids[text[-1] + 1 :]


def without_token(tokenizer: PreTrainedTokenizerFast, vocabulary: int) -> NDArray[np.bool_]:
    """Which of the model's entries no token has, bool [|V|]: models are padded to round sizes.

    Raises:
        DupmaeError: when the tokenizer has entries that the model does not know.
    """
    ids = np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64)
    if ids.max() >= vocabulary:
        problem = f"the tokenizer has {ids.max() + 1:,} entries, the model knows {vocabulary:,}"
        raise DupmaeError(problem, where=tokenizer.name_or_path or "tokenizer", fix="give the model's own tokenizer")
    missing = np.ones(vocabulary, dtype=np.bool_)
    missing[ids] = False
    return missing
