"""Small results to compare: a BEIR folder of four queries, and systems given by the rank of each right answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dupmae.corpus.beir import Passage, write_beir
from dupmae.evaluation.metrics import Run, evaluate
from dupmae.evaluation.runs import write_run
from dupmae.files import write_json

METRICS = ["mrr@10", "recall@2"]
TOPICS = ("sorting lists", "reading files", "<b>matching</b> text", "drawing curves")
QRELS = {f"q{number}": {f"d{number}": 1} for number in range(4)}


def data_folder(folder: Path) -> Path:
    """Each query's answer repeats it; four more passages answer none."""
    answers = [Passage(f"d{n}", f"On {topic}", f"All about {topic}.") for n, topic in enumerate(TOPICS)]
    others = [Passage(f"e{n}", "", f"Something else, number {n}, about lists of files.") for n in range(4)]
    write_beir(folder, [*answers, *others], {f"q{n}": topic for n, topic in enumerate(TOPICS)}, {"test": QRELS})
    return folder


def ranked_at(ranks: Sequence[int]) -> Run:
    """The run in which the right answer of each query has the given rank, among passages that answer nothing."""
    run: Run = {}
    for number, rank in enumerate(ranks):
        order = [f"e{n}" for n in range(4)]
        order.insert(rank - 1, f"d{number}")
        run[f"q{number}"] = {name: float(-place) for place, name in enumerate(order)}
    return run


def write_result(folder: Path, data: Path, run: Run, **changes: object) -> Path:
    """What `dupmae evaluate` leaves in a folder; `changes` replace entries of metrics.json."""
    result: dict[str, object] = {
        "metrics": evaluate(QRELS, run, METRICS),
        "counts": {"queries": len(QRELS), "passages": 8, "judgements": 4},
        "retriever": {},
        "settings": {"data": str(data), "split": "test"},
    }
    write_run(folder / "run.trec", run, "tag")
    write_json(folder / "metrics.json", {**result, **changes})
    return folder


def per_query(reciprocal_ranks: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Values of every query as the suites write them."""
    return {
        "mrr@10": dict(reciprocal_ranks),
        "recall@2": {query: float(value >= 0.5) for query, value in reciprocal_ranks.items()},
    }
