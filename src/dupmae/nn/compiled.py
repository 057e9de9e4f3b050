"""torch.compile, part by part: a whole step breaks into many graphs, and into others for every batch size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from dupmae.nn.vocabulary import compile_losses


def compile_parts(layers: Iterable[nn.Module], **options: Any) -> None:
    """Compile layers of the encoder and the decoder, each on its own, and cross-entropy, for batches of any shape.

    Args:
        options: of torch.compile.
    """
    for layer in layers:
        layer.compile(dynamic=True, **options)
    compile_losses(**options)
