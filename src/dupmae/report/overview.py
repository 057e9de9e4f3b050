"""Results on several data sets, as those of BEIR: one comparison a set, corrected together, and averages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import read_json
from dupmae.report.comparison import Comparison, System, compare
from dupmae.report.differences import corrected
from dupmae.report.results import Inputs, Result, named
from dupmae.report.tables import Cell, Table
from dupmae.report.text import counted, metric_name, score_text
from dupmae.settings import Compare

AVERAGE = "Average"


@dataclass(frozen=True)
class Overview:
    """The same systems on several data sets.

    Attributes:
        sets: name -> comparison; p-values are corrected over all pairs of all sets.
        left_out: sets that not every result has.
        bm25: BM25's own result on each set, where it was asked for.
    """

    metric: str
    sets: dict[str, Comparison]
    left_out: list[str]
    bm25: dict[str, Result]

    @property
    def systems(self) -> dict[str, System]:
        """Letter -> system, as on the first set."""
        return {system.letter: system for system in next(iter(self.sets.values())).systems}

    def values(self, system: str) -> dict[str, float]:
        """Set -> value of a system."""
        return {name: found.system(system).metrics[self.metric] for name, found in self.sets.items()}

    def table(self, link: str = "") -> Table:
        """A row for each set, one more for each collection of several, the average last.

        Args:
            link: file in the folder of each set that its name leads to; "": none.
        """
        values = {system.name: self.values(system.name) for system in self.systems.values()}
        means = {system: by_collection(found) for system, found in values.items()}
        rows: list[list[Cell]] = []
        for collection in dict.fromkeys(map(collection_of, self.sets)):
            names = [name for name in self.sets if collection_of(name) == collection]
            for name in names:
                first = Cell(name, link=f"{name}/{link}" if link else "")
                rows.append([first, *_row({s: found[name] for s, found in values.items()}, self.sets[name])])
            if len(names) > 1:
                rows.append([Cell(collection), *_row({system: found[collection] for system, found in means.items()})])
        rows.append([Cell(AVERAGE), *_row({system: average(found) for system, found in values.items()})])
        head = ["", *(f"{letter} {system.label}" for letter, system in self.systems.items())]
        return Table(head, rows, strong=frozenset([len(rows) - 1]))

    def notes(self) -> list[str]:
        """What a reader must know to read the table rightly."""
        one = next(iter(self.sets.values()))
        told = [
            f"{metric_name(self.metric)} on {len(self.sets)} data sets; forums of one collection count as one in "
            "the average, by their mean, which is not tested.",
            f"Letters behind a value: significantly better than those systems on that set ({one.test}, two-sided, "
            f"p < 0.05 after Holm's correction over {counted(one.tests, 'comparison')}). The average is not tested.",
        ]
        if self.left_out:
            told.append(f"Left out, since not every result has them: {', '.join(self.left_out)}.")
        return told

    def outcome(self) -> list[str]:
        """One plain sentence for each pair of systems."""
        better: dict[tuple[str, str], list[str | None]] = {}
        for found in self.sets.values():
            for pair in found.differences:
                better.setdefault((pair.system, pair.other), []).append(pair.better)
        labels = {system.name: system.label for system in self.systems.values()}
        return [
            f"{labels[system]} against {labels[other]}: "
            f"{average(self.values(system)) - average(self.values(other)):+.4f} on average; significantly better on "
            f"{winners.count(system)} of {len(self.sets)} sets, worse on {winners.count(other)}, not to be told apart "
            f"on {winners.count(None)}."
            for (system, other), winners in better.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "average": {system.name: average(self.values(system.name)) for system in self.systems.values()},
            "left_out": self.left_out,
            "sets": {name: found.as_dict() for name, found in self.sets.items()},
        }


def _row(values: Mapping[str, float], comparison: Comparison | None = None) -> list[Cell]:
    """Cells of the systems, with the letters of those that each is significantly better than where that was tested."""
    best = max(values.values())
    return [
        Cell(score_text(value), value == best, "" if comparison is None else comparison.better_than(system))
        for system, value in values.items()
    ]


def collection_of(name: str) -> str:
    """The collection that a data set is of: those in one folder are one."""
    return name.partition("/")[0]


def by_collection(values: Mapping[str, float]) -> dict[str, float]:
    """Collection -> mean over its sets."""
    groups: dict[str, list[float]] = {}
    for name, value in values.items():
        groups.setdefault(collection_of(name), []).append(value)
    return {name: math.fsum(group) / len(group) for name, group in groups.items()}


def average(values: Mapping[str, float]) -> float:
    """The mean over data sets; those in one folder, as the forums of cqadupstack, count as one by their own mean.

    >>> average({"scifact": 0.5, "cqadupstack/gis": 0.25, "cqadupstack/tex": 0.75})
    0.5
    """
    means = by_collection(values)
    return math.fsum(means.values()) / len(means)


def several_sets(inputs: Inputs) -> bool:
    """Whether results are each of several data sets.

    Raises:
        DupmaeError: when some are and some are not, or one cannot be read.
    """
    files = list(named(inputs).values())
    found = [read_json(file) for file in files]
    several = [isinstance(result, dict) and isinstance(result.get("sets"), dict) for result in found]
    if any(several) and not all(several):
        where = files[several.index(False)]
        fix = "compare results of several sets with each other, or of one set"
        raise DupmaeError("is of one data set, others are of several", where=where, fix=fix)
    return all(several)


def compare_sets(settings: Compare) -> Overview:
    """Compare on each data set that all results have.

    Raises:
        DupmaeError: when they share no data set, and as `compare`.
    """
    for name in ("data", "index"):
        if getattr(settings, name) is not None:
            fix = "leave it out: each result says where its data is"
            raise DupmaeError("one folder for several data sets", where=name, fix=fix)
    files = named(settings.inputs)
    found = [list(read_json(file)["sets"]) for file in files.values()]
    shared = [name for name in found[0] if all(name in names for names in found)]
    if not shared:
        raise DupmaeError("the results share no data set", where="inputs", fix="compare results of the same sets")
    # Names become folders of the output.
    outside = next((name for name in shared if name.startswith("/") or ".." in Path(name).parts), None)
    if outside is not None:
        where = next(iter(files.values()))
        raise DupmaeError(f"a data set called {outside!r}", where=where, fix="evaluate again")
    left_out = sorted({name for names in found for name in names} - set(shared))
    if left_out:
        logger.warning("left out, since not every result has them: %s", ", ".join(left_out))
    sets, bm25 = {}, {}
    for name in shared:
        inputs = {system: file.parent / name for system, file in files.items()}
        out = None if settings.out is None else settings.out / name
        sets[name], _, own = compare(settings.model_copy(update={"inputs": inputs, "out": out}))
        if own is not None:
            bm25[name] = own
    return Overview(next(iter(sets.values())).metric, _corrected(sets), left_out, bm25)


def _corrected(sets: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The comparisons with their p-values corrected for all pairs of all sets."""
    pairs = corrected([pair for one in sets.values() for pair in one.differences])
    left = iter(pairs)
    return {
        name: replace(one, tests=len(pairs), differences=list(islice(left, len(one.differences))))
        for name, one in sets.items()
    }
