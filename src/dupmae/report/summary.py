"""A report in words and tables: the outcome in three lines, the table of systems, and how numbers are written.

A report is the dictionary that becomes report.json; `write_report` names its keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from dupmae.evaluation.significance import holm

Report = dict[str, Any]

HYBRID = "dupmae-hybrid"
METRICS = {"ndcg@10": "nDCG@10", "mrr@10": "MRR@10", "recall@100": "Recall@100"}
COLUMNS = ["System", *METRICS.values(), "Index", "Queries/s", "p"]

# Below this corrected p-value a difference is told as one.
_SIGNIFICANT = 0.05


class Cell(NamedTuple):
    """One table entry; `best` marks the highest value of a metric."""

    text: str
    best: bool = False


def bytes_text(count: float) -> str:
    """12.3 MB: decimal units, one digit after the point below 100."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """4.2 s or 8 min 03 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def p_text(p: float) -> str:
    """The relation belongs to it: `< 0.001` or `0.034`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def corrected_p(report: Report) -> dict[str, float]:
    """System -> p-value of the DupMAE hybrid against it, Holm-corrected over all comparisons made."""
    corrected = holm(report["p_values"])
    keys = {name: "hybrid_vs_" + name.replace("-", "_") for name in report["systems"]}
    return {name: corrected[key] for name, key in keys.items() if key in corrected}


def table_rows(report: Report) -> list[list[Cell]]:
    """The table of systems, a row a system in the report's order, without the head (`COLUMNS`)."""
    systems, p_values = report["systems"], corrected_p(report)
    best = {metric: max(system[metric] for system in systems.values()) for metric in METRICS}
    rows = []
    for name, system in systems.items():
        rate = system["queries_per_second"]
        rows.append(
            [
                Cell(system["label"]),
                *(Cell(f"{system[metric]:.3f}", system[metric] == best[metric]) for metric in METRICS),
                Cell(bytes_text(system["index_bytes"])),
                Cell(f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"),
                Cell(p_text(p_values[name]) if name in p_values else "–"),
            ]
        )
    return rows


def table_notes(report: Report) -> list[str]:
    """What a reader must know to read the table rightly."""
    budget = report["fine_tuning"]
    return [
        f"All fine-tuned rows had the same budget: {budget['steps']:,} steps of {budget['batch_size']:,} queries.",
        f"p: {report['systems'][HYBRID]['label']} against the row on nDCG@10 of each test query, paired "
        f"randomisation test, two-sided, Holm-corrected for {len(report['p_values'])} comparisons "
        "(report.json has the uncorrected values).",
    ]


def outcome(report: Report) -> list[str]:
    """The outcome in three plain lines, good or bad."""
    systems, data = report["systems"], report["dataset"]
    hybrid = systems[HYBRID]
    figures = ", ".join(f"{title} {hybrid[metric]:.3f}" for metric, title in METRICS.items())
    winner = max(systems.values(), key=lambda system: system["ndcg@10"])
    documents = data.get("corpus_documents", data["documents"])
    return [
        f"{hybrid['label']} reaches {figures} on {data['test_queries']:,} test queries among {documents:,} documents.",
        _compared(report, ["bm25", "base", "no-pretraining"]),
        f"{_compared(report, ['finetuned-dense'])} Highest nDCG@10 of all rows: {winner['label']}, "
        f"{winner['ndcg@10']:.3f}.",
    ]


def _compared(report: Report, names: Sequence[str]) -> str:
    """One sentence on how the hybrid stands against some systems."""
    systems, p_values = report["systems"], corrected_p(report)
    groups: dict[str, list[str]] = {}
    for name in names:
        other = systems[name]["ndcg@10"]
        verdict = "better than" if systems[HYBRID]["ndcg@10"] > other else "worse than"
        if p_values[name] >= _SIGNIFICANT:
            verdict = "not distinguishable from"
        p = p_text(p_values[name]) if p_values[name] < 0.001 else f"= {p_text(p_values[name])}"
        groups.setdefault(verdict, []).append(f"{systems[name]['label']} ({other:.3f}, p {p})")
    return f"By nDCG@10 it is {'; '.join(f'{verdict} {_and(found)}' for verdict, found in groups.items())}."


def _and(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def format_table(report: Report) -> str:
    """The table of systems and its notes as aligned plain text; `*` marks the best of a column."""
    # Every entry keeps a place for the mark, so that the digits of a column stay below each other.
    marked = [[cell.text + ("*" if cell.best else " ") for cell in row] for row in table_rows(report)]
    rows = [[f"{column} " for column in COLUMNS], *marked]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
    rule = "-" * max(map(len, lines))
    return "\n".join([lines[0], rule, *lines[1:], "", "* best of its column.", *table_notes(report)])


def format_markdown(report: Report) -> str:
    """The table of systems as Markdown, best values in bold."""
    lines = [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)]]
    lines += [[f"**{cell.text}**" if cell.best else cell.text for cell in row] for row in table_rows(report)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{' '.join(table_notes(report))}\n"
