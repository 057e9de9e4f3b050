"""The training loop of every stage: the transformers Trainer, with loss terms logged by name and whole checkpoints.

A stage hands over a module, a data set with one ready batch per step, and a function that turns a
batch into named loss terms.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from dupmae import console
from dupmae.corpus.documentation import default_cache
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, read_json, write_json
from dupmae.memory import release

KEPT_CHECKPOINTS = 2
MEASURED_STEPS = 4
Terms = Callable[[Any, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Plan:
    """What the loop needs to know of a stage's settings.

    Attributes:
        out: folder for checkpoints and log.jsonl.
        groups: optimizer groups, each with `params`, `lr`, `weight_decay`.
        terms: maps (model, batch) to named scalars; `loss` is what is minimised.
    """

    out: Path
    groups: Callable[[Any], list[dict[str, Any]]]
    terms: Terms
    title: str
    warmup: float
    log_every: int
    seed: int
    save_every: int | None = None
    resume: bool = False


def parameter_groups(
    model: nn.Module, new: list[nn.Parameter], *, rate: float, new_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Split parameters four ways: loaded or new, decayed or not (vectors and scalars are not decayed)."""
    fresh = {id(parameter) for parameter in new}
    groups = []
    for is_new in (False, True):
        for decayed in (True, False):
            chosen = [p for p in model.parameters() if (id(p) in fresh) is is_new and (p.ndim > 1) is decayed]
            if chosen:
                decay = weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": new_rate if is_new else rate, "weight_decay": decay})
    return groups


class TermTrainer(Trainer):
    """Trainer over ready batches: logs every term, writes checkpoints whole, resumes bit for bit."""

    def __init__(self, model: nn.Module, data: Dataset[dict[str, Tensor]], plan: Plan, *, steps: int) -> None:
        arguments = TrainingArguments(
            output_dir=str(plan.out),
            max_steps=steps,
            per_device_train_batch_size=1,
            use_cpu=not torch.cuda.is_available(),
            optim="adamw_torch_fused",
            lr_scheduler_type="linear",
            warmup_steps=plan.warmup,
            logging_steps=plan.log_every,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            save_strategy="steps" if plan.save_every else "no",
            save_steps=plan.save_every or steps,
            seed=plan.seed,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        super().__init__(model=model, args=arguments, train_dataset=data)
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)
        self.plan = plan
        self.model_accepts_loss_kwargs = False
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, float] = {}
        self._counted = 0
        self._tokens = 0
        self._clock = time.perf_counter()

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """One item a step, in order, as the data set made it."""
        data: Any = self.train_dataset
        loader = DataLoader(data, batch_size=1, sampler=SequentialSampler(data), collate_fn=_only_item)
        prepared: DataLoader[dict[str, Tensor]] = self.accelerator.prepare(loader)
        return prepared

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over the plan's parameter groups."""
        if self.optimizer is None:
            device_fused = self.args.device.type in ("cpu", "cuda")
            self.optimizer = torch.optim.AdamW(self.plan.groups(model or self.model), fused=device_fused)
        return self.optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The weighted sum of the terms; each term is added up for the next log line."""
        terms = self.plan.terms(model, inputs)
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value.detach())
        self._counted += 1
        self._tokens += int(sum(value.sum() for name, value in inputs.items() if name.endswith("valid")))
        return (terms["loss"], terms) if return_outputs else terms["loss"]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Append one line with the mean of every term since the last line to `history` and log.jsonl."""
        if not self._counted:
            return
        now = time.perf_counter()
        line = {"step": float(self.state.global_step)}
        line |= {name: value / self._counted for name, value in self._sums.items()}
        line["learning_rate"] = logs.get("learning_rate", self._get_learning_rate())
        line["tokens_per_second"] = self._tokens / max(now - self._clock, 1e-9)
        line["step"] = int(line["step"])
        self.history.append(line)
        with (self.plan.out / "log.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        self._sums, self._counted, self._tokens, self._clock = {}, 0, 0, now
        release()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Weights with decoder, optimizer, schedule, RNG and position, in a folder that appears whole."""
        with new_folder(self.plan.out / f"checkpoint-{self.state.global_step}") as folder:
            save_model(self.accelerator.unwrap_model(model), str(folder / "model.safetensors"))
            self._save_optimizer_and_scheduler(str(folder))
            self._save_rng_state(str(folder))
            self.state.save_to_json(str(folder / "trainer_state.json"))
            write_json(folder / "terms.json", [self._sums, self._counted, self._tokens])
        saved = sorted(self.plan.out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        for old in saved[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        target: nn.Module = model or self.model  # type: ignore[assignment]
        load_model(target, str(Path(resume_from_checkpoint) / "model.safetensors"))
        self._sums, self._counted, self._tokens = read_json(Path(resume_from_checkpoint) / "terms.json")


def _only_item(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return items[0]


class _Bar(TrainerCallback):
    """Moves a progress bar with every step and shows the present loss."""

    def __init__(self, bar: console.Bar) -> None:
        self.bar = bar

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.advance()


def train(
    model: nn.Module, data: Callable[[int], Dataset[dict[str, Tensor]]], plan: Plan, *, steps: int
) -> list[dict[str, float]]:
    """Run the loop for `steps` steps and return the log lines.

    Args:
        data: makes the data set for a number of steps.

    Raises:
        DupmaeError: when the loss is not a number any more, or `resume` finds no checkpoint.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    last: str | None = get_last_checkpoint(str(plan.out)) if plan.resume else None  # type: ignore[no-untyped-call]
    if plan.resume and last is None:
        raise DupmaeError("no checkpoint to resume from", where=plan.out, fix="start without resume")
    if not plan.resume and any(plan.out.glob("checkpoint-*")):
        raise DupmaeError("holds checkpoints of an earlier run", where=plan.out, fix="resume=true, or another out")
    earlier = _earlier_lines(plan.out / "log.jsonl", last)
    trainer = TermTrainer(model, data(steps), plan, steps=steps)
    trainer.history = earlier
    with console.progress(plan.title, steps, "steps") as bar, _bare_library_log():
        if last is not None:
            bar.advance(int(Path(last).name.split("-")[1]))
        trainer.add_callback(_Bar(bar))
        trainer.train(resume_from_checkpoint=last)
        trainer.log({})
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise DupmaeError("training diverged: weights are not finite", where=plan.out, fix="lower learning_rate")
    return trainer.history


def _earlier_lines(path: Path, checkpoint: str | None) -> list[dict[str, float]]:
    """Start the log anew, or keep the lines up to the checkpoint that the run resumes from."""
    kept: list[dict[str, float]] = []
    if checkpoint is not None and path.exists():
        done = int(Path(checkpoint).name.split("-")[1])
        kept = [line for line in map(json.loads, path.read_text().splitlines()) if line["step"] <= done]
    path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return kept


@contextmanager
def _bare_library_log() -> Iterator[None]:
    """Keep the Trainer's own chatter below errors: the progress bar and the log say it."""
    from transformers.utils import logging as library

    before = library.get_verbosity()
    library.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library.set_verbosity(before)


def steps_within(
    minutes: float,
    model: nn.Module,
    data: Callable[[int], Dataset[dict[str, Tensor]]],
    plan: Plan,
    settings: Mapping[str, Any],
) -> int:
    """How many steps fit into `minutes`, by the speed of a few steps on a throw-away copy.

    The measured speed is remembered per settings and machine under the cache folder, so the same
    command run again does the same number of steps and gives the same result.
    """
    described = json.dumps([settings, torch.get_num_threads(), torch.__version__], default=str)
    key = hashlib.sha256(described.encode()).hexdigest()[:16]
    file = default_cache() / "speed.json"
    known: dict[str, float] = read_json(file) if file.exists() else {}
    if key not in known:
        known[key] = _seconds_per_step(model, data, plan)
        write_json(file, known)
    return max(1, int(minutes * 60 / known[key]))


def _seconds_per_step(model: nn.Module, data: Callable[[int], Dataset[dict[str, Tensor]]], plan: Plan) -> float:
    """Median seconds of a step on a copy of the model, after one step to warm up."""
    moments: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            moments.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder, _bare_library_log():
        scratch = replace(plan, out=Path(folder), save_every=None, resume=False)
        trainer = TermTrainer(copy.deepcopy(model), data(MEASURED_STEPS), scratch, steps=MEASURED_STEPS)
        trainer.add_callback(Clock())
        trainer.train()
    return (moments[-1] - moments[0]) / (len(moments) - 1)
