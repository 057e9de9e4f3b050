"""Results on several data sets, as those of BEIR: one comparison a set, corrected together, and averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dupmae.comparison.comparing import Comparison, compare
from dupmae.comparison.results import Result, read_names
from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.evaluation.runs import METRICS_FILE
from dupmae.evaluation.significance import holm
from dupmae.files import read_json
from dupmae.recipe import Compare


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
    def quoted(self) -> list[str]:
        """Labels of the papers' systems that have a number of this metric on one of the sets."""
        lines = (line for found in self.sets.values() for line in found.quoted if self.metric in line.metrics)
        return list(dict.fromkeys(line.label for line in lines))

    def values(self, system: str) -> dict[str, float]:
        """Set -> value of a system measured here."""
        return {
            name: next(one.metrics[self.metric] for one in found.systems if one.name == system)
            for name, found in self.sets.items()
        }

    def quoted_values(self, label: str) -> dict[str, float]:
        """Set -> value of a paper's system, of the sets that it has a number for."""
        return {
            name: line.metrics[self.metric]
            for name, found in self.sets.items()
            for line in found.quoted
            if line.label == label and self.metric in line.metrics
        }

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "metric": self.metric,
            "average": {name: average(self.values(name)) for name in self.systems.values()},
            "left_out": self.left_out,
            "sets": {name: found.as_dict() for name, found in self.sets.items()},
        }


def average(values: Mapping[str, float]) -> float:
    """The mean over data sets; those in one folder, as the forums of cqadupstack, count as one by their own mean.

    >>> average({"scifact": 0.5, "cqadupstack/gis": 0.25, "cqadupstack/tex": 0.75})
    0.5
    """
    groups: dict[str, list[float]] = {}
    for name, value in values.items():
        groups.setdefault(name.partition("/")[0], []).append(value)
    return math.fsum(math.fsum(group) / len(group) for group in groups.values()) / len(groups)


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
