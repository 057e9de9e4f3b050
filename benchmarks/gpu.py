"""Ten minutes on a GPU, one command: `python -m benchmarks.gpu --out gpu.json`. **Not yet run on a GPU.**

Stages run one after another, each within a budget of seconds, and every figure is written as soon as it is known:
what a stage does not get to, or fails at, says so. `--device cpu --scale .01` tries all of it on a CPU, in small.

- machine: versions, how fast memory is copied and matrices are multiplied
- correct: masks, losses, gradients and maxima against the CPU and against plain torch
- speed: steps of plain MLM, RetroMAE and DupMAE, eager and compiled, and one as the authors' code takes it
- profile: shares of a step's time by operation
- alternatives: kernels of attention, and cross-entropy by torch's own functions
- run: the recipe small-from-nothing for the seconds that are left, where `--data` has its texts
"""

from __future__ import annotations

import argparse
import copy
import platform
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from transformers import BertConfig, BertForMaskedLM

from dupmae.files import write_json
from dupmae.nn import cpu
from dupmae.nn.backbone import Backbone
from dupmae.nn.compiled import compile_parts
from dupmae.nn.objectives import Batch, DuplexMAE
from dupmae.nn.precision import LowPrecision
from dupmae.nn.recompute import transformer_layers
from dupmae.nn.vocabulary import linear_cross_entropy, padded_places, padded_vocabulary_max
from dupmae.settings import Masking, Objective
from dupmae.training.flops import Shape, Texts, step_flops
from tests.reference.objectives import naive_step
from tests.reference.tiny import MASK, random_batch

# Texts of a batch and tokens of a text.
SHAPES = ((32, 512), (128, 512), (1023, 84))
PROFILED = (128, 512)
VARIANTS = ("mlm", "retromae", "dupmae", "dupmae compiled", "author-like")
STEPS = 5
# Dense bf16 operations per second of the data sheet, by a part of the device's name.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12}


@dataclass
class Report:
    """What was measured so far, in the file and on the terminal."""

    path: Path
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    stage: str = ""
    ends: float = 0.0

    def add(self, name: str, figure: Any) -> None:
        """Keep a figure of the present stage."""
        self.figures.setdefault(self.stage, {})[name] = figure
        write_json(self.path, self.figures)
        print(f"{self.stage:14}{name:36}{figure}", flush=True)

    def measure(self, name: str, work: Callable[[], Any]) -> None:
        """Keep what `work` returns, or why there is nothing."""
        if time.monotonic() > self.ends:
            self.add(name, "not measured: out of time")
            return
        try:
            self.add(name, work())
        except Exception as error:
            self.add(name, f"failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}")


@dataclass(frozen=True)
class Setup:
    """Where and how large everything is."""

    device: torch.device
    scale: float
    data: Path | None

    @property
    def dtype(self) -> torch.dtype:
        """What the network runs in."""
        return torch.bfloat16

    def config(self) -> BertConfig:
        """BERT-base, or a smaller one."""
        heads = max(1, round(12 * min(1.0, self.scale * 10)))
        return BertConfig(
            vocab_size=max(1000, int(30_522 * self.scale)),
            num_hidden_layers=max(1, round(12 * min(1.0, self.scale * 10))),
            num_attention_heads=heads,
            hidden_size=64 * heads,
            intermediate_size=256 * heads,
        )

    def shape(self, rows: int, length: int) -> tuple[int, int]:
        """Texts and tokens of a batch."""
        return max(2, round(rows * min(1.0, self.scale))), max(16, round(length * min(1.0, self.scale * 10)))

    def objective(self, kind: str, **config: Any) -> DuplexMAE:
        """An objective on a random network, still on the host."""
        torch.manual_seed(0)
        settings = self.config()
        settings.update(config)  # type: ignore[no-untyped-call]
        return DuplexMAE(Backbone(BertForMaskedLM(settings)), Objective(kind=kind), Masking(), mask_id=MASK, seed=0)

    def item(self, rows: int, length: int) -> dict[str, Tensor]:
        """A batch of random texts on the host."""
        batch = random_batch("bert", [length] * rows, 0, self.config().vocab_size)
        return batch | {"step": torch.tensor(0), "rows": torch.arange(rows)}


def main() -> None:
    """Go through the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    parser.add_argument("--scale", type=float, default=1.0, help="share of every size and budget")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the figures go (gpu.json)")
    parser.add_argument("--data", type=Path, help="folder with the texts of small-from-nothing")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help="some of them")
    options = parser.parse_args()
    setup, report = Setup(torch.device(options.device), options.scale, options.data), Report(options.out)
    for name in options.stages:
        seconds, stage = STAGES[name]
        report.stage = name
        report.ends = time.monotonic() + max(20.0, seconds * options.scale)
        stage(setup, report)


def _machine(setup: Setup, report: Report) -> None:
    report.add("python", platform.python_version())
    report.add("torch", torch.__version__)
    report.add("transformers", transformers.__version__)
    name = torch.cuda.get_device_name() if setup.device.type == "cuda" else platform.processor() or "CPU"
    report.add("device", name)
    report.add("data sheet, FLOP/s", next((peak for part, peak in PEAKS.items() if part in name), None))
    size = max(256, int(8192 * setup.scale))
    for dtype in (torch.bfloat16, torch.float32):
        left = torch.randn(size, size, device=setup.device).to(dtype)
        report.measure(f"product in {dtype}, FLOP/s", lambda a=left: 2 * size**3 / min(_seconds(setup, lambda: a @ a)))
    block = torch.ones(max(2**20, int(2**30 * setup.scale)), dtype=torch.uint8, device=setup.device)
    report.measure("copy, bytes/s", lambda: 2 * block.numel() / min(_seconds(setup, block.clone)))


def _correct(setup: Setup, report: Report) -> None:
    for length in (*{setup.shape(*shape)[1] for shape in SHAPES}, 64):
        report.measure(f"masks are the CPU's, {length} tokens", lambda n=length: _same_masks(setup, n))
        report.measure(f"loss and gradients in float32, {length} tokens", lambda n=length: _gradient_error(setup, n))
    report.measure("cross-entropy against torch's", lambda: _cross_entropy_error(setup))
    report.measure("maxima against a whole product", lambda: _maxima_error(setup))


def _same_masks(setup: Setup, length: int) -> bool:
    objective, item = setup.objective("dupmae"), setup.item(8, length)
    batch = Batch(*(item[name] for name in ("input_ids", "word_starts", "special", "valid")))
    there = Batch(*(part.to(setup.device) for part in (batch.input_ids, batch.word_starts, batch.special, batch.valid)))
    ours, theirs = vars(objective.draw(batch, 3)), vars(objective.draw(there, 3))
    return all(value is None or value.equal(theirs[name].cpu()) for name, value in ours.items())


def _gradient_error(setup: Setup, length: int) -> float:
    """Largest difference of the losses and of any gradient's norm, as a share."""
    here = setup.objective("dupmae", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    there = copy.deepcopy(here).to(setup.device)
    item = here.add_draws(setup.item(4, length))
    losses = []
    for objective in (here, there):
        loss = objective(*objective.arguments(_moved(item, _device_of(objective))))["loss"]
        loss.backward()
        losses.append(loss.item())
    errors = [abs(losses[0] - losses[1]) / abs(losses[0])]
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        if one.grad is not None and other.grad is not None and one.grad.norm() > 0:
            errors.append(float((one.grad - other.grad.cpu()).norm() / one.grad.norm()))
    return max(errors)


def _head(setup: Setup) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """States [N, d], the vocabulary's weight and bias, labels [N]."""
    config = setup.config()
    count = max(64, int(8192 * setup.scale))
    sizes = ((count, config.hidden_size), (config.vocab_size, config.hidden_size), (config.vocab_size,))
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(size, generator=generator).to(setup.device).requires_grad_() for size in sizes]
    labels = torch.randint(0, config.vocab_size, (count,), generator=generator).to(setup.device)
    return (*parts, labels)  # type: ignore[return-value]


def _cross_entropy_error(setup: Setup) -> float:
    hidden, weight, bias, labels = _head(setup)
    ours, _ = linear_cross_entropy(hidden, weight, bias, labels)
    theirs = F.cross_entropy(hidden @ weight.T + bias, labels)
    return _largest_error(ours, theirs, [hidden, weight, bias])


def _maxima_error(setup: Setup) -> float:
    hidden, weight, bias, _ = _head(setup)
    kept = torch.rand(len(hidden) // 16, 16, device=setup.device) < 0.7
    kept[:, 0] = True
    ours = padded_vocabulary_max(hidden, weight, bias, padded_places(kept))
    logits = (hidden @ weight.T + bias)[: kept.numel()].view(*kept.shape, -1)
    theirs = logits.masked_fill(~kept[..., None], -torch.inf).amax(1)
    return _largest_error(ours.square().sum(), theirs.square().sum(), [hidden, weight, bias])


def _largest_error(ours: Tensor, theirs: Tensor, inputs: list[Tensor]) -> float:
    pairs = zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True)
    errors = [float((one - other).norm() / other.norm()) for one, other in pairs]
    return max(abs(float(ours.detach() / theirs.detach()) - 1), *errors)


def _speed(setup: Setup, report: Report) -> None:
    for shape in SHAPES:
        for variant in VARIANTS:
            rows, length = setup.shape(*shape)
            step = partial(_step, setup, report, variant, rows, length)
            report.measure(f"{variant}, {rows} x {length}", step)


def _step(setup: Setup, report: Report, variant: str, rows: int, length: int) -> dict[str, Any]:
    """Seconds of a step, texts a second, share of both peaks, most memory."""
    kind = variant.partition(" ")[0] if variant != "author-like" else "dupmae"
    with _fresh_memory(setup):
        step = _stepper(setup, variant, kind, rows, length)
        seconds = median(_seconds(setup, step))
        memory = torch.cuda.max_memory_allocated() if setup.device.type == "cuda" else None
    work = step_flops(Shape.of(setup.config()), Texts.of([length] * rows), Objective(kind=kind), Masking())
    known = report.figures.get("machine", {})
    sheet, product = known.get("data sheet, FLOP/s"), known.get(f"product in {setup.dtype}, FLOP/s")
    shares = {"of the data sheet": sheet, "of the measured product": product}
    return {
        "seconds": seconds,
        "texts_per_second": rows / seconds,
        **{name: work / seconds / peak if isinstance(peak, float) else None for name, peak in shares.items()},
        "memory_bytes": memory,
    }


def _stepper(setup: Setup, variant: str, kind: str, rows: int, length: int) -> Callable[[], None]:
    if variant == "author-like":
        return _author_step(setup, rows, length)
    objective = setup.objective(kind)
    cpu.prepare(objective)
    objective.to(setup.device).train()
    if variant.endswith("compiled"):
        decoder = [] if objective.decoder is None else [objective.decoder]
        # Generating code for a CPU takes minutes and shows nothing.
        backend = {} if setup.device.type == "cuda" else {"backend": "eager"}
        compile_parts([*transformer_layers(objective.backbone), *decoder], **backend)
    model, optimizer = LowPrecision(objective, setup.dtype), _optimizer(objective)
    # Batches are made while the step before them is computed.
    item = objective.add_draws(setup.item(rows, length))

    def step() -> None:
        model(*objective.arguments(_moved(item, setup.device)))["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _author_step(setup: Setup, rows: int, length: int) -> Callable[[], None]:
    """As the authors' code works: eager attention, fp16 with a loss scale, masks by Python, all positions' logits."""
    objective = setup.objective("dupmae", attn_implementation="eager").to(setup.device).train()
    optimizer, scaler = _optimizer(objective), torch.amp.GradScaler(setup.device.type)
    item, source = setup.item(rows, length), random.Random(0)
    dtype = torch.float16 if setup.device.type == "cuda" else torch.bfloat16

    def step() -> None:
        batch = _moved({name: item[name] for name in ("input_ids", "word_starts", "special", "valid")}, setup.device)
        with torch.autocast(setup.device.type, dtype):
            lm, decoder = objective.backbone.lm, objective.decoder
            loss = naive_step(lm, decoder, batch, kind="dupmae", mask_id=MASK, source=source)
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def _optimizer(objective: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)


def _profile(setup: Setup, report: Report) -> None:
    rows, length = setup.shape(*PROFILED)
    for variant in ("mlm", "dupmae"):
        report.measure(f"{variant}, {rows} x {length}", lambda v=variant: _shares(setup, v, rows, length))


def _shares(setup: Setup, variant: str, rows: int, length: int) -> dict[str, float]:
    step = _stepper(setup, variant, variant, rows, length)
    step()
    on_gpu = setup.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as seen:
        step()
        _wait(setup)
    name = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    times = {event.key: getattr(event, name) for event in seen.key_averages()}
    total = sum(times.values()) or 1.0
    return {key: times[key] / total for key in sorted(times, key=lambda key: -times[key])[:15]}


def _alternatives(setup: Setup, report: Report) -> None:
    backends = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION}
    backends |= {"cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
    heads = setup.config().num_attention_heads
    for rows, length in (setup.shape(*shape) for shape in SHAPES):
        for masked in (False, True):
            for name, backend in backends.items():
                report.measure(
                    f"{name}{', masked' * masked}, {rows} x {length}, s",
                    lambda b=backend, m=masked, r=rows, n=length: _attention(setup, b, r, heads, n, masked=m),
                )
    hidden, weight, bias, labels = (part.detach() for part in _head(setup))
    low = [part.to(setup.dtype).requires_grad_() for part in (hidden, weight, bias)]
    kinds: dict[str, Callable[[], Tensor]] = {
        "ours": lambda: linear_cross_entropy(*low, labels)[0],
        "all logits": lambda: F.cross_entropy((low[0] @ low[1].T + low[2]).float(), labels),
    }
    theirs = getattr(F, "linear_cross_entropy", None)
    if theirs is not None:
        kinds["torch's chunked"] = lambda: theirs(low[0], low[1], labels, linear_bias=low[2])
    for name, loss in kinds.items():
        report.measure(f"cross-entropy, {name}, s", lambda f=loss: median(_seconds(setup, lambda: f().backward())))


def _attention(setup: Setup, backend: SDPBackend, rows: int, heads: int, length: int, *, masked: bool) -> float:
    parts = torch.randn(3, rows, heads, length, 64, device=setup.device, dtype=setup.dtype).requires_grad_()
    visible = None
    if masked:
        visible = torch.rand(rows, 1, length, length, device=setup.device) < 0.5
        visible[..., 0] = True

    def step() -> None:
        with sdpa_kernel(backend):
            done = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=visible, dropout_p=0.1)
        done.backward(torch.ones_like(done))

    return median(_seconds(setup, step))


def _run(setup: Setup, report: Report) -> None:
    if setup.data is None:
        report.add("small-from-nothing", "not measured: no --data")
        return
    out = report.path.with_suffix("")
    command = [sys.executable, "-m", "dupmae", "study", "recipes/small-from-nothing.yaml", "--data", str(setup.data)]
    command += [f"out={out}", f"work={out}/work"]
    left = max(1.0, report.ends - time.monotonic())
    done = subprocess.Popen(command)
    try:
        code: int | str = done.wait(left)
    except subprocess.TimeoutExpired:
        # It leaves a checkpoint, and the same command goes on with it.
        done.terminate()
        code = f"stopped with {done.wait()} after {left:.0f} s"
    report.add("small-from-nothing", {"ended": code, "folder": str(out)})


STAGES: dict[str, tuple[float, Callable[[Setup, Report], None]]] = {
    "machine": (20, _machine),
    "correct": (60, _correct),
    "speed": (80, _speed),
    "profile": (40, _profile),
    "alternatives": (30, _alternatives),
    "run": (330, _run),
}


def _seconds(setup: Setup, work: Callable[[], Any]) -> list[float]:
    """Seconds of each call, after two to warm up."""
    seconds = []
    for number in range(STEPS + 2):
        _wait(setup)
        start = time.perf_counter()
        work()
        _wait(setup)
        if number > 1:
            seconds.append(time.perf_counter() - start)
    return seconds


def _wait(setup: Setup) -> None:
    if setup.device.type == "cuda":
        torch.cuda.synchronize()


@contextmanager
def _fresh_memory(setup: Setup) -> Iterator[None]:
    if setup.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield


def _moved(item: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device, non_blocking=True) if value.dim() else value for name, value in item.items()}


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


if __name__ == "__main__":
    main()
