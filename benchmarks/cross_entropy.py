"""Cross-entropy over the vocabulary against torch's: `python -m benchmarks.cross_entropy --json`.

The states of the decoder's positions against the tied output embeddings of 30,522 words, forward and backward: ours,
torch's chunked `linear_cross_entropy` at its own choice of chunks, and the plain product with torch's cross-entropy.
Each runs in a process of its own, one after another. Memory is what a step adds.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.children import Step, child, lines, timed
from dupmae.models import device, resolve_dtype
from dupmae.nn.vocabulary import linear_cross_entropy

VOCABULARY = 30_522
VARIANTS = ("ours", "chunked", "plain")


def main() -> None:
    """Run every variant in a child process, or, in a child, one of them; print the figures."""
    options = _options()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    if options.variant is not None:
        print(json.dumps(_measure(options)))
        return
    apart = ("variant", "json", "threads")
    result: dict[str, Any] = {
        "settings": {name: value for name, value in vars(options).items() if name not in apart},
        "threads": torch.get_num_threads(),
        **{name: child("cross_entropy", name) for name in VARIANTS},
    }
    ours, *others = (result[name] for name in VARIANTS)
    for name, other in zip(VARIANTS[1:], others, strict=True):
        result[f"ratio_to_{name}"] = other["step_seconds"]["median"] / ours["step_seconds"]["median"]
        result[f"memory_ratio_to_{name}"] = ours["memory_bytes"] / other["memory_bytes"]
        result[f"loss_difference_to_{name}"] = abs(ours["loss"] - other["loss"]) / other["loss"]
    print(json.dumps(result) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    for name, default, meaning in (
        ("positions", 2368, "labelled positions of a step"),
        ("hidden", 384, "hidden size"),
        ("steps", 7, "timed steps"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=meaning)
    parser.add_argument("--threads", type=int, help="threads (torch's own choice when not given)")
    parser.add_argument("--dtype", choices=["auto", "bf16", "fp32"], default="auto", help="of states and embeddings")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--variant", choices=VARIANTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(options: argparse.Namespace) -> dict[str, Any]:
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
