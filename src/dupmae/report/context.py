"""What a report shows beside the comparison: example searches, training curves, and the chain that it ends."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.files import read_json
from dupmae.report.judged import Judged
from dupmae.settings import Compare
from dupmae.training.log import Curve, curves, read_log

CHAIN = "chain.json"
VERSIONS = ("dupmae", "torch", "transformers", "tokenizers", "accelerate", "numpy", "scipy", "bm25s")
# The first right answer is looked for among so many, and so many are shown.
DEPTH, SHOWN = 100, 3
WORDS = 8


@dataclass(frozen=True)
class Context:
    """What stands around a comparison.

    Attributes:
        searches: as `example_searches` gives them.
        curves: training -> its curves.
        stages: stage of the chain -> its entry in chain.json, of the finished ones.
        settings: those of the comparison.
    """

    searches: list[dict[str, Any]]
    curves: dict[str, list[Curve]]
    stages: dict[str, Any]
    settings: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the curves are in the logs."""
        seconds = {name: stage["seconds"] for name, stage in self.stages.items()}
        peaks = {name: stage["peak_memory_bytes"] for name, stage in self.stages.items() if _has_peak(stage)}
        return {
            "searches": self.searches,
            "seconds": seconds | {"total": round(sum(seconds.values()), 1)},
            "peak_memory_bytes": max(peaks.values(), default=None),
            "peak_memory_bytes_after": peaks,
            "settings": {name: stage["settings"] for name, stage in self.stages.items()} | {"compare": self.settings},
            "machine": {"processor": platform.processor() or platform.machine(), "system": platform.system()},
            "versions": {"python": platform.python_version()} | _versions(),
        }


def _has_peak(stage: Mapping[str, Any]) -> bool:
    return stage.get("peak_memory_bytes") is not None


def _versions() -> dict[str, str]:
    found = {}
    for name in VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def read_context(settings: Compare, judged: Judged | None) -> Context:
    """Read logs and chain, and make the example searches.

    Raises:
        DupmaeError: when a log or the chain cannot be read, or the index cannot be opened or searched in.
    """
    logs = {name: curves(read_log(path.parent if path.is_file() else path)) for name, path in settings.logs.items()}
    stages = {} if settings.chain is None else _stages(settings.chain / CHAIN)
    searches = []
    if settings.index is not None and settings.examples:
        if judged is None:
            raise DupmaeError("needs the data of the results", where="index", fix="name it by --data")
        searches = example_searches(settings.index, judged, settings.examples, settings.seed)
    return Context(searches, logs, stages, settings.model_dump(mode="json"))


def _stages(file: Path) -> dict[str, Any]:
    try:
        stages = read_json(file)["stages"]
        return {name: stage for name, stage in stages.items() if stage["finished"] and "seconds" in stage}
    except (KeyError, TypeError, AttributeError):
        fix = "name the folder of `dupmae run`"
        raise DupmaeError("not the record of a chain", where=file, fix=fix) from None


def example_searches(index: Path, judged: Judged, count: int, seed: int) -> list[dict[str, Any]]:
    """Some test queries drawn at random, what is found for them, and at which rank the first right answer is.

    Raises:
        DupmaeError: when the index cannot be opened.
    """
    # With torch, which a comparison of files does without.
    from dupmae.search.index import Index

    opened = Index.open(index)
    names = list(judged.queries)
    drawn = np.random.default_rng(seed).choice(len(names), min(count, len(names)), replace=False)
    queries = [names[place] for place in drawn]
    expected = judged.documents({name for query in queries for name in judged.relevant(query)[:1]})
    return [_search(opened, judged, query, expected) for query in queries]


def _search(index: Any, judged: Judged, query: str, expected: Mapping[str, Passage]) -> dict[str, Any]:
    hits = index.search(judged.queries[query], k=DEPTH)
    order = [hit.id for hit in hits]
    right = judged.right(query, order, {hit.id: Passage(hit.id, hit.title, hit.text) for hit in hits})
    answers = judged.relevant(query)[:1] or right[:1]
    return {
        "query": judged.queries[query],
        "expected": [{"id": name, "title": expected[name].title if name in expected else ""} for name in answers],
        "rank": order.index(right[0]) + 1 if right else None,
        "results": [
            {
                "id": hit.id,
                "title": hit.title,
                "text": hit.text,
                "right": hit.id in right,
                "score": hit.score,
                "dense": hit.dense,
                "sparse": hit.sparse,
                "words": [[word.token, word.weight] for word in hit.words[:WORDS]],
            }
            for hit in hits[:SHOWN]
        ],
    }
