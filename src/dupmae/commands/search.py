"""The commands that use a retriever: index, search, evaluate."""

from __future__ import annotations

import argparse
import gc
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from dupmae.commands import benchmarks as suites
from dupmae.commands.base import Command, Outcome, command_line, metric_rows, written
from dupmae.files import check_folder

if TYPE_CHECKING:
    from dupmae.search.engine import Hit
    from dupmae.settings import Evaluate, Index

SNIPPET_WIDTH, SNIPPET_LINES = 96, 2
SHOWN_WORDS = 8


def index(settings: Index) -> Outcome:
    """A retriever and a corpus to a searchable folder."""
    check_folder(settings.out, "an index")
    from dupmae.report.text import bytes_text
    from dupmae.stages.index import build

    built = build(settings)
    after = command_line("search", settings.out, "what you look for")
    result = {"index": str(settings.out), "passages": len(built), "bytes": built.size_bytes()}
    told = f"{len(built):,} passages, {bytes_text(built.size_bytes())} of vectors"
    return written(result, settings.out, {"": told}, after)


def search(options: argparse.Namespace) -> Outcome:
    """The passages that answer a query, with the shares of their scores and the words that matched."""
    # Imports make objects by the hundred thousand and free none: collecting garbage would take 0.8 of 3.8 s.
    gc.disable()
    from dupmae.search.engine import Searcher

    query = " ".join(options.query)
    hits = Searcher.open(options.index).search(query, options.k)
    return Outcome({"query": query, "hits": [hit.as_dict() for hit in hits]}, "\n\n".join(_shown(hit) for hit in hits))


def evaluate(settings: Evaluate) -> Outcome:
    """Metrics of a retriever on judged queries."""
    check_folder(settings.out)
    from dupmae.evaluation.runs import METRICS_FILE, RUN_FILE
    from dupmae.stages.evaluate import evaluate_retriever

    result = evaluate_retriever(settings)
    counts = result["counts"]
    told = {METRICS_FILE: f"{counts['queries']:,} queries, {counts['passages']:,} passages", RUN_FILE: "the rankings"}
    out = settings.retriever.with_name("index")
    after = command_line("index", "--retriever", settings.retriever, "--data", settings.data, "--out", out)
    return written(result, settings.out, told, after, metric_rows(result["metrics"]))


def _shown(hit: Hit) -> str:
    head = f"{hit.rank:>3}. {hit.title or hit.id}"
    score = f"{hit.score:.3f} = dense {hit.dense:.3f} + sparse {hit.sparse:.3f}"
    words = ", ".join(f"{word} {value:.2f}" for word, value in hit.words[:SHOWN_WORDS])
    if len(hit.words) > SHOWN_WORDS:
        words += f" and {len(hit.words) - SHOWN_WORDS} more"
    lines = [score + (f"   ({hit.id})" if hit.title else ""), *([f"words: {words}"] if words else [])]
    lines += textwrap.wrap(hit.text, SNIPPET_WIDTH, max_lines=SNIPPET_LINES, placeholder=" ...")
    return "\n".join([head, *(f"     {line}" for line in lines)])


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("index", type=Path, metavar="INDEX", help="index folder, or a run's folder with index/ in it")
    parser.add_argument("query", nargs="+", metavar="QUERY", help="what to look for")
    parser.add_argument("--k", type=int, default=10, help="passages to show (default: 10)")


COMMANDS = (
    Command("index", "a retriever and a corpus to a searchable folder", index, "Index", ("retriever", "data", "out")),
    Command(
        "search",
        "ask an index",
        search,
        arguments=_search_arguments,
        example='dupmae search runs/quickstart "read a csv in chunks"',
    ),
    Command(
        "evaluate",
        "metrics of a retriever on judged queries",
        evaluate,
        "Evaluate",
        ("retriever", "data", "out", "split", "suite"),
        words="retriever",
        variants={"suite": suites.EVALUATE},
    ),
)
