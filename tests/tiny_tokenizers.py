"""Tiny tokenizers of every make, trained on a few sentences in four languages."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dupmae.shards.tokenizers import train_wordpiece

TEXTS = [
    "The quick brown foxes aren't jumping over unbelievable hedges, 123 times!",
    "Hello world, don't panic: reading the unreadable is hardly unbelievable.",
    "A café in Zürich serves tea; the tea-room opens at nine.",
] * 5
UNSPACED_TEXTS = ["北京是中国的首都，我爱北京。", "これは日本の本です。東京タワーへ行きます。", "ภาษาไทยไม่เว้นวรรค"] * 5
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


def byte_level(*, unspaced: bool = False) -> PreTrainedTokenizerFast:
    """Built as the tokenizers of RoBERTa and ModernBERT are; without the unspaced texts their characters fall apart."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420 if unspaced else 330,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS + (UNSPACED_TEXTS if unspaced else []), trainer)
    return wrapped(backend)


def unigram(pre_tokenizer: pre_tokenizers.PreTokenizer, *, unspaced: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizer
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=180 if unspaced else 90, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    texts = TEXTS + (UNSPACED_TEXTS if unspaced else [])
    backend.train_from_iterator([word for text in texts for word in text.split()], trainer)
    return wrapped(backend)


def byte_fallback() -> PreTrainedTokenizerFast:
    """Built as Gemma's tokenizer is: spaces become marks before splitting, unknown characters become byte pieces."""
    pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    texts = [text.replace(" ", "▁") for text in TEXTS]
    letters = sorted(set("".join(texts)))
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Split(Regex("(?<=.)(?=▁)"), "isolated")
    trained.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=90, initial_alphabet=letters, show_progress=False)
    )
    merges = sorted(
        (left, piece[len(left) :])
        for piece in trained.get_vocab()
        for left in (piece[:place] for place in range(1, len(piece)))
        if left in trained.get_vocab() and piece[len(left) :] in trained.get_vocab()
    )
    vocabulary = {token: place for place, token in enumerate([*SPECIALS, *pieces, *sorted(trained.get_vocab())])}
    backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    backend.add_special_tokens(SPECIALS)
    return wrapped(backend)


def _metaspace(*before: pre_tokenizers.PreTokenizer, split: bool = True) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([*before, pre_tokenizers.Metaspace(split=split)])


TOKENIZERS = {
    "wordpiece": train_wordpiece(TEXTS, 120),
    "wordpiece-unspaced": train_wordpiece(TEXTS + UNSPACED_TEXTS, 250),
    "byte-level": byte_level(),
    "byte-level-unspaced": byte_level(unspaced=True),
    # XLM-R's, DeBERTa-v2's with its punctuation apart, and one that does not split before the model.
    "unigram": unigram(_metaspace(pre_tokenizers.WhitespaceSplit())),
    "unigram-unspaced": unigram(_metaspace(pre_tokenizers.WhitespaceSplit()), unspaced=True),
    "punctuation": unigram(_metaspace(pre_tokenizers.Punctuation("isolated")), unspaced=True),
    "unsplit": unigram(_metaspace(split=False)),
    "byte-fallback": byte_fallback(),
}
