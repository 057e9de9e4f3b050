"""`dupmae study`: run the cells that are not finished, and write what all of them show.

`study.json` holds every finished cell, so a study goes on where it was stopped, on the same machine or on another
that is given the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import read_json, remove_leftovers, write_text
from dupmae.locks import locked
from dupmae.settings import Study
from dupmae.study.cells import Cells, Work
from dupmae.study.grid import Cell, cell_of, check, combined, expand, first_levels
from dupmae.study.pages import write_results

RECORD = "study.json"
Entry = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """What a study has come to: its cells so far, how many are planned, and how many this call ran."""

    record: Path
    finished: int
    planned: int
    ran: int


def study(settings: Study, recipe: Path | None = None) -> Done:
    """Run every cell of the grid with every seed that is not in `study.json` yet, and write the results.

    Args:
        recipe: the file the settings came from, whose lines errors name.

    Raises:
        DupmaeError: for settings that a stage refuses, before any cell is run, and whatever a stage raises.
        SystemExit: with code 143 after SIGTERM, 130 after Ctrl-C; the same command goes on.
    """
    check(settings, recipe)
    cells = Cells(settings)
    grid = expand(settings)

    @cache
    def works(seed: int) -> dict[str, Work]:
        return {work.key: work for work in (cells.work(cell, seed) for cell in grid)}

    references = {work.key: work for work in cells.references()}
    planned = {key: work for seed in settings.seeds for key, work in works(seed).items()}
    chosen = expand(settings, settings.only)
    wanted = [cells.work(cell, seed).key for seed in settings.seeds for cell in chosen]
    record = _Record(settings, grid, works, references)
    todo = [references[key] for key in references if key not in record.entries and settings.limit != 0]
    todo += [planned[key] for key in wanted if key not in record.entries][: settings.limit]
    try:
        for number, work in enumerate(todo, 1):
            name = work.levels["system"] if work.cell is None else work.cell.name(first_levels(settings))
            logger.info(f"-- {name}, seed {work.seed} ({number} of {len(todo)})")
            record.add(cells.run(work))
            cells.clean(work, [planned[key] for key in planned if key not in record.entries])
    finally:
        record.write(plots=True)
    finished = sum(key in record.entries for key in planned)
    ran = sum(work.cell is not None for work in todo)
    return Done(settings.out / RECORD, finished, len(planned), ran)


class _Record:
    """`study.json`: the finished cells, by what they are made of."""

    def __init__(
        self,
        settings: Study,
        cells: list[Cell],
        works: Callable[[int], dict[str, Work]],
        references: Mapping[str, Work],
    ) -> None:
        self.settings, self._works, self.references = settings, works, references
        self._told = _told(settings, cells, [work.levels["system"] for work in references.values()])
        self.path = settings.out / RECORD
        self.entries: dict[str, Entry] = {}
        settings.out.mkdir(parents=True, exist_ok=True)
        remove_leftovers(settings.out)
        for path in settings.merge:
            self._take(path)
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have finished."""
        if self.path.exists():
            self._take(self.path)

    def _take(self, path: Path) -> None:
        found = read_json(path)
        cells = found.get("cells") if isinstance(found, dict) else None
        if not isinstance(cells, list) or not all(
            isinstance(cell, dict) and {"key", "seed"} <= cell.keys() for cell in cells
        ):
            raise DupmaeError("is no record of a study", where=path, fix="give a study.json")
        self.entries = {cell["key"]: cell for cell in cells} | self.entries

    def add(self, entry: Entry) -> None:
        """Take in a finished cell and write everything anew but the plots."""
        self.entries[entry["key"]] = entry
        self.write(plots=False)

    def write(self, *, plots: bool) -> None:
        """Write study.json, and from it all that people read."""
        with locked(self.path, wait=True):
            self.refresh()
            record = {"study": self._told, "cells": list(self._named())}
            write_text(self.path, _in_lines(record))
        write_results(read_json(self.path), self.settings.out, plots=plots)

    def _named(self) -> Iterator[Entry]:
        """Finished cells in the order of the grid, under its names; then those of other settings."""
        names: dict[str, Mapping[str, str]] = {key: work.levels for key, work in self.references.items()}
        # Seeds that are not asked for this time are of the same study.
        seeds = sorted({*self.settings.seeds, *(entry["seed"] for entry in self.entries.values())})
        names |= {key: work.levels for seed in seeds for key, work in self._works(seed).items()}
        for key, levels in names.items():
            if key in self.entries:
                yield self.entries[key] | {"settings": dict(levels), "current": True}
        for key, entry in self.entries.items():
            if key not in names:
                yield entry | {"current": False}


def _told(settings: Study, cells: list[Cell], references: list[str]) -> dict[str, Any]:
    """What the results need to know of the recipe. Equal cells go by the name of the first of them."""
    names = {repr(cell.stages): cell.levels for cell in cells}

    def named(levels: Mapping[str, str]) -> Mapping[str, str]:
        cell = cell_of(settings, levels)
        return dict(names.get(repr(cell.stages), cell.levels))

    groups = [*([axis] for axis in settings.axes), *settings.cross]
    first = first_levels(settings)
    every = [first | levels for axes in groups for levels in combined(settings, axes)]
    return {
        "title": settings.title,
        "flops": settings.flops,
        "seeds": settings.seeds,
        "axes": {axis: list(levels) for axis, levels in settings.axes.items()},
        "cross": settings.cross,
        "same": {"\n".join(levels.values()): found for levels in every if (found := named(levels)) != levels},
        "baseline": named(settings.baseline),
        "references": references,
        "tests": list(settings.tests),
        "pairs": list(settings.pairs),
        "rows": settings.rows,
        "findings": [
            finding.model_dump() | {"better": named(finding.better), "worse": named(finding.worse)}
            for finding in settings.findings
        ],
        "stages": {"pretrain": settings.pretrain, "second": settings.second, "finetune": settings.finetune},
    }


def _in_lines(record: Mapping[str, Any]) -> str:
    """JSON with a line for each cell, so that a cell more is a line more."""
    told = json.dumps(record["study"], ensure_ascii=False, indent=1)
    cells = ",\n".join(json.dumps(cell, ensure_ascii=False) for cell in record["cells"])
    return f'{{"study": {told},\n"cells": [\n{cells}\n]}}\n'
