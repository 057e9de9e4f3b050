"""`dupmae report`: the curves of a run's log, as a page of its own and as a picture.

`write_curves` reads RUN/log.jsonl and writes RUN/report.html and RUN/curves.png.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.report import charts
from dupmae.report.pages import PAGE, line_of, page
from dupmae.report.tables import Table
from dupmae.report.text import NOTHING, seconds_text
from dupmae.training.log import GROUPS, Curve, curves, read_log

PICTURE = "curves.png"


def write_curves(run: Path) -> dict[str, Any]:
    """Draw the curves of a run; returns their number, steps, and first, last and best of every quality.

    Raises:
        DupmaeError: when there is no log to draw, matplotlib is not installed, or a file cannot be written.
    """
    found = {curve.name: curve for curve in curves(read_log(run))}
    if not found:
        raise DupmaeError("its log has no figures to draw", where=run, fix="name the folder of a training run")
    steps = max(curve.steps[-1] for curve in found.values())
    charts.curve_sheet(list(map(line_of, found.values()))).write(run / PICTURE)
    write_text(run / PAGE, _page(run, found, steps))
    told = {
        name: {
            "first": curve.values[0],
            "last": curve.values[-1],
            "best": curve.best[1],
            "best_step": curve.best[0],
        }
        for name, curve in found.items()
        if curve.group != "speed"
    }
    written = {"report": str(run / PAGE), "picture": str(run / PICTURE)}
    return {"steps": steps, "curves": len(found), "figures": told, **written}


def _page(run: Path, found: Mapping[str, Curve], steps: int) -> str:
    drawn: dict[str, list[charts.Chart]] = {}
    for curve in found.values():
        drawn.setdefault(GROUPS[curve.group], []).append(charts.curve(line_of(curve)))
    shown = ("loss", "mlm_accuracy", "probe_cls_mrr@10", "probe_bow_mrr@10")
    outcome = [_in_a_sentence(found[name]) for name in shown if name in found]
    tiles = [("steps", f"{steps:,}"), *_tiles(found)]
    return page(
        "curves", f"Training curves of {run.name}", outcome, tiles, groups=drawn, table=_table(list(found.values()))
    )


def _tiles(found: Mapping[str, Curve]) -> Iterator[tuple[str, str]]:
    if "tokens_per_second" in found:
        yield "tokens a second", f"{median(found['tokens_per_second'].values):,.0f}"
    for name, title in (("utilisation", "of matrix-product peak"), ("padding_share", "padding")):
        if name in found:
            yield title, f"{median(found[name].values):.1%}"
    if "seconds_left" in found and found["seconds_left"].values[-1] > 0:
        yield "left", seconds_text(found["seconds_left"].values[-1])


def _in_a_sentence(curve: Curve) -> str:
    step, best = curve.best
    tail = "" if step == curve.steps[-1] else f"; best {best:.4g} at step {step:,}"
    first, last = (f"{curve.values[end]:.4g} at step {curve.steps[end]:,}" for end in (0, -1))
    return f"{curve.title[0].upper()}{curve.title[1:]}: {first}, {last}{tail}."


def _table(found: Sequence[Curve]) -> Table:
    rows = []
    for curve in found:
        step, best = curve.best
        mark = f"{best:.4g} (step {step:,})" if curve.group != "speed" else NOTHING
        rows.append([curve.name, f"{curve.values[0]:.4g}", f"{curve.values[-1]:.4g}", mark])
    return Table(["in log.jsonl", "first", "last", "best"], rows)
