from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, PreTrainedTokenizerFast

from dupmae.corpus.tokenizers import fingerprint, load_tokenizer, train_wordpiece, word_starts
from dupmae.errors import DupmaeError

TEXTS = [
    "The quick brown foxes aren't jumping over unbelievable hedges, 123 times!",
    "Hello world, don't panic: reading the unreadable is hardly unbelievable.",
    "A café in Zürich serves tea; the tea-room opens at nine.",
] * 5
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def byte_level() -> PreTrainedTokenizerFast:
    """Built as RoBERTa's tokenizer is."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return wrapped(backend)


def unigram(*, split: bool = True) -> PreTrainedTokenizerFast:
    """Built as XLM-R's tokenizer is, or as those of later models that do not split before the model."""
    metaspace = pre_tokenizers.Metaspace(split=split)
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if split else metaspace
    )
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator([word for text in TEXTS for word in text.split()], trainer)
    return wrapped(backend)


TOKENIZERS = {
    "wordpiece": train_wordpiece(TEXTS, 120),
    "byte-level": byte_level(),
    "unigram": unigram(),
    "unsplit": unigram(split=False),
}
KINDS = pytest.mark.parametrize("kind", TOKENIZERS)


def words(kind: str, text: str) -> list[str]:
    """The tokens of each word, put together again, specials left out."""
    encoding = TOKENIZERS[kind].backend_tokenizer.encode(text)
    found: list[str] = []
    for token, start, special in zip(encoding.tokens, word_starts(encoding), encoding.special_tokens_mask, strict=True):
        assert start or not special
        if special:
            continue
        if start:
            found.append("")
        found[-1] += token.removeprefix("##").strip("Ġ▁")
    return found


@KINDS
def test_whole_words_stay_whole(kind: str) -> None:
    assert words(kind, "the unbelievable foxes jumping") == ["the", "unbelievable", "foxes", "jumping"]


def test_punctuation_follows_the_tokenizer() -> None:
    text = "the tea, unbelievable"
    assert words("wordpiece", text) == words("byte-level", text) == ["the", "tea", ",", "unbelievable"]
    assert words("unigram", text) == words("unsplit", text) == ["the", "tea,", "unbelievable"]


@KINDS
@settings(deadline=None)
@given(text=st.text(st.sampled_from("aeht bn.,'-Ñ中▁Ġ#<>"), max_size=40))
def test_starts_agree_with_the_spaces_of_the_text(kind: str, text: str) -> None:
    encoding = TOKENIZERS[kind].backend_tokenizer.encode(text, add_special_tokens=False)
    starts = word_starts(encoding)
    assert len(starts) == len(encoding.ids)
    assert not len(starts) or starts[0]
    for place in range(1, len(starts)):
        if not starts[place]:
            before, here = encoding.offsets[place - 1][0], encoding.offsets[place][1]
            assert " " not in text[before:here].strip(), "a word reaches over a space"


@KINDS
def test_specials_stand_for_themselves(kind: str) -> None:
    starts = word_starts(TOKENIZERS[kind].backend_tokenizer.encode("unbelievable"))
    assert starts[0]
    assert starts[1]
    assert starts[-1]
    assert starts.sum() == 3


def test_wordpiece_is_like_bert() -> None:
    tokenizer = TOKENIZERS["wordpiece"]
    encoding = tokenizer("CAFÉ, the tea")
    assert encoding["input_ids"][0] == tokenizer.cls_token_id
    assert encoding["input_ids"][-1] == tokenizer.sep_token_id
    assert tokenizer.decode(encoding["input_ids"], skip_special_tokens=True) == "cafe, the tea"
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    assert len(tokenizer) == 120


def test_training_gives_the_same_ids_in_every_process() -> None:
    code = (
        "from dupmae.corpus.tokenizers import *; texts = [f'word{n} of the {n % 7} kinds' for n in range(300)];"
        "print(fingerprint(train_wordpiece(iter(texts), 90)))"
    )
    run = [sys.executable, "-c", code]
    prints = {subprocess.run(run, capture_output=True, text=True, check=True).stdout for _ in range(2)}
    texts = [f"word{n} of the {n % 7} kinds" for n in range(300)]
    assert prints == {fingerprint(train_wordpiece(texts, 90)) + "\n"}


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(DupmaeError, match="no text to train a tokenizer on"):
        train_wordpiece(["", " \n"], 100)


@KINDS
def test_a_saved_tokenizer_is_the_same_one(kind: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[kind]
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert fingerprint(loaded) == fingerprint(tokenizer)
    assert loaded("the unbelievable tea")["input_ids"] == tokenizer("the unbelievable tea")["input_ids"]
    loaded("tea", truncation=True, max_length=4, padding="max_length")
    assert fingerprint(loaded) == fingerprint(tokenizer)


def test_a_model_beside_it_changes_nothing(tmp_path: Path) -> None:
    BertConfig(vocab_size=120).save_pretrained(tmp_path)
    TOKENIZERS["wordpiece"].save_pretrained(tmp_path)
    assert fingerprint(load_tokenizer(str(tmp_path))) == fingerprint(TOKENIZERS["wordpiece"])


def test_what_cannot_be_loaded_is_refused_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(DupmaeError, match=r"no such tokenizer folder \(check the path\)"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(DupmaeError, match="cannot load the tokenizer") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    nameless = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")  # type: ignore[no-untyped-call]
    nameless.save_pretrained(tmp_path)
    with pytest.raises(DupmaeError, match="the tokenizer has no cls_token"):
        load_tokenizer(tmp_path)
