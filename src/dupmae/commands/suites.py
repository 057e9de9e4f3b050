"""`dupmae evaluate --suite`, and `dupmae plan suite=`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dupmae.commands.base import Command, Outcome, check_folder, command_line, written

if TYPE_CHECKING:
    from dupmae import recipe


def evaluate(settings: recipe.EvaluateSuite) -> Outcome:
    """A retriever by one of the papers' benchmarks."""
    from dupmae.suites import evaluate_suite, out_folder

    out = out_folder(settings)
    check_folder(out, replaced=False)
    result = evaluate_suite(settings)
    name = "SUITE" if settings.suite != "sts" else "senteval-transfer"
    after = command_line("evaluate", settings.retriever, "--suite", name, "--data", "DIR")
    return written(result, out, _files(result), after, _rows(result))


def _rows(result: dict[str, Any]) -> list[str]:
    rows = [result["protocol"]] if "protocol" in result else []
    for name, told in result.get("sets", {}).items():
        shown = "  ".join(f"{metric} {value:.4f}" for metric, value in told["metrics"].items())
        rows.append(f"{name:<24} {shown}  ({told.get('licence', 'licence unknown')})")
    width = max(map(len, result["metrics"]))
    digits = 2 if "protocol" in result else 4
    rows += [f"{name:<{width}} {value:.{digits}f}" for name, value in result["metrics"].items()]
    if result.get("missing"):
        rows.append(f"not there: {', '.join(result['missing'])}")
    if result.get("official") is False:
        rows.append("the data has not the official counts: these numbers are not those of the benchmark")
    return rows + [f"note: {note}" for note in result.get("notes", [])]


def _files(result: dict[str, Any]) -> dict[str, str]:
    counts = result.get("counts", {})
    told = ", ".join(f"{value:,} {name}" for name, value in counts.items() if isinstance(value, int))
    if result["suite"] == "sts":
        return {"metrics.json": "", "pairs.json": "gold score and cosine of every pair"}
    if result["suite"] == "senteval-transfer":
        return {"metrics.json": ""}
    if result["suite"] == "beir":
        return {"metrics.json": "and a folder for each data set"}
    return {"metrics.json": told, "per_query.json": "every metric of every query", "run.trec": "the rankings"}


EVALUATE = Command(
    "evaluate",
    "one of the papers' benchmarks",
    evaluate,
    "EvaluateSuite",
    ("retriever", "data", "out", "split", "suite"),
    words="retriever",
)
