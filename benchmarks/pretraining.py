"""A pre-training step against the naive one and against plain MLM: `python -m benchmarks.pretraining --json`.

A step draws masks, runs forward and backward and updates all weights of a random BERT. The naive step
(`tests.reference.objectives.naive_step`) builds masks by Python loops and logits for every position of every term,
under autocast when the dtype is bf16, with the C library's allocator as it comes or set as ours. Each runs in a process
of its own, one after another, so that the peak of memory is its own: resident memory, libraries included, or on a GPU
what torch allocated there. It runs on the device that training would take. Floating-point operations are those of the
matrix products that our step executes; utilisation divides their rate by that of one large product in the same process.
"""

from __future__ import annotations

import random
import time
from argparse import Namespace
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM

from benchmarks.children import child, parser, peak_memory, run, spread
from dupmae.memory import keep_pages
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.retriever.backbones import device, resolve_dtype
from dupmae.settings import Masking, Objective
from tests.reference.objectives import naive_step
from tests.reference.tiny import MASK, random_batch

VARIANTS = ("ours", "naive", "mlm")
SIZES = (
    ("layers", 6, "transformer layers"),
    ("hidden", 384, "hidden size"),
    ("heads", 12, "attention heads"),
    ("length", 150, "tokens of a text"),
    ("batch", 16, "texts of a step"),
    ("vocabulary", 30_522, "entries of the vocabulary"),
    ("steps", 7, "timed steps"),
)
# Rows of the matrices whose product is the measure of utilisation.
SIZE = {"cpu": 2048, "cuda": 8192}
# Operations that a profile names.
PROFILED = 10


def main() -> None:
    """Run every variant in a child process, or, in a child, one of them; print the figures."""
    options = parser(__doc__, SIZES, VARIANTS, "the network")
    options.add_argument("--objective", choices=["mlm", "retromae", "dupmae"], default="dupmae", help="objective")
    options.add_argument("--naive-allocator", choices=["stock", "ours"], default="stock", help="of the naive step")
    options.add_argument("--alone", action="store_true", help="measure this step only, not those it is compared with")
    options.add_argument("--profile", action="store_true", help="also say which operations take what share of our step")
    run(options.parse_args(), _measure, _compared, _table)


def _compared(options: Namespace) -> dict[str, Any]:
    ours = child("pretraining", "ours")
    result = {**ours, "tokens_per_second": options.batch * options.length / ours["step_seconds"]["median"]}
    if options.alone:
        return result
    naive, mlm = child("pretraining", "naive"), child("pretraining", "mlm")
    return {
        **result,
        "reference_step_seconds": naive["step_seconds"],
        "reference_peak_memory_bytes": naive["peak_memory_bytes"],
        "mlm_step_seconds": mlm["step_seconds"],
        "mlm_peak_memory_bytes": mlm["peak_memory_bytes"],
        "ratio_to_reference": naive["step_seconds"]["median"] / ours["step_seconds"]["median"],
        "memory_ratio_to_reference": ours["peak_memory_bytes"] / naive["peak_memory_bytes"],
        "ratio_to_mlm": mlm["step_seconds"]["median"] / ours["step_seconds"]["median"],
    }


def _measure(options: Namespace) -> dict[str, Any]:
    """Step times and peak memory of one variant; for ours also operations and utilisation."""
    torch.manual_seed(0)
    if options.variant != "naive" or options.naive_allocator == "ours":
        keep_pages()
    dtype = resolve_dtype(options.dtype)
    config = BertConfig(
        vocab_size=options.vocabulary,
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=4 * options.hidden,
        max_position_embeddings=max(512, options.length),
    )
    kind = "mlm" if options.variant == "mlm" else options.objective
    objective = DuplexMAE(Backbone(BertForMaskedLM(config)), Objective(kind=kind), Masking(), mask_id=MASK, seed=0)
    if options.variant != "naive":
        cpu.prepare(objective)
    objective.to(device())
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    batch = random_batch("bert", [options.length] * options.batch, 0, options.vocabulary)
    batch = {name: value.to(device()) for name, value in batch.items()}
    loss = (_naive_loss if options.variant == "naive" else _our_loss)(objective, batch, dtype)

    def step(number: int) -> None:
        optimizer.zero_grad()
        loss(number).backward()
        optimizer.step()

    seconds = _seconds(step, options.steps)
    figures = {"step_seconds": spread(seconds), "peak_memory_bytes": peak_memory(device())}
    if options.variant != "ours":
        return figures
    if options.profile:
        figures["profile"] = _profile(step)
    # Torch's counter does not know the fused attention of CPUs, so this step spells attention out.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        step(0)
    flops, top = counter.get_total_flops(), _matmul_rate(dtype)
    utilisation = flops / median(seconds) / top
    return {**figures, "flops": flops, "matmul_flops_per_second": top, "utilisation": utilisation}


def _profile(step: Callable[[int], None]) -> dict[str, float]:
    """Shares of a step's time by operation, calls from within others left out; the largest first."""
    on_gpu = device().type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        step(0)
        step(1)
        _wait()
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = {event.key: getattr(event, name) for event in seen.key_averages()}
    total = sum(times.values())
    largest = sorted(times, key=lambda name: -times[name])[:PROFILED]
    return {name: times[name] / total for name in largest}


def _our_loss(objective: DuplexMAE, batch: dict[str, Tensor], dtype: torch.dtype) -> Callable[[int], Tensor]:
    given, model = Batch(**batch), LowPrecision(objective, dtype)

    def loss(step: int) -> Tensor:
        terms: dict[str, Tensor] = model(given, objective.draw(given, step))
        return terms["loss"]

    return loss


def _naive_loss(objective: DuplexMAE, batch: dict[str, Tensor], dtype: torch.dtype) -> Callable[[int], Tensor]:
    source, lm, decoder = random.Random(0), objective.backbone.lm, objective.decoder

    def loss(step: int) -> Tensor:
        with torch.autocast(device().type, dtype, enabled=dtype != torch.float32):
            return naive_step(lm, decoder, batch, kind=objective.objective.kind, mask_id=MASK, source=source)

    return loss


def _seconds(work: Callable[[int], None], repeats: int) -> list[float]:
    """Seconds of each call, after two to warm up."""
    work(0)
    work(1)
    _wait()
    moments = [time.perf_counter()]
    for number in range(repeats):
        work(number)
        _wait()
        moments.append(time.perf_counter())
    return [after - before for before, after in pairwise(moments)]


def _wait() -> None:
    """Until the device has done what it was given."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def _matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of the fastest of ten products of square matrices."""
    size = SIZE[device().type]
    left, right = torch.randn(2, size, size).to(device(), dtype)
    return float(2 * size**3 / min(_seconds(lambda _: torch.mm(left, right), 10)))


def _table(result: dict[str, Any]) -> str:
    lines = []
    for name, value in result.items():
        shown = value
        if name.endswith("step_seconds"):
            shown = "{min:.3f} / {median:.3f} / {max:.3f}  (min / median / max)".format(**value)
        elif isinstance(value, float):
            shown = f"{value:,.3f}"
        lines.append(f"{name:30}{shown}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
