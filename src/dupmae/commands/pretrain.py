"""The commands from raw text to an encoder: prepare, pretrain, plan, report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae.commands.base import (
    Command,
    Outcome,
    command_line,
    followed,
    index_line,
    last,
    losses,
    recipe_word,
    written,
)
from dupmae.files import LOG, TRAINING

if TYPE_CHECKING:
    from dupmae.settings import Plan, Prepare, Pretrain, Report
    from dupmae.shards.folder import Manifest
    from dupmae.stages.plan import Planned
    from dupmae.stages.pretrain import Pretrained

# GPUs of a common node.
NODE = 8
RENDEZVOUS = "--rdzv-backend c10d --rdzv-endpoint HOST:29500 --rdzv-id dupmae"


def prepare(settings: Prepare, done: Manifest) -> Outcome:
    """Raw text to shards."""
    counts = {"records": done.records, "tokens": done.tokens, "dropped": done.dropped, "shards": len(done.shards)}
    note = f"{done.records:,} records, {done.tokens:,} tokens; {done.dropped:,} texts were too short"
    out = settings.out.with_name("pretraining")
    model = ("--model", settings.tokenizer) if _is_model(settings.tokenizer) else ()
    after = command_line("pretrain", "--data", settings.out, *model, "--out", out, "minutes=8")
    return written({"out": str(settings.out), **counts}, settings.out, {"": note}, after)


def _is_model(tokenizer: str | None) -> bool:
    """Whether what the tokenizer was taken from is a model, too: a folder with a configuration, or a hub name."""
    if tokenizer is None:
        return False
    return (Path(tokenizer) / "config.json").exists() or not Path(tokenizer).exists()


def pretrain(settings: Pretrain, done: Pretrained) -> Outcome:
    """Shards to an encoder."""
    pairs = "PAIRS" if settings.contrastive is None else settings.contrastive.data
    after = _finetune_line(done.encoder, pairs)
    result = {"encoder": str(done.encoder), "steps": done.steps, "log": str(settings.out / LOG)}
    files = {"encoder": f"after {done.steps:,} steps{losses(done.log)}", LOG: "every loss term"}
    return written({**result, "last": last(done.log)}, settings.out, files, after)


def _finetune_line(encoder: Path, pairs: object) -> str:
    """The command that makes a retriever, beside the run, of the run's encoder."""
    retriever = encoder.parent.with_name("retriever")
    return command_line("finetune", "--model", encoder, "--data", pairs, "--out", retriever, "minutes=2")


def plan(settings: Plan, planned: Planned, recipe: Path | None) -> Outcome:
    """Time and cost of a pre-training recipe."""
    result = {**asdict(planned), "flops": planned.flops, "gpu": settings.gpu, "count": settings.count}
    shares = ", ".join(f"{name.replace('_', ' ')} {part / planned.flops:.0%}" for name, part in planned.parts.items())
    cost = "not reckoned: give price=PRICE, of one for an hour"
    if planned.cost is not None:
        cost = f"{planned.cost:,.2f} at {settings.price:g} an hour each"
    rows = {
        "text": f"{planned.tokens:.3g} tokens in {planned.steps:,} steps of {settings.batch_tokens:,}",
        "work": f"{planned.flops:.3g} FLOPs, counted forward and backward: {shares}",
        "machine": f"{settings.count} x {settings.gpu} of {planned.peak / 1e12:,.3g} TFLOP/s ({planned.peak_source})",
        "utilisation": f"{planned.utilisation:.1%} of that ({planned.utilisation_source})",
        "time": f"{planned.hours:,.1f} hours, {planned.device_hours:,.1f} {settings.gpu} hours",
        "cost": cost,
    }
    if planned.utilisation_source == "assumed":
        rows["note"] = "nothing was measured on a GPU yet: utilisation=SHARE or like=RUN replaces the assumption"
    text = "\n".join(f"{name:<12} {row}" for name, row in rows.items())
    after = command_line("pretrain", "--recipe", recipe_word(recipe))
    if settings.count > 1:
        nodes = -(-settings.count // NODE)
        # As docs/scaling-out.md has it: nodes find each other at one of them.
        meeting = f"--nnodes {nodes} --nproc-per-node {-(-settings.count // nodes)} {RENDEZVOUS}"
        after = f"torchrun {meeting if nodes > 1 else f'--nproc-per-node {settings.count}'} -m {after}"
    return followed(result, text, after)


def report(settings: Report, drawn: dict[str, Any]) -> Outcome:
    """The curves of a run."""
    encoder = settings.run / "encoder"
    after = command_line("pretrain", "--recipe", "RECIPE", "--out", settings.run, "--resume")
    tuned = settings.run.with_name(settings.run.name.removesuffix(TRAINING))
    if tuned != settings.run and tuned.is_dir():
        after = index_line(tuned, "CORPUS")
    elif encoder.is_dir():
        after = _finetune_line(encoder, "PAIRS")
    files = {
        Path(drawn["report"]).name: f"{drawn['curves']} curves over {drawn['steps']:,} steps",
        Path(drawn["picture"]).name: "the same as a picture",
    }
    return written(drawn, settings.run, files, after)


COMMANDS = (
    Command(
        "prepare",
        "raw text to tokenised shards",
        "prepare",
        prepare,
        words=("inputs",),
        example="texts.jsonl --out shards",
    ),
    Command("pretrain", "shards to an encoder", "pretrain", pretrain),
    Command(
        "plan",
        "time and cost of a pre-training recipe",
        "plan",
        plan,
        words=("recipe",),
        example="retromae-msmarco --gpu h100 --count 8",
    ),
    Command("report", "curves of a training run", "report", report, words=("run",), example="pretraining"),
)
