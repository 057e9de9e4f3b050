"""The table of several data sets, a row a set as in papers, for terminal, Markdown, LaTeX and the page."""

from __future__ import annotations

from dupmae.comparison.overview import Overview, average
from dupmae.comparison.tables import Cell, metric_name

AVERAGE = "Average"


def head(overview: Overview) -> list[str]:
    """Names of the columns: the set, the systems with their letters, the papers' systems."""
    measured = [f"{letter} {name}" for letter, name in overview.systems.items()]
    return ["", *measured, *(f"{label}, quoted" for label in overview.quoted)]


def rows(overview: Overview) -> list[tuple[str, list[Cell]]]:
    """A row for each set, the average last; a paper's system is averaged when it has all sets."""
    measured = {name: overview.values(name) for name in overview.systems.values()}
    papers = [overview.quoted_values(label) for label in overview.quoted]
    found = []
    for name, comparison in overview.sets.items():
        best = max(values[name] for values in measured.values())
        cells = [
            Cell(f"{values[name]:.4f}", values[name] == best, comparison.better_than(system))
            for system, values in measured.items()
        ]
        # As many digits as the paper prints.
        found.append((name, cells + [Cell(str(values.get(name, "–"))) for values in papers]))
    means = {system: average(values) for system, values in measured.items()}
    last = [Cell(f"{mean:.4f}", mean == max(means.values())) for mean in means.values()]
    last += [Cell(f"{average(values):.3f}" if values.keys() == overview.sets.keys() else "–") for values in papers]
    return [*found, (AVERAGE, last)]


def notes(overview: Overview) -> list[str]:
    """What a reader must know to read the table rightly."""
    one = next(iter(overview.sets.values()))
    told = [
        f"{metric_name(overview.metric)} on {len(overview.sets)} data sets; forums of one collection count as one in "
        "the average.",
        f"Letters behind a value: significantly better than those systems on that set ({one.test}, two-sided, "
        f"p < 0.05 after Holm's correction over all {one.tests:,} comparisons). The average is not tested.",
    ]
    if overview.left_out:
        told.append(f"Left out, since not every result has them: {', '.join(overview.left_out)}.")
    papers = dict.fromkeys(line.source for found in overview.sets.values() for line in found.quoted)
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
