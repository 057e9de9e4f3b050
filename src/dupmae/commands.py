"""What each command does with checked settings: call the stage, and say what was written and what comes next.

Stages are imported when they are called, since they bring torch with them.
"""

from __future__ import annotations

import gc
import shlex
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae import recipe
from dupmae.errors import DupmaeError
from dupmae.files import MARKER

if TYPE_CHECKING:
    from dupmae.search.engine import Hit

SNIPPET_WIDTH, SNIPPET_LINES = 96, 2
SHOWN_WORDS = 8
# GPUs of a common node.
NODE = 8


@dataclass(frozen=True)
class Outcome:
    """The result of a command for machines, and the same for people."""

    result: dict[str, Any]
    text: str


def quickstart(settings: recipe.Quickstart) -> Outcome:
    """The whole line on the documentation of the installed packages."""
    _check_folder(settings.out, replaced=False)
    from dupmae.evaluation.report import format_table
    from dupmae.stages.quickstart import quickstart as run

    report = run(settings)
    ask = _command("search", settings.out, "read a csv file in chunks")
    names = ("report.html", "report.json", "pretraining/encoder", "retriever", "index")
    wrote = _wrote(settings.out, {name: "" for name in names if (settings.out / name).exists()}, ask)
    return Outcome(report, f"{format_table(report)}\n\n{wrote}")


def prepare(settings: recipe.Prepare) -> Outcome:
    """Raw text to shards."""
    _check_folder(settings.out, replaced=True)
    from dupmae.stages.prepare import prepare as run

    done = run(settings)
    counts = {"records": done.records, "tokens": done.tokens, "dropped": done.dropped, "shards": len(done.shards)}
    told = f"{done.records:,} records, {done.tokens:,} tokens; {done.dropped:,} texts were too short"
    after = _command("pretrain", "--data", settings.out, "--out", settings.out.with_name("pretraining"), "minutes=8")
    return Outcome({"out": str(settings.out), **counts, "next": after}, _wrote(settings.out, {"": told}, after))


def pretrain(settings: recipe.Pretrain) -> Outcome:
    """Shards to an encoder."""
    _check_folder(settings.out, replaced=False)
    from dupmae.stages.pretrain import pretrain as run

    done = run(settings)
    retriever = settings.out.with_name("retriever")
    after = _command("finetune", "--model", done.encoder, "--data", "PAIRS", "--out", retriever, "minutes=2")
    result = {"encoder": str(done.encoder), "steps": done.steps, "log": str(settings.out / "log.jsonl")}
    told = {"encoder": f"after {done.steps:,} steps{_losses(done.log)}", "log.jsonl": "every loss term"}
    return Outcome({**result, "last": _last(done.log), "next": after}, _wrote(settings.out, told, after))


def plan(settings: recipe.Plan) -> Outcome:
    """Time and cost of a pre-training recipe."""
    from dupmae.stages.plan import plan as run

    planned = run(settings)
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
    lines = [f"{name:<12} {told}" for name, told in rows.items()]
    after = _command("pretrain", "--recipe", "RECIPE")
    if settings.count > 1:
        nodes = f"--nnodes {-(-settings.count // NODE)} " if settings.count > NODE else ""
        after = f"torchrun {nodes}--nproc-per-node {min(settings.count, NODE)} -m {after}"
    return Outcome({**result, "next": after}, "\n".join([*lines, f"next: {after}"]))


def report(settings: recipe.Report) -> Outcome:
    """The curves of a run."""
    from dupmae.evaluation.curves import PAGE, PICTURE, write_curves

    drawn = write_curves(settings.run)
    encoder = settings.run / "encoder"
    after = _command("pretrain", "--recipe", "RECIPE", "--out", settings.run, "--resume")
    if encoder.is_dir():
        out = settings.run.with_name("retriever")
        after = _command("finetune", "--model", encoder, "--data", "PAIRS", "--out", out, "minutes=2")
    told = {PAGE: f"{len(drawn['figures'])} curves over {drawn['steps']:,} steps", PICTURE: "the same as a picture"}
    return Outcome({**drawn, "next": after}, _wrote(settings.run, told, after))


def finetune(settings: recipe.Finetune) -> Outcome:
    """An encoder and pairs to a retriever."""
    _check_folder(settings.out, replaced=True)
    from dupmae.stages.finetune import finetune as run

    done = run(settings)
    corpus = settings.data if settings.data.is_dir() else Path("CORPUS")
    index = settings.out.with_name("index")
    after = _command("index", "--retriever", done.retriever, "--data", corpus, "--out", index)
    result = {"retriever": str(done.retriever), "steps": done.steps, "last": _last(done.log), "next": after}
    told = f"a retriever, after {done.steps:,} steps{_losses(done.log)}"
    return Outcome(result, _wrote(done.retriever, {"": told}, after))


def mine(settings: recipe.Mine) -> Outcome:
    """Training data to hard negatives."""
    from dupmae.stages.mine import mine as run

    done = run(settings)
    after = _command("teach", "--data", settings.data, "--mined", done.file, "--model", "MODEL", "--out", "teacher")
    result = {"file": str(done.file), "queries": done.queries, "negatives": done.negatives, "without": done.without}
    told = f"{done.negatives:,} negatives of {done.queries:,} queries, {done.without:,} queries have none"
    return Outcome({**result, "next": after}, _wrote(done.file, {"": told}, after))


def teach(settings: recipe.Teach) -> Outcome:
    """Hard negatives to a cross-encoder and its scores."""
    from dupmae.stages.teach import teach as run

    done = run(settings)
    retriever = settings.out.with_name("retriever")
    words = ("--retriever", retriever, "--data", settings.data, "--mined", settings.mined, "--scores", done.scores)
    after = _command("distill", *words, "--out", settings.out.with_name("distilled"), "epochs=1")
    result = {"teacher": str(done.teacher), "scores": str(done.scores), "pairs": done.pairs, "steps": done.steps}
    told = {done.scores.name: f"{done.pairs:,} scored pairs"}
    if settings.teacher is None:
        told = {done.teacher.name: f"a cross-encoder, after {done.steps:,} steps"} | told
    return Outcome({**result, "next": after}, _wrote(settings.out, told, after))


def rerank(settings: recipe.Rerank) -> Outcome:
    """A run in a cross-encoder's order, and its metrics."""
    from dupmae.evaluation.retrieval import METRICS_FILE, RUN_FILE
    from dupmae.stages.rerank import rerank as run

    result = run(settings)
    rows = [f"{name:<13} {value:.4f}" for name, value in result["metrics"].items()]
    told = {METRICS_FILE: f"the best {settings.depth:,} of each query in a new order", RUN_FILE: "the rankings"}
    after = _command(
        "teach", "--data", settings.data, "--mined", "MINED", "--out", "OUT", f"teacher={settings.teacher}"
    )
    return Outcome({**result, "next": after}, "\n".join([*rows, "", _wrote(settings.out, told, after)]))


def distill(settings: recipe.Distill) -> Outcome:
    """A retriever and a teacher's scores to a better retriever."""
    _check_folder(settings.out, replaced=True)
    from dupmae.stages.distill import distill as run

    done = run(settings)
    index = settings.out.with_name("index")
    after = _command("index", "--retriever", done.retriever, "--data", settings.data, "--out", index)
    result = {"retriever": str(done.retriever), "steps": done.steps, "last": _last(done.log), "next": after}
    told = f"a retriever, after {done.steps:,} steps{_losses(done.log)}"
    return Outcome(result, _wrote(done.retriever, {"": told}, after))


def run(settings: recipe.Chain, file: Path | None) -> Outcome:
    """Several stages, one after another."""
    from dupmae.stages.chain import chain

    ran = chain(settings, file)
    rows = []
    for stage in ran:
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in (stage.metrics or {}).items())
        took = "finished before" if stage.before else f"{stage.seconds:,.1f} s"
        rows.append(f"{stage.name:<16} {took:>15}  {metrics}".rstrip())
    after = _command("run", file or "RECIPE", "--out", settings.out)
    result = {"stages": [{**asdict(stage), "out": str(stage.out)} for stage in ran], "next": after}
    told = {"chain.json": "what is finished: the same command runs the rest, or what has changed"}
    return Outcome(result, "\n".join([*rows, "", _wrote(settings.out, told, after)]))


def index(settings: recipe.Index) -> Outcome:
    """A retriever and a corpus to a searchable folder."""
    _check_folder(settings.out, replaced=True)
    from dupmae.evaluation.summary import bytes_text
    from dupmae.stages.index import build

    built = build(settings)
    after = _command("search", settings.out, "what you look for")
    result = {"index": str(settings.out), "passages": len(built), "bytes": built.size_bytes(), "next": after}
    told = f"{len(built):,} passages, {bytes_text(built.size_bytes())} of vectors"
    return Outcome(result, _wrote(settings.out, {"": told}, after))


def evaluate(settings: recipe.Evaluate) -> Outcome:
    """Metrics of a retriever on judged queries."""
    _check_folder(settings.out, replaced=False)
    from dupmae.evaluation.retrieval import METRICS_FILE, RUN_FILE, evaluate_retriever

    result = evaluate_retriever(settings)
    rows = [f"{name:<13} {value:.4f}" for name, value in result["metrics"].items()]
    counts = result["counts"]
    told = {METRICS_FILE: f"{counts['queries']:,} queries, {counts['passages']:,} passages", RUN_FILE: "the rankings"}
    index = settings.retriever.with_name("index")
    after = _command("index", "--retriever", settings.retriever, "--data", settings.data, "--out", index)
    return Outcome({**result, "next": after}, "\n".join([*rows, "", _wrote(settings.out, told, after)]))


def export(settings: recipe.Export) -> Outcome:
    """A retriever as a folder for other people and tools."""
    _check_folder(settings.out, replaced=True)
    from dupmae.stages.export import ONNX_FOLDER
    from dupmae.stages.export import export as run

    done = run(settings)
    told = {"": "opens in dupmae and in sentence-transformers", "README.md": "the model card"}
    if done.onnx_difference is not None:
        told[ONNX_FOLDER] = f"at most {done.onnx_difference:.1e} from torch"
    result = {"folder": str(done.folder), "onnx_difference": done.onnx_difference, "address": done.address}
    after = _command("export", "--retriever", settings.retriever, "--out", settings.out, "--push", "OWNER/NAME")
    if done.address is not None:
        told[""] += f"; pushed to {done.address}"
        after = _command("index", "--retriever", settings.out, "--data", "CORPUS", "--out", "INDEX")
    return Outcome({**result, "next": after}, _wrote(settings.out, told, after))


def search(path: Path, query: str, k: int) -> Outcome:
    """The passages that answer a query, with the shares of their scores and the words that matched."""
    # Imports make objects by the hundred thousand and free none: collecting garbage would take 0.8 of 3.8 s.
    gc.disable()
    from dupmae.search.engine import Searcher

    hits = Searcher.open(path).search(query, k)
    return Outcome({"query": query, "hits": [hit.as_dict() for hit in hits]}, "\n\n".join(_shown(hit) for hit in hits))


def _shown(hit: Hit) -> str:
    head = f"{hit.rank:>3}. {hit.title or hit.id}"
    score = f"{hit.score:.3f} = dense {hit.dense:.3f} + sparse {hit.sparse:.3f}"
    words = ", ".join(f"{word} {value:.2f}" for word, value in hit.words[:SHOWN_WORDS])
    if len(hit.words) > SHOWN_WORDS:
        words += f" and {len(hit.words) - SHOWN_WORDS} more"
    lines = [score + (f"   ({hit.id})" if hit.title else ""), *([f"words: {words}"] if words else [])]
    lines += textwrap.wrap(hit.text, SNIPPET_WIDTH, max_lines=SNIPPET_LINES, placeholder=" ...")
    return "\n".join([head, *(f"     {line}" for line in lines)])


def _check_folder(out: Path, *, replaced: bool) -> None:
    """Refuse before the work what writing would refuse after it.

    Args:
        replaced: whether the stage writes the folder as a whole, which it does not do over other people's files.
    """
    if out.exists() and not out.is_dir():
        raise DupmaeError("is a file, a folder is to be written", where=out, fix="choose another name")
    if replaced and out.is_dir() and any(out.iterdir()) and not (out / MARKER).exists():
        raise DupmaeError("holds files of something else", where=out, fix="choose a new folder or empty this one")


def _wrote(out: Path, told: Mapping[str, str], after: str) -> str:
    lines = [f"wrote {out / name}" + (f": {note}" if note else "") for name, note in told.items()]
    return "\n".join([*lines, f"next: {after}"])


def _command(*words: object) -> str:
    return shlex.join(["dupmae", *map(str, words)])


def _last(log: list[dict[str, float]]) -> dict[str, float]:
    return log[-1] if log else {}


def _losses(log: list[dict[str, float]]) -> str:
    return f", loss {log[0]['loss']:.3f} to {log[-1]['loss']:.3f}" if log else ""
