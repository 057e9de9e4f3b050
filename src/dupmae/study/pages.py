"""README.md and plots of a study, from nothing but its study.json."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from dupmae.files import write_text
from dupmae.report import charts
from dupmae.report.tables import Cell, Table, markdown
from dupmae.report.text import NOTHING, interval_text, listed, p_relation, score_text
from dupmae.study.statistics import LEVEL, Cells, Difference, Levels, Row

README = "README.md"


def write_results(record: Mapping[str, Any], out: Path, *, plots: bool) -> Path:
    """Write README.md, and a plot for each axis that has a finished cell; returns the former.

    Args:
        plots: whether the plots are drawn anew, which takes longer than the rest.

    Raises:
        DupmaeError: when matplotlib is not installed or a file cannot be written.
    """
    cells = Cells(record)
    sections = [_opening(cells), _findings(cells), *(_section(cells, axes, out, plots) for axes in _groups(cells))]
    return write_text(out / README, "\n".join(section for section in sections if section))


def _groups(cells: Cells) -> list[list[str]]:
    return [*([axis] for axis in cells.study["axes"]), *cells.study["cross"]]


def _opening(cells: Cells) -> str:
    """What was run, on what, and with what budget."""
    study, runs = cells.study, cells.runs()
    lines = [f"# {study['title']}", ""]
    lines += ["Written by `dupmae study` from `study.json`, where every run's settings and figures are.", ""]
    if not runs:
        return "\n".join([*lines, "No cell is finished yet.", ""])
    names = {_named(cells, run["settings"]) for run in runs}
    seeds = sorted({run["seed"] for run in runs})
    devices = sorted({f"{run['hardware']['device']}, {_threads(run)}" for run in runs})
    trained = [run for run in runs if "pretrain" in run["steps"]]
    spent = {name: [_minutes(run, name) for run in runs if name in run["seconds"]] for name in _STAGES}
    told = ", ".join(f"{_STAGES[name]} {fmean(found):.1f}" for name, found in spent.items() if found)
    lines += [
        "## What was run",
        "",
        f"- {len(runs)} runs: {len(names)} cells, {_seeds(seeds)}, on {'; '.join(devices)}.",
        f"- Budget: {study['flops']:.2g} operations of pre-training for every cell, counted from shapes forward and "
        "backward (padding and elementwise work left out). A cheaper objective gets more steps for it. Equal seconds "
        "would reward whichever cell the machine was idle for.",
        f"- Processor minutes of a run, mean: {told}.",
    ]
    if trained:
        minutes = fmean(_minutes(run, "pretrain") for run in trained)
        steps = [run["steps"]["pretrain"]["steps"] for run in trained]
        lines.append(
            f"- So this is the effect of {minutes:.1f} processor minutes of pre-training, {min(steps):,} to "
            f"{max(steps):,} steps. The papers' is eight epochs over Wikipedia and BookCorpus on eight GPUs."
        )
    lines += [
        f"- Fine-tuning is the same for every cell: the same pairs ({listed(study['pairs'])}) in the same order for a "
        "seed, the same number of steps. A cell without pre-training gets no other training instead.",
        f"- Measured on {listed(cells.tests)}: nDCG@10, averaged over queries, then over collections. ± is the "
        "standard deviation over seeds.",
        "- p: two-sided paired randomisation over queries (values averaged over seeds first), Holm-corrected within a "
        "table. It says whether the queries agree, not whether other seeds would.",
    ]
    if cells.older:
        lines.append(
            "- Kept in `study.json` and not shown, because of other settings or from before the networks were computed "
            f"as they are now: {cells.older}."
        )
    lines.append("")
    return "\n".join(lines)


_STAGES = {
    "pretrain": "pre-training",
    "second": "second stage",
    "finetune": "fine-tuning",
    "evaluate": "evaluation",
}


def _findings(cells: Cells) -> str:
    """Every claim with what the cells say to it."""
    findings = cells.study["findings"]
    if not findings:
        return ""
    pairs = {str(place): (found["better"], found["worse"]) for place, found in enumerate(findings)}
    known = cells.differences(pairs)
    rows = []
    for place, found in enumerate(findings):
        difference = known.get(str(place))
        compared = f"{_named(cells, found['better'])} / {_named(cells, found['worse'])}"
        figures = [NOTHING, NOTHING, "not run yet", NOTHING, NOTHING] if difference is None else _figures(difference)
        rows.append([found["claim"], found["quoted"] or NOTHING, compared, *figures])
    head = ["claim", "papers", "cells compared", "difference", "p", "here"]
    head += ["by seed", "95% interval, seeds and queries"]
    lines = [
        "What holds, holds over queries: p and the verdict take the seeds as they are. Beside it stand the sign of the "
        "difference for each seed, and the interval in which its average would be with other seeds and other queries.",
        "",
        markdown(Table(head, rows, names=len(head))),
        "",
    ]
    notes = [f"- {found['claim']}: {found['note']}" for found in findings if found["note"]]
    return "\n".join(["## The papers' findings", "", *lines, *notes, *([""] if notes else [])])


def _figures(difference: Difference) -> list[str]:
    signs = "".join("+" if value > 0 else "−" if value < 0 else "0" for value in difference.by_seed)
    interval = interval_text(difference.low, difference.high) if len(difference.seeds) > 1 else NOTHING
    return [f"{difference.average:+.4f}", p_relation(difference.p), verdict(difference), signs, interval]


def verdict(difference: Difference) -> str:
    """Whether a claim holds, in words."""
    significant = difference.p < LEVEL
    if difference.average > 0:
        said = "holds" if significant else "same direction, not significant"
    elif difference.average < 0:
        said = "does not hold: the opposite" if significant else "opposite direction, not significant"
    else:
        said = "no difference"
    return said + (", one seed" if len(difference.seeds) == 1 else "")


def _section(cells: Cells, axes: Sequence[str], out: Path, plots: bool) -> str:
    """Tables and plot of an axis, or of several that are crossed."""
    chosen = {name: row for name, levels in _levels(cells, axes) if (row := cells.row(levels)) is not None}
    if not chosen:
        return ""
    references = {name: row for name in cells.study["references"] if (row := cells.row({"system": name})) is not None}
    baseline = cells.row(cells.study["baseline"])
    title = " x ".join(axes)
    picture = f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}.png"
    if plots:
        note = _count(chosen.values())
        note += "" if baseline is None else f"; dashed: {_named(cells, baseline.levels)}"
        _plot(cells, chosen, baseline, note).write(out / picture)
    parts = [f"## {title[:1].upper()}{title[1:]}", "", markdown(_means(cells, references | chosen)), ""]
    parts += [f"![{title}]({picture})", ""]
    if baseline is not None:
        parts += _differences(cells, chosen, baseline)
    missing = [name for name, levels in _levels(cells, axes) if name not in chosen]
    parts += [f"Not run yet: {listed(missing)}.", ""] if missing else []
    return "\n".join(parts)


def _plot(cells: Cells, rows: Mapping[str, Row], baseline: Row | None, note: str) -> charts.Chart:
    def values(row: Row) -> list[float]:
        return [row.average, *(row.sets[test] for test in cells.tests)]

    return charts.levels(
        {name: values(row) for name, row in rows.items()},
        ["average", *cells.tests],
        {name: row.spread for name, row in rows.items()},
        None if baseline is None else values(baseline),
        f"nDCG@10; {note}",
    )


def _levels(cells: Cells, axes: Sequence[str]) -> Iterator[tuple[str, Levels]]:
    """Names and levels of the cells of a section."""
    study = cells.study
    first = {axis: levels[0] for axis, levels in study["axes"].items()}
    for found in product(*(study["axes"][axis] for axis in axes)):
        levels = first | dict(zip(axes, found, strict=True))
        yield ", ".join(found), study["same"].get(_joined(levels), levels)


def _joined(levels: Levels) -> str:
    return "\n".join(levels.values())


def _means(cells: Cells, rows: Mapping[str, Row]) -> Table:
    if cells.study["rows"] == "sets":
        return _by_set(cells, rows)
    head = ["", *cells.tests, "average", "recall@100", "steps", "processor minutes", "seeds"]
    table = []
    for name, row in rows.items():
        figures = [score_text(row.sets[test]) for test in cells.tests]
        steps = f"{row.steps:,.0f}" if row.steps else NOTHING
        seeds = NOTHING if "system" in row.levels else str(len(row.seeds))
        table.append([name, *figures, _spread(row), score_text(row.recall), steps, f"{row.minutes:.1f}", seeds])
    return Table(head, table)


def _by_set(cells: Cells, rows: Mapping[str, Row]) -> Table:
    """A column for each system, as BEIR's table has it; the best of a row in bold."""
    table: list[list[Cell | str]] = []
    for test in cells.tests:
        best = max(row.sets[test] for row in rows.values())
        table.append([test, *(Cell(score_text(row.sets[test]), row.sets[test] == best) for row in rows.values())])
    best = max(row.average for row in rows.values())
    table.append(["average", *(Cell(_spread(row), row.average == best) for row in rows.values())])
    return Table(["", *rows], table)


def _differences(cells: Cells, rows: Mapping[str, Row], baseline: Row) -> list[str]:
    """Differences to the cell that all others are compared with."""
    others = {name: (row.levels, baseline.levels) for name, row in rows.items() if row.levels != baseline.levels}
    known = cells.differences(others)
    if not known:
        return []
    head = [f"less {_named(cells, baseline.levels)}", *cells.tests, "average"]
    table = [
        [
            name,
            *(f"{found.sets[test]:+.4f} ({p_relation(found.sets_p[test])})" for test in cells.tests),
            f"{found.average:+.4f} ({p_relation(found.p)})",
        ]
        for name, found in known.items()
    ]
    return ["Differences, with p in brackets:", "", markdown(Table(head, table)), ""]


def _named(cells: Cells, levels: Levels) -> str:
    """The levels of a cell that are not the first of their axis; of the cell of all first ones, the first."""
    axes = cells.study["axes"]
    first = next(iter(axes))
    others = [level if axis == first else f"{axis} {level}" for axis, level in levels.items() if level != axes[axis][0]]
    return ", ".join(others) or str(levels[first])


def _spread(row: Row) -> str:
    return score_text(row.average) + ("" if row.spread is None else f" ± {score_text(row.spread)}")


def _count(rows: Iterable[Row]) -> str:
    counts = [len(row.seeds) for row in rows]
    fewest, most = min(counts), max(counts)
    if most == 1:
        return "one seed"
    told = f"bars: standard deviation over {max(fewest, 2)} or more seeds"
    return told if fewest > 1 else f"{told}, without: one seed"


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {listed(map(str, seeds))}"


def _minutes(run: Mapping[str, Any], stage: str) -> float:
    return float(run["seconds"][stage]["processor"]) / 60


def _threads(run: Mapping[str, Any]) -> str:
    count = run["hardware"]["threads"]
    return "1 thread" if count == 1 else f"{count} threads"
