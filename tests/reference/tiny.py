"""Tiny random models of every family, random padded batches, a little text, and a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, BertConfig, BertForMaskedLM

from dupmae.shards.tokenizers import load_tokenizer, train_wordpiece

VOCABULARY = 50
MASK = 4
# (padding, first, last) token of each family; ordinary ids are 5 and up, the mask token is 4 everywhere.
BERT_SPECIALS, ROBERTA_SPECIALS = (0, 2, 3), (1, 0, 2)
SPECIALS = {
    "bert": BERT_SPECIALS,
    "roberta": ROBERTA_SPECIALS,
    "xlm-roberta": ROBERTA_SPECIALS,
    "distilbert": BERT_SPECIALS,
    "mpnet": ROBERTA_SPECIALS,
    "electra": BERT_SPECIALS,
    "electra-narrow": BERT_SPECIALS,
    "deberta-v2": BERT_SPECIALS,
    "deberta-v2-legacy": BERT_SPECIALS,
    "modernbert": BERT_SPECIALS,
}
KINDS = list(SPECIALS)
# What each kind has beside the common shape; a kind behind a family's name is a second shape of it.
_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "legacy": False, "norm_rel_ebd": "layer_norm"}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 26, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": 26, "type_vocab_size": 1},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "mpnet": {"max_position_embeddings": 26},
    "electra": {"embedding_size": 16},
    "electra-narrow": {"embedding_size": 8},
    "deberta-v2": {**_RELATIVE, "position_biased_input": False, "position_buckets": 4, "share_att_key": True},
    "deberta-v2-legacy": {"conv_kernel_size": 3, "type_vocab_size": 2, "relative_attention": True},
    "modernbert": {"local_attention": 8, "layer_types": ["sliding_attention", "full_attention"]},
}


def tiny_model(kind: str, *, dtype: torch.dtype = torch.float64, dropout: float = 0.0, **settings: Any) -> Any:
    """Two layers of width 16 with every parameter random, norms and biases too, in evaluation mode."""
    pad, first, last = SPECIALS[kind]
    rates = {
        "distilbert": ("dropout", "attention_dropout"),
        "modernbert": ("embedding_dropout", "attention_dropout", "mlp_dropout"),
    }.get(kind, ("hidden_dropout_prob", "attention_probs_dropout_prob"))
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    common = {
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 24,
        "pad_token_id": pad,
        "bos_token_id": first,
        "cls_token_id": first,
        "eos_token_id": last,
        "sep_token_id": last,
        **dict.fromkeys(rates, dropout),
        **({} if kind == "distilbert" else shape),
    }
    family = kind.removesuffix("-narrow").removesuffix("-legacy")
    config = AutoConfig.for_model(family, **{**common, **SHAPES[kind], **settings})
    model: Any = AutoModelForMaskedLM.from_config(config)
    randomise(model)
    return model.to(dtype).eval()


def randomise(module: torch.nn.Module) -> None:
    """Give every parameter noise, so that no bias is zero and no norm is the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


def random_batch(kind: str, lengths: list[int], seed: int, vocabulary: int = VOCABULARY) -> dict[str, Tensor]:
    """`input_ids`, `word_starts`, `special`, `valid` [B, L] of random texts between the family's specials."""
    generator = torch.Generator().manual_seed(seed)
    pad, first, last = SPECIALS[kind]
    shape = (len(lengths), max(lengths))
    ids = torch.randint(5, vocabulary, shape, generator=generator)
    starts = torch.rand(shape, generator=generator) < 0.6
    valid = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]
    special = ~valid
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length - 1], ids[row, length:] = first, last, pad
        special[row, 0] = special[row, length - 1] = True
        starts[row, :2] = starts[row, length - 1] = True
    return {"input_ids": ids, "word_starts": starts & valid, "special": special, "valid": valid}


def sentences(count: int) -> list[str]:
    """Short texts of a few patterns, each with its number."""
    subjects = ["the parser", "a thread", "this table", "the index", "an encoder", "every socket"]
    verbs = ["reads", "writes", "copies", "sorts", "closes", "merges"]
    objects = ["rows of a file", "bytes in memory", "keys and values", "words of a text", "lists of numbers"]
    return [
        f"{subjects[n % 6]} {verbs[n // 6 % 6]} {objects[n % 5]} before item {n} and {verbs[n % 6]} the rest"
        for n in range(count)
    ]


def tiny_folder(path: Path, *, tokenizer: Path | None = None, head: bool = True, max_length: int = 128) -> Path:
    """Save a random two-layer BERT, with or without its vocabulary head, and its tokenizer."""
    words = load_tokenizer(tokenizer) if tokenizer else train_wordpiece(sentences(200), 160)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=max_length,
        pad_token_id=words.pad_token_id,
    )
    model = BertForMaskedLM(config)
    randomise(model)
    (model if head else model.bert).save_pretrained(path)
    words.save_pretrained(path)
    return path
