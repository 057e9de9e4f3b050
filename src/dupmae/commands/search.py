"""The commands that use a retriever: index, search, evaluate."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from dupmae.commands import benchmarks
from dupmae.commands.base import Command, Outcome, command_line, index_line, metric_rows, written

if TYPE_CHECKING:
    from dupmae.search.documents import Hit
    from dupmae.search.index import Index as Built
    from dupmae.settings import Evaluate, Index, Search

SNIPPET_WIDTH, SNIPPET_LINES = 96, 2
SHOWN_WORDS = 8


def index(settings: Index, built: Built) -> Outcome:
    """A retriever and a corpus to a searchable folder."""
    from dupmae.report.text import bytes_text

    after = command_line("search", settings.out, "what you look for")
    size = built.snapshot.size_bytes()
    result = {"index": str(settings.out), "passages": len(built), "bytes": size}
    note = f"{len(built):,} passages, {bytes_text(size)} of vectors"
    return written(result, settings.out, {"": note}, after)


def search(settings: Search, hits: list[Hit]) -> Outcome:
    """The passages that answer a query, with the shares of their scores and the words that matched."""
    result = {"query": settings.query, "hits": [hit.as_dict() for hit in hits]}
    return Outcome(result, "\n\n".join(_shown(hit) for hit in hits) or "nothing found")


def evaluate(settings: Evaluate, result: dict[str, Any]) -> Outcome:
    """Metrics of a retriever on judged queries."""
    counts = result["counts"]
    note = f"{counts['queries']:,} queries, {counts['passages']:,} passages"
    files = {"metrics.json": note, "run.trec": "the rankings"}
    after = command_line("compare", settings.out, "MORE")
    if settings.retriever is not None:
        after = index_line(settings.retriever, settings.data)
    return written(result, settings.out, files, after, metric_rows(result["metrics"]))


def _shown(hit: Hit) -> str:
    head = f"{hit.rank:>3}. {hit.title or hit.id}"
    score = f"{hit.score:.3f} = dense {hit.dense:.3f} + sparse {hit.sparse:.3f}"
    words = ", ".join(f"{word.token} {word.weight:.2f}" for word in hit.words[:SHOWN_WORDS])
    if len(hit.words) > SHOWN_WORDS:
        words += f" and {len(hit.words) - SHOWN_WORDS} more"
    lines = [score + (f"   ({hit.id})" if hit.title else ""), *([f"words: {words}"] if words else [])]
    lines += textwrap.wrap(hit.text, SNIPPET_WIDTH, max_lines=SNIPPET_LINES, placeholder=" ...")
    return "\n".join([head, *(f"     {line}" for line in lines)])


COMMANDS = (
    Command("index", "a retriever and a corpus to a searchable folder", "index", index),
    Command(
        "search",
        "ask an index",
        "search",
        search,
        words=("index", "query"),
        example='runs/quickstart "read a csv in chunks"',
    ),
    Command(
        "evaluate",
        "metrics of a retriever on judged queries",
        "evaluate",
        evaluate,
        words=("retriever",),
        example="retriever --data beir-folder --out measured",
        suite=benchmarks.EVALUATE,
    ),
)
