"""`dupmae evaluate --suite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dupmae.commands.base import Command, Outcome, command_line, written

if TYPE_CHECKING:
    from dupmae.settings import EvaluateSuite


def evaluate(settings: EvaluateSuite, result: dict[str, Any]) -> Outcome:
    """A retriever by one of the papers' benchmarks."""
    from dupmae.evaluation.benchmarks.suite_results import out_folder

    out = out_folder(settings)
    # The two suites of sentences have no rankings to compare.
    other = {"sts": "senteval-transfer", "senteval-transfer": "sts"}.get(settings.suite)
    after = command_line("compare", out, "--bm25")
    if other is not None:
        after = command_line("evaluate", settings.retriever, "--suite", other, "--data", "DIR")
    return written(result, out, _files(result), after, _rows(result))


def _rows(result: dict[str, Any]) -> list[str]:
    from dupmae.evaluation.benchmarks.beir_sets import FORUMS

    rows = [result["protocol"]] if "protocol" in result else []
    for name, told in result.get("sets", {}).items():
        shown = "  ".join(f"{metric} {value:.4f}" for metric, value in told["metrics"].items())
        mark = "" if told["official"] else "; not the official counts"
        rows.append(f"{name:<24} {shown}  ({told.get('licence', 'licence unknown')}{mark})")
    width = max(map(len, result["metrics"]))
    digits = 2 if "protocol" in result else 4
    rows += [f"{name:<{width}} {value:.{digits}f}" for name, value in result["metrics"].items()]
    if result.get("left_out"):
        forums = f"cqadupstack is the mean of its {len(FORUMS)} forums"
        rows.append(f"in no average, since {forums}: {', '.join(result['left_out'])}")
    if result.get("missing"):
        rows.append(f"not there: {', '.join(result['missing'])}")
    if result.get("official") is False:
        apart = [name for name, told in result.get("sets", {}).items() if not told["official"]]
        which = f" of {', '.join(apart)}" if apart else ""
        rows.append(f"the data{which} has not the official counts: these numbers are not those of the benchmark")
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


EVALUATE = Command("evaluate", "one of the papers' benchmarks", "evaluate-suite", evaluate, words=("retriever",))
