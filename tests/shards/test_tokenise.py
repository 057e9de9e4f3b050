"""The one tokenisation: the tokenizer's own ids, whatever its make and sides, and no state left in it."""

from __future__ import annotations

import copy
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from dupmae.errors import DupmaeError
from dupmae.shards import tokenise
from dupmae.shards.tokenise import Tokenisation, portions, without_token
from tests.tiny_tokenizers import TEXTS, TOKENIZERS, UNSPACED_TEXTS, wrapped

ALL = [*TEXTS[:3], *UNSPACED_TEXTS[:3], "", " ", "a", "[MASK] <mask> [SEP]", "\x00\x07", "emoji 😀 \u200d"]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_are_those_of_the_library(name: str, side: str) -> None:
    tokenizer = copy.deepcopy(TOKENIZERS[name])
    tokenizer.truncation_side = side
    for limit in (3, 7, 200):
        expected: Any = tokenizer([f"to {text}" for text in ALL], truncation=True, max_length=limit)["input_ids"]
        tokens = Tokenisation(tokenizer)(ALL, limit, "to ")
        assert [ids.tolist() for ids in tokens.split()] == expected
        assert tokens.lengths.max() <= limit


def test_batches_are_padded_behind_the_texts() -> None:
    tokenizer = copy.deepcopy(TOKENIZERS["wordpiece"])
    tokenizer.padding_side = "left"
    ids, valid, special = Tokenisation(tokenizer).batch(["hello world", "", TEXTS[0]], 20)
    lengths = valid.sum(1)
    assert lengths[1] == 2
    assert torch.equal(valid, torch.arange(ids.shape[1]) < lengths[:, None])
    assert (ids[:, 0] == tokenizer.cls_token_id).all()
    assert (ids[~valid] == tokenizer.pad_token_id).all()
    assert torch.equal(special, torch.isin(ids, torch.tensor(tokenizer.all_special_ids)))


def test_lone_surrogates_become_question_marks() -> None:
    tokens = Tokenisation(TOKENIZERS["byte-level"])(["half \ud83d emoji", "half ? emoji"], 50).split()
    assert tokens[0].tolist() == tokens[1].tolist()


def test_the_tokenizer_stays_as_it_came() -> None:
    tokenizer = copy.deepcopy(TOKENIZERS["unigram"])
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    before = tokenizer.backend_tokenizer.to_str()
    assert Tokenisation(tokenizer)([TEXTS[0]], 50).lengths[0] > 9
    assert tokenizer.backend_tokenizer.to_str() == before


def test_threads_get_what_one_thread_gets() -> None:
    shared = Tokenisation(TOKENIZERS["wordpiece"])
    texts = [text * 3 for text in TEXTS]
    limits = [5, 9, 30] * 100
    alone = {limit: shared(texts, limit).ids.tolist() for limit in set(limits)}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda limit: shared(texts, limit).ids.tolist(), limits))
    finally:
        sys.setswitchinterval(interval)
    assert found == [alone[limit] for limit in limits]


def test_calls_of_a_bounded_size_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Tokenisation(TOKENIZERS["unigram"])(ALL, 12)
    monkeypatch.setattr(tokenise, "CALL_CHARACTERS", 40)
    parts = Tokenisation(TOKENIZERS["unigram"])(ALL, 12)
    assert np.array_equal(whole.ids, parts.ids)
    assert np.array_equal(whole.lengths, parts.lengths)


def test_portions() -> None:
    texts = ["aa", "aaaa", "a", "a", "a"]
    assert list(portions(texts, 3)) == [["aa"], ["aaaa"], ["a", "a", "a"]]
    assert list(portions(texts, 3, 2)) == [["aa"], ["aaaa"], ["a", "a"], ["a"]]
    assert list(portions([], 3)) == []


def test_no_room_and_no_special_are_refused() -> None:
    with pytest.raises(DupmaeError, match=r"2 tokens leave no room"):
        Tokenisation(TOKENIZERS["wordpiece"])(["a"], 2)
    bare = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, "[UNK]")), pad_token="[UNK]"
    )
    with pytest.raises(DupmaeError, match="0 special tokens in front"):
        Tokenisation(bare)


def test_entries_without_a_token() -> None:
    tokenizer = wrapped(Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 4}, "<unk>")))
    missing = without_token(tokenizer, 20)
    assert missing.nonzero()[0].tolist() == [n for n in range(20) if n not in tokenizer.get_vocab().values()]
    assert missing[2]
    with pytest.raises(DupmaeError, match=r"the model knows 3 "):
        without_token(tokenizer, 3)
