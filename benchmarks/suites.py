"""The suites of sentences and one of BEIR's sets: `python -m benchmarks.suites --data DIR --json`.

Measures all-MiniLM-L6-v2 as it comes by `sts`, `senteval-transfer` and SciFact of `beir`, so that the figures can be
held against published ones of the same encoder. DIR holds the official files in any folders, SciFact's in `scifact`.
Each suite's results are kept under --out: a run that was stopped measures the rest. NAME=VALUE are settings of suites.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.encoder import as_it_comes
from dupmae import console
from dupmae.evaluation.benchmarks.suite import evaluate_suite
from dupmae.memory import keep_pages
from dupmae.settings import EvaluateSuite
from dupmae.settings.loading import load

# Tokens at which sentence-transformers cuts texts for this encoder.
LENGTH = 256
# The folder that each is looked for in, and its settings.
SUITES: dict[str, tuple[str, tuple[str, ...]]] = {
    "sts": ("", ()),
    "senteval-transfer": ("", ()),
    "beir": ("scifact", ("sets=[scifact]",)),
}


def main() -> None:
    """Measure the suites, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="settings of the suites, official=false")
    parser.add_argument("--data", type=Path, required=True, help="folder with the official files")
    parser.add_argument("--out", type=Path, default=Path("runs/suites-benchmark"), help="folder for the results")
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES), help="some of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    console.set_up(quiet=options.json)
    keep_pages()
    retriever = options.out / "encoder"
    if not retriever.is_dir():
        as_it_comes(query_length=LENGTH, passage_length=LENGTH).save(retriever)
    result = {name: _measured(name, retriever, options) for name in options.suites}
    print(json.dumps(result) if options.json else "\n".join(_line(*item) for item in result.items()))


def _measured(name: str, retriever: Path, options: argparse.Namespace) -> dict[str, Any]:
    below, settings = SUITES[name]
    given = {"suite": name, "retriever": retriever, "data": options.data / below, "out": options.out / name}
    found = evaluate_suite(load(EvaluateSuite, None, [*settings, *options.settings], **given))
    told = {key: found[key] for key in ("metrics", "notes", "protocol") if key in found}
    if "sets" in found:
        told["metrics"] = {
            f"{each} {metric}": value
            for each, measured in found["sets"].items()
            for metric, value in measured["metrics"].items()
        }
    return told


def _line(name: str, found: dict[str, Any]) -> str:
    return f"{name}: {', '.join(f'{metric} {value:.4f}' for metric, value in found['metrics'].items())}"


if __name__ == "__main__":
    main()
