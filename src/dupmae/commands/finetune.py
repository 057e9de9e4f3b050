"""The commands from an encoder to a retriever, and from one retriever to a better one with a teacher's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands.base import (
    Command,
    Outcome,
    command_line,
    index_line,
    last,
    losses,
    metric_rows,
    written,
)
from dupmae.files import LOG, check_folder, training_folder

if TYPE_CHECKING:
    from dupmae.settings import Distill, Finetune, Mine, Rerank, TrainReranker
    from dupmae.stages.finetune import Finetuned


def finetune(settings: Finetune) -> Outcome:
    """An encoder and pairs to a retriever."""
    check_folder(settings.out, "a retriever")
    from dupmae.stages.finetune import finetune as run

    done = run(settings)
    if settings.dev is not None:
        return _retriever(done, command_line("evaluate", done.retriever, "--suite", "sts", "--data", "DIR"))
    corpus = settings.data if settings.data.is_dir() else Path("CORPUS")
    return _retriever(done, index_line(done.retriever, corpus))


def mine(settings: Mine) -> Outcome:
    """Training data to hard negatives."""
    from dupmae.stages.mine import mine as run

    done = run(settings)
    after = command_line(
        "train-reranker", "--data", settings.data, "--mined", done.file, "--model", "MODEL", "--out", "teacher"
    )
    result = {"file": str(done.file), "queries": done.queries, "negatives": done.negatives, "without": done.without}
    told = f"{done.negatives:,} negatives of {done.queries:,} queries, {done.without:,} queries have none"
    return written(result, done.file, {"": told}, after)


def train_reranker(settings: TrainReranker) -> Outcome:
    """Hard negatives to a cross-encoder and its scores."""
    from dupmae.stages.train_reranker import train_reranker as run

    done = run(settings)
    retriever = settings.out.with_name("retriever")
    words = ("--retriever", retriever, "--data", settings.data, "--mined", settings.mined, "--scores", done.scores)
    after = command_line("distill", *words, "--out", settings.out.with_name("distilled"), "epochs=1")
    result = {"teacher": str(done.teacher), "scores": str(done.scores), "pairs": done.pairs, "steps": done.steps}
    told = {done.scores.name: f"{done.pairs:,} scored pairs"}
    if settings.teacher is None:
        told = {done.teacher.name: f"a cross-encoder, after {done.steps:,} steps"} | told
    return written(result, settings.out, told, after)


def distill(settings: Distill) -> Outcome:
    """A retriever and a teacher's scores to a better retriever."""
    check_folder(settings.out, "a retriever")
    from dupmae.stages.distill import distill as run

    done = run(settings)
    return _retriever(done, index_line(done.retriever, settings.data))


def rerank(settings: Rerank) -> Outcome:
    """A run in a cross-encoder's order, and its metrics."""
    from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE
    from dupmae.stages.rerank import rerank as run

    result = run(settings)
    told = {METRICS_FILE: f"the best {settings.depth:,} of each query in a new order", RUN_FILE: "the rankings"}
    words = ("--data", settings.data, "--mined", "MINED", "--out", "OUT", f"teacher={settings.teacher}")
    return written(result, settings.out, told, command_line("train-reranker", *words), metric_rows(result["metrics"]))


def _retriever(done: Finetuned, after: str) -> Outcome:
    """What is said of a trained retriever."""
    folder = done.retriever.parent
    log = training_folder(done.retriever) / LOG
    result = {"retriever": str(done.retriever), "steps": done.steps, "log": str(log), "last": last(done.log)}
    told = {
        done.retriever.name: f"a retriever, after {done.steps:,} steps{losses(done.log)}",
        str(log.relative_to(folder)): "every loss term",
    }
    return written(result, folder, told, after)


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
        "train-reranker",
        "hard negatives to a cross-encoder and its scores",
        train_reranker,
        "TrainReranker",
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
