from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import BertConfig, BertTokenizer, PreTrainedTokenizerFast

from dupmae.errors import DupmaeError
from dupmae.shards import tokenizers
from dupmae.shards.tokenizers import fingerprint, load_tokenizer, train_wordpiece
from tests.tiny_tokenizers import TOKENIZERS

KINDS = pytest.mark.parametrize("kind", TOKENIZERS)


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
        "from dupmae.shards.tokenizers import *; texts = [f'word{n} of the {n % 7} kinds' for n in range(300)];"
        "print(fingerprint(train_wordpiece(iter(texts), 90)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    texts = [f"word{n} of the {n % 7} kinds" for n in range(300)]
    assert done.stdout == fingerprint(train_wordpiece(texts, 90)) + "\n"


def test_training_holds_so_many_characters_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{n} of the {n % 7} kinds" for n in range(300)]
    enough = sum(map(len, texts[:100])) + 3
    monkeypatch.setattr(tokenizers, "MOST_TRAINING_CHARACTERS", enough)
    source = iter(texts)
    limited = train_wordpiece(source, 90)
    assert next(source) == texts[101]
    assert fingerprint(limited) == fingerprint(train_wordpiece([*texts[:100], texts[100][:3]], 90))


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
    with pytest.raises(DupmaeError, match=r"no such model folder \(check the path\)"):
        load_tokenizer(tmp_path / "absent")
    with pytest.raises(DupmaeError, match="cannot load the tokenizer") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    nameless = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")  # type: ignore[no-untyped-call]
    nameless.save_pretrained(tmp_path)
    with pytest.raises(DupmaeError, match="the tokenizer has no cls_token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["wordpiece", "byte-level", "unigram"])
def test_a_tokenizer_without_its_vocabulary_is_refused(kind: str, tmp_path: Path) -> None:
    """The library would make one of the special tokens alone."""
    TOKENIZERS[kind].save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DupmaeError, match=r"the tokenizer has no vocabulary|cannot load the tokenizer"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_special_tokens_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tokenizers.SPECIALS))
    BertTokenizer(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DupmaeError, match="the tokenizer has no vocabulary"):
        load_tokenizer(tmp_path)
