"""What the tables of a comparison say, whatever they are written in: rows, notes, the outcome in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from dupmae.report.comparison import Comparison
from dupmae.report.differences import Difference
from dupmae.report.summary import p_text

METRIC_NAMES = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "map": "MAP", "precision": "P"}
DIFFERENCE_COLUMNS = ("Difference", "95% interval", "p", "p (Holm)", "Win / tie / loss")


@dataclass(frozen=True)
class Cell:
    """One value of the table.

    Attributes:
        text: the value, or a dash.
        best: whether it is the highest of the systems measured here; quoted values are out of this race.
        marks: letters of the systems that this one is significantly better than.
    """

    text: str
    best: bool = False
    marks: str = ""


@dataclass(frozen=True)
class Row:
    """One system of the table.

    Attributes:
        letter: "" for a quoted line.
        source: number of the paper in `sources`, from 1; None when it was measured.
    """

    letter: str
    name: str
    cells: list[Cell]
    source: int | None = None


def metric_name(metric: str) -> str:
    """ndcg@10 as it is written in papers: nDCG@10."""
    name, at, k = metric.partition("@")
    return f"{METRIC_NAMES.get(name, name)}{at}{k}"


def rows(comparison: Comparison) -> list[Row]:
    """Every system in the order given, then the papers' lines."""
    best = {metric: max(system.metrics[metric] for system in comparison.systems) for metric in comparison.metrics}
    found = []
    for system in comparison.systems:
        cells = [
            Cell(
                f"{system.metrics[metric]:.4f}",
                system.metrics[metric] == best[metric],
                comparison.better_than(system.name) if metric == comparison.metric else "",
            )
            for metric in comparison.metrics
        ]
        found.append(Row(system.letter, system.name, cells))
    known = sources(comparison)
    for line in comparison.quoted:
        # As many digits as the paper prints.
        cells = [Cell(str(line.metrics[metric]) if metric in line.metrics else "–") for metric in comparison.metrics]
        found.append(Row("", line.label, cells, known.index(line.source) + 1))
    return found


def sources(comparison: Comparison) -> list[str]:
    """The papers' tables that lines are quoted from, in the order they come up."""
    return list(dict.fromkeys(line.source for line in comparison.quoted))


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the tables rightly."""
    corrected = _counted(comparison.tests, "comparison")
    told = [
        f"{comparison.queries:,} queries, {comparison.corpus:,} passages of {comparison.data} ({comparison.split}).",
        f"Letters: significantly better than those systems on {metric_name(comparison.metric)} "
        f"({comparison.test}, two-sided, p < 0.05 after Holm's correction over {corrected}).",
    ]
    if comparison.quoted:
        told.append(
            "Quoted lines are the papers' own numbers on the same data set, with models and training of their own: "
            "they were not measured here and nothing is tested against them."
        )
        told += [f"[{number}] {source}." for number, source in enumerate(sources(comparison), 1)]
    return told


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def outcome(comparison: Comparison) -> list[str]:
    """One plain sentence for each pair."""
    name = metric_name(comparison.metric)
    lines = []
    for pair in comparison.differences:
        verdict = "is better than" if pair.mean > 0 else "is worse than"
        if not pair.significant:
            verdict = "cannot be told apart from"
        lines.append(
            f"{pair.system} {verdict} {pair.other} on {name}: {pair.mean:+.4f}, corrected p "
            f"{_relation(pair.corrected)}; better on {_counted_queries(pair.wins)}, equal on {pair.ties:,}, "
            f"worse on {pair.losses:,}."
        )
    return lines


def _counted_queries(count: int) -> str:
    return "1 query" if count == 1 else f"{count:,} queries"


def _relation(p: float) -> str:
    return p_text(p) if p < 0.001 else f"= {p_text(p)}"


def difference_cells(pair: Difference) -> list[str]:
    """The entries of a pair under `DIFFERENCE_COLUMNS`."""
    return [
        f"{pair.mean:+.4f}",
        f"{pair.low:+.4f} to {pair.high:+.4f}",
        p_text(pair.p),
        p_text(pair.corrected),
        f"{pair.wins:,} / {pair.ties:,} / {pair.losses:,}",
    ]
