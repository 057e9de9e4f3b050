"""Opening models, and where and in which precision they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedConfig
from transformers.utils import logging as library

from dupmae.errors import DupmaeError
from dupmae.nn.backbone import Backbone, family_of
from dupmae.settings import FromScratch


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_backbone(model: str) -> tuple[Backbone, bool]:
    """Load a masked LM or plain encoder; the flag says whether it brought its own vocabulary head.

    Raises:
        DupmaeError: when nothing loadable is there, or a model of a family that is not supported.
    """
    if _can_only_be_a_path(model) and not Path(model).is_dir():
        raise DupmaeError("no such model folder", where=model, fix="check the path")
    try:
        with silent_library():
            kind = PreTrainedConfig.get_config_dict(model)[0].get("model_type")
            if kind is not None:
                family_of(kind)
            lm, info = _from_pretrained(model)
            if any("lm_predictions.lm_head" in name for name in info["unexpected_keys"]):
                # Published DeBERTa-v2 and v3 carry the newer head, while their configurations are silent about it.
                lm, info = _from_pretrained(model, legacy=False)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise DupmaeError(f"no model can be loaded: {reason}", where=model, fix="give a Hugging Face folder") from None
    backbone = Backbone(lm)
    dense, norm = backbone.head_parts()
    head = {id(parameter) for parameter in (*dense.parameters(), *norm.parameters())}
    names = {name for name, parameter in lm.named_parameters() if id(parameter) in head}
    return backbone, not names & set(info["missing_keys"])


def _from_pretrained(model: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The masked LM in float32, and what was missing or left over among its weights."""
    loaded: tuple[Any, dict[str, Any]] = AutoModelForMaskedLM.from_pretrained(
        model, output_loading_info=True, dtype=torch.float32, **settings
    )
    return loaded


def _can_only_be_a_path(model: str) -> bool:
    """Whether a name is none of the hub's (`name`, `owner/name`), or lies in a folder that is here."""
    path = Path(model)
    return model.startswith((".", "/", "~")) or len(path.parts) > 2 or (len(path.parts) == 2 and path.parent.is_dir())


@contextmanager
def silent_library() -> Iterator[None]:
    """Keep transformers' bars and reports back: a missing vocabulary head is expected, and told by the flag."""
    verbosity, bars = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    library.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]


def new_backbone(shape: FromScratch, tokenizer: Any, max_length: int) -> Backbone:
    """A randomly started BERT of the given shape for a tokenizer."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=max_length,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Backbone(BertForMaskedLM(config))


DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def resolve_dtype(name: str) -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively: recent CUDA, CPUs with AVX512-BF16 or AMX."""
    if name == "auto":
        capable = _cuda_has_bf16() if torch.cuda.is_available() else _cpu_has_bf16()
        return torch.bfloat16 if capable else torch.float32
    return DTYPES[name]


def name_of(dtype: torch.dtype) -> str:
    """What a setting calls a precision."""
    return next(name for name, value in DTYPES.items() if value is dtype)


def _cuda_has_bf16() -> bool:
    # V100 and T4 emulate it, slower than float32.
    capable: bool = torch.cuda.is_bf16_supported(including_emulation=False)
    return capable


def _cpu_has_bf16() -> bool:
    capable: bool = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return capable
