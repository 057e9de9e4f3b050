"""What each kernel for CPUs earns: `python -m benchmarks.ablation --json`.

Steps of a network with every kernel and of networks without one of them take turns in one process. A kernel's share
is the median, over the rounds, of the time that a step takes longer without it: a DupMAE training step without
`attention` or `precision` (the network cast once, not torch's autocast), and a batch encoded without `attention`.
Seconds are the processor's, by default of one thread: what else the machine does counts little.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

from benchmarks.children import spread
from dupmae.memory import keep_pages
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone, Output
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.settings import Masking, Objective
from tests.reference.tiny import MASK, random_batch

VOCABULARY = 30_522
LOW = torch.bfloat16
Step = Callable[[int], None]


class _Cast(Backbone):
    """A backbone under autocast, whose vocabulary head gives the losses what they multiply in the low precision."""

    def transform(self, hidden: Tensor) -> Tensor:
        return super().transform(hidden).to(LOW)

    @property
    def output(self) -> Output:
        return Output(*(part.to(LOW) for part in super().output))


def main() -> None:
    """Time the steps in turns, print what each kernel earns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--layers", type=int, default=6, help="transformer layers")
    parser.add_argument("--hidden", type=int, default=384, help="hidden size; a head has 32 entries")
    parser.add_argument("--length", type=int, default=150, help="tokens of a text")
    parser.add_argument("--threads", type=int, default=1, help="threads")
    parser.add_argument("--batch", type=int, default=8, help="texts of a step")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each network")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    keep_pages()
    training = _in_turns(_training(options), options.rounds)
    encoding = _in_turns(_encoding(options), options.rounds)
    result = {
        "settings": {name: value for name, value in vars(options).items() if name != "json"},
        "threads": torch.get_num_threads(),
        "training_step_seconds": spread(training["nothing"]),
        "encoding_step_seconds": spread(encoding["nothing"]),
        "training_longer_without": _longer(training),
        "encoding_longer_without": _longer(encoding),
    }
    print(json.dumps(result) if options.json else _table(result))


def _training(options: argparse.Namespace) -> dict[str, Step]:
    start = DuplexMAE(_backbone(options), Objective(kind="dupmae"), Masking(), mask_id=MASK, seed=0)
    batch = Batch(**random_batch("bert", [options.length] * options.batch, 0, VOCABULARY))

    def step(without: str) -> Step:
        objective = copy.deepcopy(start)
        if without != "attention":
            cpu.prepare(objective)
        if without == "precision":
            objective.backbone.__class__ = _Cast
        optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
        model: nn.Module = objective if without == "precision" else LowPrecision(objective, LOW)

        def work(number: int) -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", LOW, enabled=without == "precision"):
                loss = model(batch, objective.draw(batch, number))["loss"]
            loss.backward()
            optimizer.step()

        return work

    return {without: step(without) for without in ("nothing", "attention", "precision")}


def _encoding(options: argparse.Namespace) -> dict[str, Step]:
    batch = random_batch("bert", [options.length] * options.batch, 0, VOCABULARY)
    plain = _backbone(options).to(LOW).eval()
    prepared = copy.deepcopy(plain)
    cpu.prepare(prepared)

    def step(backbone: Backbone) -> Step:
        @torch.inference_mode()
        def work(number: int) -> None:
            backbone.hidden(batch["input_ids"], batch["valid"])

        return work

    return {"nothing": step(prepared), "attention": step(plain)}


def _backbone(options: argparse.Namespace) -> Backbone:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.hidden // 32,
        intermediate_size=4 * options.hidden,
        max_position_embeddings=max(512, options.length),
    )
    return Backbone(BertForMaskedLM(config))


def _in_turns(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.process_time()
            step(number)
            seconds[name].append(time.process_time() - start)
    return {name: values[1:] for name, values in seconds.items()}


def _longer(seconds: dict[str, list[float]]) -> dict[str, float]:
    """By how much a step is longer without each kernel, as a share of the step with all of them."""
    everything = seconds["nothing"]
    return {
        name: median(without / with_it for without, with_it in zip(values, everything, strict=True)) - 1
        for name, values in seconds.items()
        if name != "nothing"
    }


def _table(result: dict[str, Any]) -> str:
    parts = ("training", "encoding")
    shares = [(part, *item) for part in parts for item in result[f"{part}_longer_without"].items()]
    return "\n".join(f"{part} without {name:<12}{share:+8.1%}" for part, name, share in shares)


if __name__ == "__main__":
    main()
