"""The commands from an encoder to a retriever, and from one retriever to a better one with a teacher's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands.base import Command, Outcome, check_folder, command_line, last, losses, metric_rows, written

if TYPE_CHECKING:
    from dupmae import recipe
    from dupmae.stages.finetune import Finetuned


def finetune(settings: recipe.Finetune) -> Outcome:
    """An encoder and pairs to a retriever."""
    check_folder(settings.out, replaced=True)
    from dupmae.stages.finetune import finetune as run

    corpus = settings.data if settings.data.is_dir() else Path("CORPUS")
    return _retriever(run(settings), corpus, settings.out)


def mine(settings: recipe.Mine) -> Outcome:
    """Training data to hard negatives."""
    from dupmae.stages.mine import mine as run

    done = run(settings)
    after = command_line("teach", "--data", settings.data, "--mined", done.file, "--model", "MODEL", "--out", "teacher")
    result = {"file": str(done.file), "queries": done.queries, "negatives": done.negatives, "without": done.without}
    told = f"{done.negatives:,} negatives of {done.queries:,} queries, {done.without:,} queries have none"
    return written(result, done.file, {"": told}, after)


def teach(settings: recipe.Teach) -> Outcome:
    """Hard negatives to a cross-encoder and its scores."""
    from dupmae.stages.teach import teach as run

    done = run(settings)
    retriever = settings.out.with_name("retriever")
    words = ("--retriever", retriever, "--data", settings.data, "--mined", settings.mined, "--scores", done.scores)
    after = command_line("distill", *words, "--out", settings.out.with_name("distilled"), "epochs=1")
    result = {"teacher": str(done.teacher), "scores": str(done.scores), "pairs": done.pairs, "steps": done.steps}
    told = {done.scores.name: f"{done.pairs:,} scored pairs"}
    if settings.teacher is None:
        told = {done.teacher.name: f"a cross-encoder, after {done.steps:,} steps"} | told
    return written(result, settings.out, told, after)


def distill(settings: recipe.Distill) -> Outcome:
    """A retriever and a teacher's scores to a better retriever."""
    check_folder(settings.out, replaced=True)
    from dupmae.stages.distill import distill as run

    return _retriever(run(settings), settings.data, settings.out)


def rerank(settings: recipe.Rerank) -> Outcome:
    """A run in a cross-encoder's order, and its metrics."""
    from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE
    from dupmae.stages.rerank import rerank as run

    result = run(settings)
    told = {METRICS_FILE: f"the best {settings.depth:,} of each query in a new order", RUN_FILE: "the rankings"}
    words = ("--data", settings.data, "--mined", "MINED", "--out", "OUT", f"teacher={settings.teacher}")
    return written(result, settings.out, told, command_line("teach", *words), metric_rows(result["metrics"]))


def _retriever(done: Finetuned, corpus: Path, out: Path) -> Outcome:
    """What is said of a trained retriever."""
    words = ("--retriever", done.retriever, "--data", corpus, "--out", out.with_name("index"))
    result = {"retriever": str(done.retriever), "steps": done.steps, "last": last(done.log)}
    told = f"a retriever, after {done.steps:,} steps{losses(done.log)}"
    return written(result, done.retriever, {"": told}, command_line("index", *words))


COMMANDS = (
    Command(
        "finetune",
        "an encoder and pairs to a retriever",
        finetune,
        "Finetune",
        ("model", "data", "out", "steps", "minutes", "seed"),
        {"resume": True},
    ),
    Command("mine", "training data to hard negatives", mine, "Mine", ("data", "retriever", "out")),
    Command(
        "teach",
        "hard negatives to a cross-encoder and its scores",
        teach,
        "Teach",
        ("data", "mined", "model", "out", "steps", "seed"),
        {"resume": True},
    ),
    Command(
        "distill",
        "a retriever and a teacher's scores to a better retriever",
        distill,
        "Distill",
        ("retriever", "data", "mined", "scores", "out", "steps", "minutes", "seed"),
        {"resume": True},
    ),
    Command(
        "rerank",
        "a TREC run in a cross-encoder's order",
        rerank,
        "Rerank",
        ("teacher", "data", "run", "out", "split"),
    ),
)
