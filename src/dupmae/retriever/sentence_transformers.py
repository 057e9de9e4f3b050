"""A retriever as stock modules of sentence-transformers, which opens them without this package.

`write_modules` makes a folder with a Hugging Face model a `SentenceTransformer` (dense part) and puts a
`SparseEncoder` (vocabulary part) into it; `differences` says what stock modules leave out. Only files are written:
the library itself is not needed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save_file

from dupmae.files import write_json
from dupmae.nn.backbone import Backbone
from dupmae.nn.representation import HybridEncoder
from dupmae.settings import RetrieverSettings

SPARSE_FOLDER = "sparse"
WEIGHTS_FILE = "term_weights.npy"
_BASE = "sentence_transformers.base.modules"
_DENSE = "sentence_transformers.sentence_transformer.modules"
_TYPES = {
    "Transformer": f"{_BASE}.transformer.Transformer",
    "Dense": f"{_BASE}.dense.Dense",
    "Normalize": f"{_BASE}.normalize.Normalize",
    "Pooling": f"{_DENSE}.pooling.Pooling",
    "WordWeights": f"{_DENSE}.word_weights.WordWeights",
    "SpladePooling": "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
}


def write_modules(
    folder: Path, tower: Backbone, encoder: HybridEncoder, tokenizer: Any, settings: RetrieverSettings
) -> None:
    """Complete a folder that holds a tower and its tokenizer and nothing else."""
    files = [file for file in folder.iterdir() if file.is_file()]
    if encoder.has_sparse:
        _write_sparse(folder / SPARSE_FOLDER, files, encoder, tokenizer, settings)
    if encoder.has_dense:
        _write_dense(folder, tower, encoder, settings)


def _write_dense(folder: Path, tower: Backbone, encoder: HybridEncoder, settings: RetrieverSettings) -> None:
    """Describe the dense part as Transformer, Pooling, Dense and, where it applies, Normalize."""
    shape = settings.representation
    pooling = {"embedding_dimension": tower.width, "pooling_mode": shape.pooling, "include_prompt": True}
    dense = {
        "in_features": tower.width,
        "out_features": shape.dimensions,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    modules: list[tuple[str, dict[str, Any]]] = [("Pooling", pooling), ("Dense", dense)]
    if shape.normalize:
        modules.append(("Normalize", {}))
    _write_files(folder, "SentenceTransformer", "feature-extraction", modules, settings)
    weight = encoder.projection.weight.detach().cpu().contiguous()
    save_file({"linear.weight": weight}, folder / "2_Dense" / "model.safetensors")


def _write_sparse(
    folder: Path, files: list[Path], encoder: HybridEncoder, tokenizer: Any, settings: RetrieverSettings
) -> None:
    """Write a folder whose modules are Transformer, WordWeights and a maximum over positions.

    WordWeights multiplies the logits at special tokens by zero, which is how they leave the maximum: it is never
    below zero after relu.

    Args:
        folder: to be made.
        files: model and tokenizer, which both folders share (by hard links where the file system has them).
    """
    folder.mkdir()
    for file in files:
        _share(file, folder / file.name)
    size = len(encoder.term_weights)
    words = [str(token) for token in tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))]
    words += [f"unused {place}" for place in range(len(words), size)]
    left_out = {words[token]: 0.0 for token in tokenizer.all_special_ids}
    lowered = {word: 1.0 for word in words if word not in left_out and word.lower() in left_out}
    weighting = {"vocab": words, "word_weights": left_out | lowered, "unknown_word_weight": 1.0}
    if settings.representation.activation == "log1p_relu":
        maximum = {"pooling_strategy": "max", "activation_function": "relu", "embedding_dimension": size}
        last: tuple[str, dict[str, Any]] = ("SpladePooling", maximum)
    else:
        # The zeros at special tokens stand for relu: without log1p this is the plain maximum.
        last = ("Pooling", {"embedding_dimension": size, "pooling_mode": "max", "include_prompt": True})
    _write_files(folder, "SparseEncoder", "fill-mask", [("WordWeights", weighting), last], settings)
    weights = term_weights(encoder)
    if not (weights == 1).all():
        np.save(folder / WEIGHTS_FILE, weights)


def _share(file: Path, target: Path) -> None:
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _write_files(
    folder: Path, kind: str, task: str, modules: list[tuple[str, dict[str, Any]]], settings: RetrieverSettings
) -> None:
    """The files of a model whose first module is the Transformer of this folder."""
    places = [("Transformer", "")] + [(name, f"{place}_{name}") for place, (name, _) in enumerate(modules, start=1)]
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": _TYPES[name]}
        for place, (name, path) in enumerate(places)
    ]
    write_json(folder / "modules.json", listed)
    lengths = {
        "max_seq_length": settings.passage_length,
        "query_length": settings.query_length,
        "document_length": settings.passage_length,
    }
    write_json(folder / "sentence_bert_config.json", {"transformer_task": task, **lengths})
    prompts = {"query": settings.query_prefix, "document": settings.passage_prefix}
    told = {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "dot"}
    write_json(folder / "config_sentence_transformers.json", {"model_type": kind, **told})
    for (_, path), (_, config) in zip(places[1:], modules, strict=True):
        write_json(folder / path / "config.json", config)


def term_weights(encoder: HybridEncoder) -> NDArray[np.float32]:
    """The factor of each vocabulary entry, [|V|]."""
    weights: NDArray[np.float32] = encoder.term_weights.detach().clamp(min=0).float().cpu().numpy()
    return weights


def differences(encoder: HybridEncoder, settings: RetrieverSettings) -> list[str]:
    """What the stock modules leave to the caller, one bullet each."""
    shape, told = settings.representation, []
    a, b = encoder.log_scales.detach().exp().tolist()
    if encoder.has_dense and encoder.has_sparse:
        told.append(
            f"The score of a query and a passage is {a:.6g} x dense score + {b:.6g} x sparse score. `Retriever` "
            "multiplies these weights into the queries, the modules do not."
        )
    elif (factor := a if encoder.has_dense else b) != 1:
        told.append(f"`Retriever` multiplies the queries by {factor:.6g}, the modules do not.")
    if encoder.query_backbone is not None:
        told.append("Queries have an encoder of their own: open the folder `query/` for them in the same way.")
    if encoder.has_sparse:
        told += _sparse_differences(encoder, settings)
    if shape.kind == "aggregated":
        told.append(
            "The vector that `Retriever` gives is the dense one followed by the weighted sparse one folded to "
            f"{shape.aggregated_dimensions} numbers (`dupmae.nn.aggregation.fold`), which no stock module does."
        )
    told.append("`Retriever` runs in bfloat16 where the hardware multiplies it natively, the modules in float32.")
    return told


def _sparse_differences(encoder: HybridEncoder, settings: RetrieverSettings) -> list[str]:
    told = []
    if not (term_weights(encoder) == 1).all():
        told.append(
            "Each vocabulary entry has a learned weight that is applied after the non-linearity, where no stock module "
            f"can: multiply the sparse vectors of both sides by `{SPARSE_FOLDER}/{WEIGHTS_FILE}`."
        )
    if (threshold := encoder.threshold.item()) != 0:
        told.append(f"{threshold:.6g} is taken from the logits first: the head has no bias to hold it.")
    if encoder.has_counts:
        told.append(
            "A passage's own words count by how often they stand in the whole passage (BM25's saturation, "
            f"times {encoder.lexical_weight.clamp(min=0).item():.6g}): no stock module counts, so their sparse vectors "
            "lack that share of the score."
        )
    if settings.representation.query_terms == "input":
        told.append("A query keeps the entries of its own tokens alone; the modules keep others, too.")
    if settings.representation.kind != "aggregated":
        told.append(
            f"A passage keeps its {settings.representation.top_k} largest entries (after any weights) and a query all; "
            "the modules keep all of both."
        )
    told.append("`Retriever` reads a text without any ordinary token at its first token; the modules give it no entry.")
    return told
