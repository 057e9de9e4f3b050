"""`dupmae report`: the curves of a run's log, as a page of its own and as a picture.

`write_curves` reads RUN/log.jsonl and writes RUN/report.html and RUN/curves.png.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.report import run_charts as figures
from dupmae.report import run_page as page
from dupmae.report import summary
from dupmae.training.log import GROUPS, Curve, curves, read_log

PAGE, PICTURE = "report.html", "curves.png"


def write_curves(run: Path) -> dict[str, Any]:
    """Draw the curves of a run; returns their number, steps, and first, last and best of every quality.

    Raises:
        DupmaeError: when there is no log to draw, matplotlib is not installed, or a file cannot be written.
    """
    found = curves(read_log(run))
    if not found:
        raise DupmaeError("its log has no figures to draw", where=run, fix="name the folder of a training run")
    steps = max(curve.steps[-1] for curve in found)
    figures.curve_sheet(run / PICTURE, [(curve.title, curve.steps, curve.values) for curve in found])
    write_text(run / PAGE, _page(run, found, steps))
    told = {
        curve.name: {
            "first": curve.values[0],
            "last": curve.values[-1],
            "best": curve.best[1],
            "best_step": curve.best[0],
        }
        for curve in found
        if curve.group != "speed"
    }
    written = {"report": str(run / PAGE), "picture": str(run / PICTURE)}
    return {"steps": steps, "curves": len(found), "figures": told, **written}


def _page(run: Path, found: Sequence[Curve], steps: int) -> str:
    sections = [_header(run, found, steps)]
    for name, title in GROUPS.items():
        drawn = [figures.curve(curve.title, curve.steps, curve.values) for curve in found if curve.group == name]
        charts = "".join(f"<figure>{chart}</figure>" for chart in drawn)
        sections.append(page.section(title, f'<div class="charts">{charts}</div>' if charts else ""))
    sections.append(page.section("Figures", _table(found)))
    return page.document(f"Training curves of {run.name}", "".join(sections))


def _header(run: Path, found: Sequence[Curve], steps: int) -> str:
    by_name = {curve.name: curve for curve in found}
    said = [
        _outcome(by_name[name])
        for name in ("loss", "mlm_accuracy", "probe_cls_mrr@10", "probe_bow_mrr@10")
        if name in by_name
    ]
    tiles = [("steps", f"{steps:,}")]
    if "tokens_per_second" in by_name:
        tiles.append(("tokens a second", f"{_median(by_name['tokens_per_second'].values):,.0f}"))
    for name, title in (("utilisation", "of matrix-product peak"), ("padding_share", "padding")):
        if name in by_name:
            tiles.append((title, f"{_median(by_name[name].values):.1%}"))
    if "seconds_left" in by_name and by_name["seconds_left"].values[-1] > 0:
        tiles.append(("left", summary.seconds_text(by_name["seconds_left"].values[-1])))
    lines = "".join(f"<p>{page.escaped(line)}</p>" for line in said)
    title = page.escaped(f"Training curves of {run.name}")
    return f'<header>\n<h1>{title}</h1>\n<div class="outcome">{lines}</div>\n{page.tiles(tiles)}</header>\n'


def _outcome(curve: Curve) -> str:
    step, best = curve.best
    tail = "" if step == curve.steps[-1] else f"; best {best:.4g} at step {step:,}"
    first, last = (f"{curve.values[end]:.4g} at step {curve.steps[end]:,}" for end in (0, -1))
    return f"{curve.title[0].upper()}{curve.title[1:]}: {first}, {last}{tail}."


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _table(found: Sequence[Curve]) -> str:
    rows = []
    for curve in found:
        step, best = curve.best
        mark = f"{best:.4g} (step {step:,})" if curve.group != "speed" else "–"
        cells = "".join(f"<td>{cell}</td>" for cell in (f"{curve.values[0]:.4g}", f"{curve.values[-1]:.4g}", mark))
        rows.append(f'<tr><th scope="row">{page.escaped(curve.name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in ("in log.jsonl", "first", "last", "best"))
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )
