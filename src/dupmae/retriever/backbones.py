"""Opening models, and where and in which precision they run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForMaskedLM, BertConfig, BertForMaskedLM, PreTrainedConfig
from transformers.utils import logging as library

from dupmae.errors import DupmaeError
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone, family_of
from dupmae.settings import FromScratch
from dupmae.settings.models import model_folder


def device() -> torch.device:
    """CUDA where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def open_backbone(model: str, *, whole: bool = False) -> tuple[Backbone, bool]:
    """Load a masked LM or plain encoder; the flag says whether it brought its own vocabulary head.

    Args:
        whole: whether the vocabulary head has to be there too, as in a retriever.

    Raises:
        DupmaeError: when nothing loadable is there, a model of a family that is not supported, or weights that are
            not those of the configuration.
    """
    model = model_folder(model)
    with loading(model):
        config = PreTrainedConfig.get_config_dict(model)[0]
        if any(isinstance(value, float) and not math.isfinite(value) for value in config.values()):
            raise ValueError("config.json has a number that is not finite")
        if "model_type" in config:
            family_of(config["model_type"])
        lm, info = _from_pretrained(model)
        if any("lm_predictions.lm_head" in name for name in info["unexpected_keys"]):
            # Published DeBERTa-v2 and v3 carry the newer head, while their configurations are silent about it.
            lm, info = _from_pretrained(model, legacy=False)
    check_weights(lm, info, model, whole=whole)
    backbone = Backbone(lm)
    cpu.prepare(backbone)
    dense, norm = backbone.head_parts()
    head = {id(parameter) for parameter in (*dense.parameters(), *norm.parameters())}
    names = {name for name, parameter in lm.named_parameters() if id(parameter) in head}
    return backbone, not names & set(info["missing_keys"])


@contextmanager
def loading(model: str) -> Iterator[None]:
    """Report in one line whatever the library raises for a model that it cannot load."""
    try:
        with silent_library():
            yield
    except DupmaeError:
        raise
    except Exception as error:
        # A damaged configuration fails anywhere in the library, with any kind of error.
        reason = str(error).strip().partition("\n")[0]
        if not isinstance(error, OSError | ValueError | RuntimeError | SafetensorError):
            reason = f"{type(error).__name__} {reason}"
        fix = "give a Hugging Face folder with a whole config.json and its weights"
        raise DupmaeError(f"no model can be loaded: {reason}", where=model, fix=fix) from None


def check_weights(lm: Any, info: Mapping[str, Any], model: str, *, whole: bool = False) -> None:
    """Refuse weights that are not the configuration's: the library fills gaps with random numbers and says nothing.

    Args:
        info: `missing_keys` and `unexpected_keys`, as the library's loading gives them.
        whole: whether a missing head is refused, too; extra weights outside the encoder (a pooler, another head)
            never are.

    Raises:
        DupmaeError: for missing or extra weights of the encoder, and for values that are not finite.
    """
    parts = {name for name, _ in lm.base_model.named_children()} - {"pooler"}

    def of_encoder(name: str) -> bool:
        return name.removeprefix(f"{lm.base_model_prefix}.").partition(".")[0] in parts

    missing = sorted(name for name in info["missing_keys"] if whole or of_encoder(name))
    if missing:
        problem = f"its weights lack {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
        raise DupmaeError(problem, where=model, fix="give the weights that belong to its config.json")
    extra = sorted(name for name in info["unexpected_keys"] if of_encoder(name))
    if extra:
        problem = f"its weights have {extra[0]}, which config.json does not"
        raise DupmaeError(problem, where=model, fix="give the config.json that belongs to the weights")
    bad = next((name for name, value in lm.named_parameters() if not value.isfinite().all()), None)
    if bad is not None:
        raise DupmaeError(f"{bad} is not finite", where=model, fix="give weights of a training that did not diverge")


def _from_pretrained(model: str, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """The masked LM in float32, and what was missing or left over among its weights."""
    loaded: tuple[Any, dict[str, Any]] = AutoModelForMaskedLM.from_pretrained(
        # Left open, the library asks on a terminal whether to run the code of a folder.
        model,
        output_loading_info=True,
        dtype=torch.float32,
        trust_remote_code=False,
        **settings,
    )
    return loaded


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
    backbone = Backbone(BertForMaskedLM(config))
    cpu.prepare(backbone)
    return backbone


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
