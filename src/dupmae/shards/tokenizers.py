"""Fast tokenizers: loading and training.

`load_tokenizer`, `train_wordpiece`, `fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer
from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

from dupmae.errors import DupmaeError
from dupmae.settings.models import TOKENIZER, model_folder

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# A vocabulary of tens of thousands is settled long before this many records, or this many characters of them.
MOST_TRAINING_RECORDS = 500_000
MOST_TRAINING_CHARACTERS = 2**28
# Share of all characters that the alphabet covers, SentencePiece's default; the rest become [UNK].
COVERAGE = 0.9995


def load_tokenizer(name: str | Path) -> PreTrainedTokenizerFast:
    """Open the fast tokenizer of a folder, or of a name on the Hugging Face hub.

    Raises:
        DupmaeError: when it cannot be loaded, is not a fast one, has no vocabulary, or lacks a token that
            pre-training needs.
    """
    name = model_folder(name, TOKENIZER)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(name), trust_remote_code=False)
    except Exception as error:
        # Whatever the library raises for a missing, damaged or unreachable name, the person's remedy is the same.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        fix = "name a folder with tokenizer.json, or a hub name when there is a network"
        raise DupmaeError(f"cannot load the tokenizer: {reason}", where=name, fix=fix) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        fix = "convert it to tokenizer.json, or choose another"
        raise DupmaeError("not a fast tokenizer, so its words are unknown", where=name, fix=fix)
    # Without its vocabulary the library makes one of the special tokens alone, and every word is unknown.
    files = tokenizer.vocab_files_names.values()
    absent = Path(name).is_dir() and not any((Path(name) / file).is_file() for file in files)
    if absent or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        fix = "give the model's own tokenizer.json"
        raise DupmaeError("the tokenizer has no vocabulary", where=name, fix=fix)
    for token in ("cls_token", "pad_token", "mask_token"):
        if getattr(tokenizer, token) is None:
            raise DupmaeError(f"the tokenizer has no {token}", where=name, fix="choose a masked LM's tokenizer")
    # The vector of a text is read at its first position, here and in every library that opens a saved folder.
    tokenizer.padding_side = "right"
    return tokenizer


def train_wordpiece(texts: Iterable[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a BERT-like WordPiece tokenizer: lower case, no accents, [CLS] text [SEP].

    The same texts give the same ids. The trainer numbers continuation characters in the order of a randomly
    seeded hash map, unless it is told them beforehand: so they are counted here and given as special tokens of
    a throw-away tokenizer, of which only the vocabulary is kept.

    Args:
        texts: records; the first 500,000 are used, and of them no more than 268 million characters.
        vocabulary: most entries, the five specials included.

    Raises:
        DupmaeError: when the texts are empty.
    """
    sample = _sample(texts)
    alphabet = _alphabet(sample, (vocabulary - len(SPECIALS)) // 2)
    if not alphabet:
        raise DupmaeError("no text to train a tokenizer on", where="inputs", fix="give files with text")
    draft = Tokenizer(WordPiece(unk_token="[UNK]"))
    draft.normalizer, draft.pre_tokenizer = _normalizer(), BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIALS + [f"##{character}" for character in alphabet if _joins(character)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    draft.train_from_iterator(sample, trainer)
    return BertTokenizer(vocab=draft.get_vocab(), do_lower_case=True)


def _sample(texts: Iterable[str]) -> list[str]:
    """The first texts, held in memory, the last of them cut where there are enough characters."""
    kept: list[str] = []
    room = MOST_TRAINING_CHARACTERS
    for text in islice(texts, MOST_TRAINING_RECORDS):
        kept.append(text[:room])
        room -= len(kept[-1])
        if not room:
            break
    return kept


def _normalizer() -> BertNormalizer:
    return BertNormalizer(lowercase=True)


def _alphabet(texts: list[str], most: int) -> list[str]:
    """The most frequent characters, after normalisation, that make up `COVERAGE` of the texts."""
    normalizer = _normalizer()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text))
    for space in [character for character in counts if character.isspace()]:
        del counts[space]
    wanted, covered = COVERAGE * counts.total(), 0
    alphabet = []
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:most]:
        if covered >= wanted:
            break
        alphabet.append(character)
        covered += count
    return alphabet


def _joins(character: str) -> bool:
    """Whether a character can continue a word: punctuation and Chinese characters stand alone."""
    return len(BertPreTokenizer().pre_tokenize_str(f"a{character}")) == 1


def fingerprint(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of the tokenizer's JSON, less truncation and padding, which every call changes."""
    described: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    described.pop("truncation", None)
    described.pop("padding", None)
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode("ascii")).hexdigest()
