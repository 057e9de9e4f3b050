"""The vocabulary part in training against SpladePooling: `python -m benchmarks.vocabulary --json`.

Both turn the same encoder output, hidden states of passages [B, L, d], into log(1 + relu(maximum of the logits over
the tokens)) with a random BERT head of 30,522 words, and pass a gradient back to states and head. The loss is the FLOPS
regulariser: it reaches every active term of every passage, as no ranking loss does. Each runs in a process of its own,
one after another. Memory is what a step adds to what the process held before its first: resident memory at its peak,
or, on a GPU, what torch allocated. A variant that does not fit is named with its error.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from benchmarks.children import Step, child, lines, parser, run, timed
from dupmae.nn.backbone import Backbone
from dupmae.nn.precision import LowPrecision
from dupmae.nn.regularise import flops
from dupmae.nn.representation import HybridEncoder, Texts
from dupmae.retriever.backbones import resolve_dtype
from dupmae.settings import Representation

VOCABULARY = 30_522
VARIANTS = ("ours", "splade_pooling")
SIZES = (
    ("batch", 32, "passages of a step"),
    ("length", 140, "tokens of a passage"),
    ("hidden", 384, "hidden size"),
    ("steps", 5, "timed steps"),
)


def main() -> None:
    """Run every variant in a child process, or, in a child, one of them; print the figures."""
    options = parser(__doc__, SIZES, VARIANTS, "the head")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    run(options.parse_args(), _measure, _compared, _table)


def _compared(options: Namespace) -> dict[str, Any]:
    result: dict[str, Any] = {name: child("vocabulary", name, may_fail=True) for name in VARIANTS}
    ours, theirs = result.values()
    if "error" not in ours and "error" not in theirs:
        result["memory_ratio"] = ours["memory_bytes"] / theirs["memory_bytes"]
        result["time_ratio"] = ours["step_seconds"]["median"] / theirs["step_seconds"]["median"]
        result["loss_difference"] = abs(ours["loss"] - theirs["loss"]) / theirs["loss"]
    return result


def _measure(options: Namespace) -> dict[str, Any]:
    """Seconds of a step, and the memory it takes."""
    torch.manual_seed(0)
    dtype, device = resolve_dtype(options.dtype), torch.device(options.device)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=options.hidden, num_hidden_layers=1, num_attention_heads=options.hidden // 32
    )
    lm = BertForMaskedLM(config).to(device)
    # Logits of a unit's spread, as those of trained heads; a random head's are near zero.
    torch.nn.init.normal_(lm.get_output_embeddings().weight, std=options.hidden**-0.5)
    states = torch.randn(options.batch, options.length, options.hidden, device=device).to(dtype).requires_grad_()
    valid = torch.ones(options.batch, options.length, dtype=torch.bool, device=device)
    loss = (_ours if options.variant == "ours" else _splade_pooling)(lm, states, valid, dtype)
    return timed(loss, options.steps, device)


def _ours(lm: Any, states: Tensor, valid: Tensor, dtype: torch.dtype) -> Step:
    encoder = HybridEncoder(Backbone(lm), Representation(kind="bow")).to(states.device)
    # The encoder's output is given: only what comes after it is measured.
    encoder.backbone.hidden = lambda ids, valid: states  # type: ignore[method-assign]
    model, special = LowPrecision(encoder, dtype), torch.zeros_like(valid)
    texts = Texts(valid.long(), valid, special)
    return lambda: flops(model(*texts).sparse.sum(0), len(valid))


def _splade_pooling(lm: Any, states: Tensor, valid: Tensor, dtype: torch.dtype) -> Step:
    from sentence_transformers.sparse_encoder.losses import FlopsLoss
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    pooling, regulariser = SpladePooling("max").train(), FlopsLoss(None)

    def loss() -> Tensor:
        with torch.autocast(states.device.type, dtype, enabled=dtype != torch.float32):
            logits = lm.cls(states)
            found = pooling({"token_embeddings": logits, "attention_mask": valid.long()})
        value: Tensor = regulariser.compute_loss_from_embeddings(found["sentence_embedding"].float())
        return value

    return loss


def _table(result: dict[str, Any]) -> str:
    ratios = ("memory_ratio", "time_ratio", "loss_difference")
    return "\n".join([*lines(result, VARIANTS), *(f"{name:16}{result[name]:.3g}" for name in ratios if name in result)])


if __name__ == "__main__":
    main()
