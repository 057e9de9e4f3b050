"""What a comparison says: its tables, the outcome in sentences, and what a reader must know."""

from __future__ import annotations

from collections.abc import Callable

from dupmae.report.comparison import Comparison, System
from dupmae.report.differences import Difference
from dupmae.report.tables import Cell, Table
from dupmae.report.text import (
    NOTHING,
    bytes_text,
    counted,
    interval_text,
    metric_name,
    p_relation,
    p_text,
    rate_text,
    score_text,
)

DIFFERENCE_COLUMNS = ("Difference", "95% interval", "p", "p (Holm)", "Win / tie / loss")
# What others are against the baseline.
VERDICTS = {-1: "Worse", 0: "Not to be told apart from it", 1: "Better"}


def systems_table(comparison: Comparison) -> Table:
    """Every system with its metrics, and size and speed where they were measured.

    With a baseline the last column has the p-values against it; without one letters tell who is better than whom.
    """
    against, systems = comparison.baseline, comparison.systems
    best = {metric: max(system.metrics[metric] for system in systems) for metric in comparison.metrics}
    sized = any(system.index_bytes is not None for system in systems)
    timed = any(system.queries_per_second is not None for system in systems)
    head = [*([] if against else [""]), "System", *map(metric_name, comparison.metrics)]
    head += ["Index"] * sized + ["Queries/s"] * timed + (["p"] if against else [])
    rows: list[list[Cell | str]] = []
    for system in systems:
        row: list[Cell | str] = [*([] if against else [system.letter]), system.label]
        for metric, value in system.metrics.items():
            marked = against is None and metric == comparison.metric
            marks = comparison.better_than(system.name) if marked else ""
            row.append(Cell(score_text(value), value == best[metric], marks))
        row += [_or_nothing(bytes_text, system.index_bytes)] * sized
        row += [_or_nothing(rate_text, system.queries_per_second)] * timed
        row += [_or_nothing(p_text, comparison.p_against_baseline(system.name))] if against else []
        rows.append(row)
    strong = frozenset(place for place, system in enumerate(systems) if system.name == against)
    return Table(head, rows, names=1 if against else 2, strong=strong)


def _or_nothing(write: Callable[[float], str], value: float | None) -> str:
    return NOTHING if value is None else write(value)


def pair_name(comparison: Comparison, pair: Difference) -> str:
    """A pair by its labels."""
    return f"{comparison.system(pair.system).label} against {comparison.system(pair.other).label}"


def pairs_table(comparison: Comparison) -> Table:
    """Every pair with its test; the significant ones stand out."""
    rows = [
        [
            pair_name(comparison, pair),
            f"{pair.mean:+.4f}",
            interval_text(pair.low, pair.high),
            p_text(pair.p),
            p_text(pair.corrected),
            f"{pair.wins:,} / {pair.ties:,} / {pair.losses:,}",
        ]
        for pair in comparison.differences
    ]
    title = f"Differences on {metric_name(comparison.metric)}, {comparison.test}"
    strong = frozenset(place for place, pair in enumerate(comparison.differences) if pair.significant)
    return Table(["Pair", *DIFFERENCE_COLUMNS], rows, title, strong=strong)


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to read the tables rightly."""
    name = metric_name(comparison.metric)
    how = f"{comparison.test}, two-sided, Holm-corrected for {counted(comparison.tests, 'comparison')}"
    meaning = (
        f"Letters: significantly better than those systems on {name} ({how}, p < 0.05)."
        if comparison.baseline is None
        else f"p: against {comparison.system(comparison.baseline).label} on {name} of each query ({how})."
    )
    where = f"{comparison.data} ({comparison.split})" if comparison.split else comparison.data
    return [f"{counted(comparison.queries, 'query')}, {counted(comparison.corpus, 'passage')} of {where}.", meaning]


def outcome(comparison: Comparison) -> list[str]:
    """The outcome in plain sentences, good or bad: of the baseline's comparisons together, or one for each pair."""
    if comparison.baseline is not None:
        return _against(comparison, comparison.system(comparison.baseline))
    name = metric_name(comparison.metric)
    return [
        f"{comparison.system(pair.system).label} {_verdict(pair)} {comparison.system(pair.other).label} on {name}: "
        f"{pair.mean:+.4f}, corrected {p_relation(pair.corrected)}; better on {counted(pair.wins, 'query')}, equal on "
        f"{pair.ties:,}, worse on {pair.losses:,}."
        for pair in comparison.differences
    ]


def _verdict(pair: Difference) -> str:
    if pair.better is None:
        return "cannot be told apart from"
    return "is better than" if pair.better == pair.system else "is worse than"


def _against(comparison: Comparison, baseline: System) -> list[str]:
    name = metric_name(comparison.metric)
    others: dict[str, list[str]] = {}
    for pair in comparison.differences:
        system = comparison.system(pair.system)
        figures = f"{system.label} ({system.metrics[comparison.metric]:.3f}, {p_relation(pair.corrected)})"
        side = 0 if pair.better is None else 1 if pair.better == pair.system else -1
        others.setdefault(VERDICTS[side], []).append(figures)
    reached = ", ".join(f"{metric_name(metric)} {value:.3f}" for metric, value in baseline.metrics.items())
    winner = max(comparison.systems, key=lambda system: system.metrics[comparison.metric])
    return [
        f"{baseline.label} reaches {reached} on {counted(comparison.queries, 'query')} among "
        f"{counted(comparison.corpus, 'passage')}.",
        *(f"{verdict} by {name}: {'; '.join(systems)}." for verdict, systems in others.items()),
        f"Highest {name} of all systems: {winner.label}, {winner.metrics[comparison.metric]:.3f}.",
    ]
