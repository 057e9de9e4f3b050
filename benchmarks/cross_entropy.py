"""Cross-entropy over the vocabulary against torch's: `python -m benchmarks.cross_entropy --json`.

The states of the decoder's positions against the tied output embeddings of 30,522 words, forward and backward: ours,
torch's chunked `linear_cross_entropy` at its own choice of chunks, and the plain product with torch's cross-entropy.
Each runs in a process of its own, one after another. Memory is what a step adds.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.children import Step, child, lines, parser, run, timed
from dupmae.nn.vocabulary import linear_cross_entropy
from dupmae.retriever.backbones import device, resolve_dtype

VOCABULARY = 30_522
VARIANTS = ("ours", "chunked", "plain")
SIZES = (
    ("positions", 2368, "labelled positions of a step"),
    ("hidden", 384, "hidden size"),
    ("steps", 7, "timed steps"),
)


def main() -> None:
    """Run every variant in a child process, or, in a child, one of them; print the figures."""
    run(parser(__doc__, SIZES, VARIANTS, "states and embeddings").parse_args(), _measure, _compared, _table)


def _compared(options: Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {name: child("cross_entropy", name) for name in VARIANTS}
    ours, *others = result.values()
    for name, other in zip(VARIANTS[1:], others, strict=True):
        result[f"ratio_to_{name}"] = other["step_seconds"]["median"] / ours["step_seconds"]["median"]
        result[f"memory_ratio_to_{name}"] = ours["memory_bytes"] / other["memory_bytes"]
        result[f"loss_difference_to_{name}"] = abs(ours["loss"] - other["loss"]) / other["loss"]
    return result


def _measure(options: Namespace) -> dict[str, Any]:
    """Seconds of a step, and the memory it takes."""
    torch.manual_seed(0)
    shapes = (options.positions, options.hidden), (VOCABULARY, options.hidden), (VOCABULARY,)
    states, weight, bias = (torch.randn(shape).to(device(), resolve_dtype(options.dtype)) for shape in shapes)
    inputs = [states.requires_grad_(), weight.mul_(options.hidden**-0.5).requires_grad_(), bias.requires_grad_()]
    labels = torch.randint(0, VOCABULARY, (options.positions,)).to(device())
    return timed(_loss(options.variant, inputs, labels), options.steps, device())


def _loss(variant: str, inputs: list[Tensor], labels: Tensor) -> Step:
    states, weight, bias = inputs
    if variant == "ours":
        return lambda: linear_cross_entropy(states, weight, bias, labels)[0]
    if variant == "plain":
        return lambda: F.cross_entropy(F.linear(states, weight, bias), labels)
    chunks = nn.LinearCrossEntropyOptions()
    return lambda: F.linear_cross_entropy(states, weight, labels, linear_bias=bias, options=chunks)


def _table(result: dict[str, Any]) -> str:
    ratios = [name for name in result if "_to_" in name]
    return "\n".join([*lines(result, VARIANTS), *(f"{name:28}{result[name]:.3g}" for name in ratios)])


if __name__ == "__main__":
    main()
