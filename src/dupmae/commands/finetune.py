"""The commands from an encoder to a retriever, and from one retriever to a better one with a teacher's help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae.commands.base import Command, Outcome, command_line, index_line, last, losses, metric_rows, written
from dupmae.files import LOG, training_folder

if TYPE_CHECKING:
    from dupmae.settings import Distill, Finetune, Mine, Rerank, Synthesize, TrainReranker
    from dupmae.stages.finetune import Finetuned
    from dupmae.stages.mine import Mined
    from dupmae.stages.synthesize import Synthesized
    from dupmae.stages.train_reranker import Taught


def synthesize(settings: Synthesize, done: Synthesized) -> Outcome:
    """Text without labels to training pairs."""
    pairs = sum(done.kinds.values())
    kinds = ", ".join(f"{count:,} by {kind}" for kind, count in done.kinds.items())
    retriever = settings.out.with_name("retriever")
    after = command_line("finetune", "--model", "ENCODER", "--data", settings.out, "--out", retriever, "epochs=1")
    result = {"out": str(settings.out), "pairs": pairs, "kinds": done.kinds, "without": done.without}
    files = {"": f"{pairs:,} pairs, {kinds}; {done.without:,} texts gave none"}
    return written(result, settings.out, files, after)


def finetune(settings: Finetune, done: Finetuned) -> Outcome:
    """An encoder and pairs to a retriever."""
    if settings.dev is not None:
        return _retriever(done, command_line("evaluate", done.retriever, "--suite", "sts", "--data", "DIR"))
    corpus = settings.data if settings.data.is_dir() else Path("CORPUS")
    return _retriever(done, index_line(done.retriever, corpus))


def mine(settings: Mine, done: Mined) -> Outcome:
    """Training data to hard negatives."""
    after = command_line(
        "train-reranker", "--data", settings.data, "--mined", done.file, "--model", "MODEL", "--out", "teacher"
    )
    result = {"file": str(done.file), "queries": done.queries, "negatives": done.negatives, "without": done.without}
    note = f"{done.negatives:,} negatives of {done.queries:,} queries, {done.without:,} queries have none"
    return written(result, done.file, {"": note}, after)


def train_reranker(settings: TrainReranker, done: Taught) -> Outcome:
    """Hard negatives to a cross-encoder and its scores."""
    retriever = settings.out.with_name("retriever")
    words = ("--retriever", retriever, "--data", settings.data, "--mined", settings.mined, "--scores", done.scores)
    after = command_line("distill", *words, "--out", settings.out.with_name("distilled"), "epochs=1")
    result = {"teacher": str(done.teacher), "scores": str(done.scores), "pairs": done.pairs, "steps": done.steps}
    files = {done.scores.name: f"{done.pairs:,} scored pairs"}
    if settings.teacher is None:
        files = {done.teacher.name: f"a cross-encoder, after {done.steps:,} steps"} | files
    return written(result, settings.out, files, after)


def distill(settings: Distill, done: Finetuned) -> Outcome:
    """A retriever and a teacher's scores to a better retriever."""
    return _retriever(done, index_line(done.retriever, settings.data))


def rerank(settings: Rerank, result: dict[str, Any]) -> Outcome:
    """A run in a cross-encoder's order, and its metrics."""
    files = {"metrics.json": f"the best {settings.depth:,} of each query in a new order", "run.trec": "the rankings"}
    words = ("--data", settings.data, "--mined", "MINED", "--out", "OUT", f"teacher={settings.teacher}")
    return written(result, settings.out, files, command_line("train-reranker", *words), metric_rows(result["metrics"]))


def _retriever(done: Finetuned, after: str) -> Outcome:
    """What is said of a trained retriever."""
    folder = done.retriever.parent
    log = training_folder(done.retriever) / LOG
    result = {"retriever": str(done.retriever), "steps": done.steps, "log": str(log), "last": last(done.log)}
    files = {
        done.retriever.name: f"a retriever, after {done.steps:,} steps{losses(done.log)}",
        str(log.relative_to(folder)): "every loss term",
    }
    return written(result, folder, files, after)


SYNTHESIZE = Command(
    "synthesize",
    "text without labels to training pairs",
    "synthesize",
    synthesize,
    words=("inputs",),
    example="texts.jsonl --out pairs",
)
COMMANDS = (
    Command("finetune", "an encoder and pairs to a retriever", "finetune", finetune),
    Command("mine", "training data to hard negatives", "mine", mine),
    Command("train-reranker", "hard negatives to a cross-encoder and its scores", "train-reranker", train_reranker),
    Command("distill", "a retriever and a teacher's scores to a better retriever", "distill", distill),
    Command("rerank", "a TREC run in a cross-encoder's order", "rerank", rerank),
)
