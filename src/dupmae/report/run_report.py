"""The report of a quickstart: report.json for machines, report.html for people, the picture for the README.

It is a comparison of the DupMAE hybrid with every other system, without the values of each query.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dupmae.files import write_json, write_text
from dupmae.report import pages, wording
from dupmae.report.comparison import Comparison, System
from dupmae.report.context import Context
from dupmae.report.differences import TESTS_IN_WORDS, Difference, corrected
from dupmae.report.pages import page, score_bars
from dupmae.report.tables import terminal
from dupmae.training.log import curves

Report = dict[str, Any]
HYBRID = "dupmae-hybrid"
METRICS = ("ndcg@10", "mrr@10", "recall@100")


def write_report(
    out: str | Path, report: Report, logs: Mapping[str, Sequence[Mapping[str, Any]]], examples: Sequence[dict[str, Any]]
) -> None:
    """Write report.json and then report.html, a single file that asks for nothing from elsewhere.

    Args:
        out: folder of the run.
        report: what becomes report.json: dataset, systems (with labels), p_values, seconds,
            peak_memory_bytes, settings, versions, fine_tuning.
        logs: stage -> log lines, each with `step` and the loss terms.
        examples: searches to show, each with query, expected, rank and results.

    Raises:
        DupmaeError: when matplotlib is not installed (report.json is there by then), or a file cannot be
            written.
    """
    write_json(Path(out) / "report.json", report)
    compared = _comparison(report)
    peaks = report.get("peak_memory_bytes_after", {})
    stages = {
        name: {"seconds": seconds, "settings": {}, "peak_memory_bytes": peaks.get(name)}
        for name, seconds in report["seconds"].items()
        if name != "total"
    }
    context = Context(
        [_search(example) for example in examples], {name: curves(log) for name, log in logs.items()}, stages, {}
    )
    settings = {"settings": report["settings"], "versions": report["versions"]}
    around = pages.around(context) | {"settings": {name: list(pages.dotted(group)) for name, group in settings.items()}}
    made = page(
        "quickstart",
        "DupMAE report",
        wording.outcome(compared),
        [(name.replace("_", " "), f"{count:,}") for name, count in report["dataset"].items()],
        systems=wording.systems_table(compared),
        notes=_notes(compared, report),
        bars=[score_bars(compared, [metric]) for metric in METRICS],
        **around,
    )
    write_text(Path(out) / "report.html", made)


def write_picture(path: str | Path, report: Report) -> None:
    """Write the README's picture: bars of all systems for nDCG@10, MRR@10 and Recall@100, as PNG.

    Raises:
        DupmaeError: when matplotlib is not installed or the file cannot be written.
    """
    note = f"{report['dataset']['test_queries']:,} test queries; fine-tuned systems with equal steps and batch"
    score_bars(_comparison(report), METRICS, note=note).write(Path(path))


def format_table(report: Report) -> str:
    """The table of systems and its notes as plain text; `*` marks the best of a column."""
    compared = _comparison(report)
    return terminal([wording.systems_table(compared)], [], ["* best of its column.", *_notes(compared, report)])


def _comparison(report: Report) -> Comparison:
    data = report["dataset"]
    systems = [
        System(
            name,
            found["label"],
            "",
            {metric: found[metric] for metric in METRICS},
            "",
            found["queries_per_second"],
            found["index_bytes"],
        )
        for name, found in report["systems"].items()
    ]
    best = report["systems"][HYBRID][METRICS[0]]
    pairs = []
    for system in systems:
        p = report["p_values"].get(f"hybrid_vs_{system.name.replace('-', '_')}")
        if p is not None:
            mean = system.metrics[METRICS[0]] - best
            pairs.append(Difference(system.name, HYBRID, mean, math.nan, math.nan, p, p, 0, 0, 0))
    return Comparison(
        data="the packages' documentation",
        split="test",
        queries=data["test_queries"],
        corpus=data.get("corpus_documents", data["documents"]),
        metric=METRICS[0],
        metrics=list(METRICS),
        test=TESTS_IN_WORDS["randomization"],
        tests=len(pairs),
        baseline=HYBRID,
        systems=systems,
        differences=corrected(pairs),
        moved=[],
        values={},
        passages={},
    )


def _notes(comparison: Comparison, report: Report) -> list[str]:
    budget = report["fine_tuning"]
    same = f"All fine-tuned rows had the same budget: {budget['steps']:,} steps of {budget['batch_size']:,} queries."
    return [same, *wording.notes(comparison)]


def _search(example: Mapping[str, Any]) -> dict[str, Any]:
    answer = example["expected"]
    results = [result | {"right": result["id"] == answer["id"]} for result in example["results"]]
    return {**example, "expected": [answer], "results": results}
