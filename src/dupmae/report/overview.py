"""Results on several data sets, as those of BEIR: one comparison a set, corrected together, and averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.evaluation.significance import holm
from dupmae.files import read_json
from dupmae.report.comparison import Comparison, compare
from dupmae.report.quoted import Quoted, quoted
from dupmae.report.results import Result, read_names
from dupmae.settings import Compare


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
    def systems(self) -> dict[str, str]:
        """Letter -> name."""
        return {system.letter: system.name for system in next(iter(self.sets.values())).systems}

    @property
    def collections(self) -> dict[str, list[str]]:
        """Collection -> its sets: the forums of cqadupstack are one, every other set is one by itself."""
        found: dict[str, list[str]] = {}
        for name in self.sets:
            found.setdefault(collection_of(name), []).append(name)
        return found

    @property
    def lines(self) -> dict[str, list[Quoted]]:
        """Collection -> what papers report on it, of the metric; of forums only on all of them together."""
        found = {}
        for name, sets in self.collections.items():
            parts = [self.sets[one] for one in sets]
            lines = parts[0].quoted
            if sets != [name]:
                _, lines = quoted({name}, sum(one.queries for one in parts), sum(one.corpus for one in parts))
            found[name] = [line for line in lines if self.metric in line.metrics]
        return found

    @property
    def quoted(self) -> list[str]:
        """Labels of the papers' systems that have a number of this metric on one of the collections."""
        return list(dict.fromkeys(line.label for lines in self.lines.values() for line in lines))

    def values(self, system: str) -> dict[str, float]:
        """Set -> value of a system measured here."""
        return {
            name: next(one.metrics[self.metric] for one in found.systems if one.name == system)
            for name, found in self.sets.items()
        }

    def quoted_values(self, label: str) -> dict[str, float]:
        """Collection -> value of a paper's system, of those that it has a number for."""
        return {
            name: line.metrics[self.metric]
            for name, lines in self.lines.items()
            for line in lines
            if line.label == label
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "average": {name: average(self.values(name)) for name in self.systems.values()},
            "left_out": self.left_out,
            "sets": {name: found.as_dict() for name, found in self.sets.items()},
        }


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


def several_sets(files: Sequence[Path]) -> bool:
    """Whether results are each of several data sets.

    Raises:
        DupmaeError: when some are and some are not, or one cannot be read.
    """
    found = [read_json(_file(file)) for file in files]
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
    if settings.data is not None:
        fix = "leave it out: each result says where its data is"
        raise DupmaeError("one folder for several data sets", where="data", fix=fix)
    files = [_file(file) for file in settings.inputs]
    found = [list(read_json(file)["sets"]) for file in files]
    shared = [name for name in found[0] if all(name in names for names in found)]
    if not shared:
        raise DupmaeError("the results share no data set", where="inputs", fix="compare results of the same sets")
    # Names become folders of the output.
    outside = next((name for name in shared if name.startswith("/") or ".." in Path(name).parts), None)
    if outside is not None:
        raise DupmaeError(f"a data set called {outside!r}", where=files[0], fix="evaluate again")
    left_out = sorted({name for names in found for name in names} - set(shared))
    if left_out:
        logger.warning("left out, since not every result has them: %s", ", ".join(left_out))
    names = read_names(files, settings.names)
    sets, bm25 = {}, {}
    for name in shared:
        inputs = [file.parent / name for file in files]
        out = None if settings.out is None else settings.out / name
        sets[name], own = compare(settings.model_copy(update={"inputs": inputs, "names": names, "out": out}))
        if own is not None:
            bm25[name] = own
    return Overview(next(iter(sets.values())).metric, _corrected(sets), left_out, bm25)


def _file(given: Path) -> Path:
    return given / METRICS_FILE if given.is_dir() else given


def _corrected(sets: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The comparisons with their p-values corrected for all pairs of all sets."""
    raw = {f"{name} {place}": pair.p for name, one in sets.items() for place, pair in enumerate(one.differences)}
    corrected = holm(raw)
    return {
        name: replace(
            one,
            tests=len(raw),
            differences=[
                replace(pair, corrected=corrected[f"{name} {place}"]) for place, pair in enumerate(one.differences)
            ],
        )
        for name, one in sets.items()
    }
