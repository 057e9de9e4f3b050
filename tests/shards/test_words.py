"""Whole words from every make of tokenizer, in scripts with and without spaces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from dupmae.shards.words import UNSPACED_LEADS, WordStarts, byte_alphabet, token_bytes
from tests.reference import words as reference
from tests.tiny_tokenizers import TOKENIZERS

KINDS = pytest.mark.parametrize("kind", TOKENIZERS)
BYTE_KINDS = ["byte-level", "byte-level-unspaced", "byte-fallback"]
STARTS = {kind: WordStarts(tokenizer.backend_tokenizer) for kind, tokenizer in TOKENIZERS.items()}


def starts_of(kind: str, texts: list[str]) -> list[list[bool]]:
    encodings = TOKENIZERS[kind].backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    flags = STARTS[kind](encodings, np.array([place for encoding in encodings for place in encoding.ids], dtype=int))
    found = []
    for encoding in encodings:
        found.append(flags[: len(encoding)].tolist())
        flags = flags[len(encoding) :]
    assert not len(flags)
    return found


def words(kind: str, text: str) -> list[str]:
    """The text of each word, put together from its tokens."""
    backend = TOKENIZERS[kind].backend_tokenizer
    read, found = token_bytes(backend), list[bytes]()
    tokens = backend.encode(text, add_special_tokens=False).tokens
    for token, start in zip(tokens, starts_of(kind, [text])[0], strict=True):
        if start:
            found.append(b"")
        found[-1] += read(token)[0]
    return [word.decode().strip() for word in found]


@KINDS
def test_whole_words_stay_whole(kind: str) -> None:
    assert words(kind, "the unbelievable foxes jumping") == ["the", "unbelievable", "foxes", "jumping"]


def test_punctuation_follows_the_tokenizer() -> None:
    text = "the tea, unbelievable"
    for kind in ("wordpiece", "byte-level", "punctuation"):
        assert words(kind, text) == ["the", "tea", ",", "unbelievable"]
    for kind in ("unigram", "unsplit", "byte-fallback"):
        assert words(kind, text) == ["the", "tea,", "unbelievable"]


@pytest.mark.parametrize("kind", BYTE_KINDS)
def test_lines_part_words(kind: str) -> None:
    assert [word for word in words(kind, "tea\nroom") if word] == ["tea", "room"]


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_characters_in_pieces_are_the_words_of_unspaced_text(kind: str) -> None:
    """Every Chinese, Japanese or Thai character takes three tokens in these vocabularies."""
    assert words(kind, "我爱北京，中国。") == list("我爱北京，中国。")
    assert words(kind, "これは本です") == list("これは本です")
    assert words(kind, "ไทย") == list("ไทย")
    assert words(kind, "the 北京 tea") == ["the", "北", "京", "tea"]
    assert words(kind, "foxes北京foxes") == ["foxes", "北", "京", "foxes"]
    assert words(kind, "𠀋𠀋") == ["𠀋", "𠀋"]
    assert len(words(kind, "한국어")) == len(words(kind, "кафе")) == len(words(kind, "🙂🙂")) == 1


@pytest.mark.parametrize("kind", ["wordpiece-unspaced", "unigram-unspaced", "punctuation"])
def test_tokens_are_the_words_of_unspaced_text(kind: str) -> None:
    text = "北京是中国的首都我爱北京"
    tokens = TOKENIZERS[kind].backend_tokenizer.encode(text, add_special_tokens=False).tokens
    assert words(kind, text) == [token.strip("▁") for token in tokens if token != "▁"]
    assert len(words(kind, text)) >= 6
    assert words(kind, "the 北京 foxes") in (["the", "北京", "foxes"], ["the", "北", "京", "foxes"])
    assert len(words(kind, "これは日本の本です")) >= 3


def test_a_space_mark_of_its_own_joins_the_first_character() -> None:
    backend = TOKENIZERS["unigram-unspaced"].backend_tokenizer
    assert backend.encode("京", add_special_tokens=False).tokens == ["▁", "京"]
    assert starts_of("unigram-unspaced", ["京"]) == [[True, False]]


@pytest.mark.parametrize("kind", [*BYTE_KINDS, "wordpiece-unspaced"])
@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from("aet n\n.'2Ñ中京こーッ。，ไท가🙂𠀋"), max_size=30))
def test_starts_equal_the_rules_character_by_character(kind: str, text: str) -> None:
    backend = TOKENIZERS[kind].backend_tokenizer
    encoding = backend.encode(text, add_special_tokens=False)
    read = [token_bytes(backend)(token) for token in encoding.tokens]
    raw = [part for part, _ in read]
    if kind != "wordpiece-unspaced":
        assert b"".join(raw).decode() == text
    expected = reference.word_starts(raw, [j for _, j in read], encoding.word_ids, kind == "wordpiece-unspaced")
    assert starts_of(kind, [text]) == [expected]


@KINDS
@settings(deadline=None, max_examples=60)
@given(text=st.text(st.sampled_from("aeht bn.,'-Ñ中京▁Ġ#<>"), max_size=40))
def test_words_stay_within_the_spaces_of_the_text(kind: str, text: str) -> None:
    encoding = TOKENIZERS[kind].backend_tokenizer.encode(text, add_special_tokens=False)
    (starts,) = starts_of(kind, [text])
    for place in range(1, len(starts)):
        if not starts[place]:
            before, here = encoding.offsets[place - 1][0], encoding.offsets[place][1]
            assert " " not in text[before:here].strip(), "a word reaches over a space"


@KINDS
def test_a_batch_is_its_texts_one_by_one(kind: str) -> None:
    texts = ["unbelievable tea", "", "北京 the本です", "tea\n", "'t", ""]
    assert starts_of(kind, texts) == [starts_of(kind, [text])[0] for text in texts]
    assert starts_of(kind, []) == []


def test_byte_alphabet_is_the_librarys() -> None:
    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    text = "".join(map(chr, range(0x250)))
    ((written, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    assert bytes(alphabet[character] for character in written).decode() == text


def test_blocks_of_unspaced_scripts() -> None:
    for character in "ก๛ກကក្ᠠ":
        lead = character.encode()
        assert UNSPACED_LEADS[lead[0], lead[1]] == (character != "ᠠ")
    for character in "。ぁんアーヿㄅ㐀一龥豈，ｶ𠀀𪛖":
        lead = character.encode()
        assert UNSPACED_LEADS[lead[0], lead[1]], character
    for character in "가ꀀéяאḀ🙂𝐀ﷺ\N{VARIATION SELECTOR-16}":
        lead = character.encode()
        assert not UNSPACED_LEADS[lead[0], lead[1]], character


def test_an_empty_vocabulary_finds_no_words() -> None:
    assert WordStarts(Tokenizer(models.BPE()))([], np.array([], dtype=np.int32)).tolist() == []
