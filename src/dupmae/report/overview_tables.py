"""The table of several data sets, a row a set as in papers, for terminal, Markdown, LaTeX and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dupmae.report.overview import Overview, average, by_collection
from dupmae.report.tables import Cell, metric_name

AVERAGE = "Average"


def head(overview: Overview) -> list[str]:
    """Names of the columns: the set, the systems with their letters, the papers' systems."""
    measured = [f"{letter} {name}" for letter, name in overview.systems.items()]
    return ["", *measured, *(f"{label}, quoted" for label in overview.quoted)]


def rows(overview: Overview) -> list[tuple[str, list[Cell]]]:
    """A row for each set, one more for each collection of several, the average last.

    A paper's system is averaged when it has all collections.
    """
    measured = {name: overview.values(name) for name in overview.systems.values()}
    joined = {system: by_collection(values) for system, values in measured.items()}
    papers = [overview.quoted_values(label) for label in overview.quoted]
    found = []
    for collection, sets in overview.collections.items():
        # As many digits as the paper prints.
        printed = [Cell(str(values.get(collection, "–"))) for values in papers]
        for name in sets:
            better = overview.sets[name].better_than
            cells = _measured({system: values[name] for system, values in measured.items()}, better)
            found.append((name, cells + (printed if name == collection else [Cell("–")] * len(papers))))
        if len(sets) > 1:
            means = {system: values[collection] for system, values in joined.items()}
            found.append((collection, _measured(means) + printed))
    last = _measured({system: average(values) for system, values in measured.items()})
    every = overview.collections.keys()
    last += [Cell(f"{average(values):.3f}" if values.keys() == every else "–") for values in papers]
    return [*found, (AVERAGE, last)]


def _measured(values: Mapping[str, float], better: Callable[[str], str] = lambda _: "") -> list[Cell]:
    """Cells of the systems measured here; `better` gives the letters of those that one is significantly better than."""
    best = max(values.values())
    return [Cell(f"{value:.4f}", value == best, better(system)) for system, value in values.items()]


def notes(overview: Overview) -> list[str]:
    """What a reader must know to read the table rightly."""
    one = next(iter(overview.sets.values()))
    told = [
        f"{metric_name(overview.metric)} on {len(overview.sets)} data sets; forums of one collection count as one in "
        "the average, by their mean, which is not tested.",
        f"Letters behind a value: significantly better than those systems on that set ({one.test}, two-sided, "
        f"p < 0.05 after Holm's correction over all {one.tests:,} comparisons). The average is not tested.",
    ]
    if overview.left_out:
        told.append(f"Left out, since not every result has them: {', '.join(overview.left_out)}.")
    papers = dict.fromkeys(line.source for lines in overview.lines.values() for line in lines)
    if papers:
        told.append(f"Quoted, not measured here, with models and training of their own: {'; '.join(papers)}.")
    return told


def outcome(overview: Overview) -> list[str]:
    """One plain sentence for each pair of systems."""
    counts: dict[tuple[str, str], list[int]] = {}
    for found in overview.sets.values():
        for pair in found.differences:
            better, worse = pair.better == pair.system, pair.better == pair.other
            seen = counts.setdefault((pair.system, pair.other), [0, 0, 0])
            seen[0 if better else 2 if worse else 1] += 1
    return [
        f"{system} against {other}: {_mean(overview, system) - _mean(overview, other):+.4f} on average; significantly "
        f"better on {better} of {len(overview.sets)} sets, worse on {worse}, not to be told apart on {neither}."
        for (system, other), (better, neither, worse) in counts.items()
    ]


def _mean(overview: Overview, system: str) -> float:
    return average(overview.values(system))
