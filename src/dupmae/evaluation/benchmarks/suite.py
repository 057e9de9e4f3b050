"""A suite by its name: retrieval collections, BEIR, STS and SentEval's transfer tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dupmae.evaluation.benchmarks.beir import evaluate_beir, open_sets
from dupmae.evaluation.benchmarks.collections import open_collection
from dupmae.evaluation.benchmarks.retrieval import evaluate_collection
from dupmae.evaluation.benchmarks.sts import evaluate_sts, open_sts
from dupmae.evaluation.benchmarks.suite_results import out_folder
from dupmae.evaluation.benchmarks.transfer import evaluate_transfer, open_transfer
from dupmae.files import check_folder
from dupmae.retriever.model import Retriever
from dupmae.settings.benchmarks import EvaluateSuite

# How the data of a suite is opened, and a retriever measured on it; the others are one collection each.
SUITES: dict[str, tuple[Callable[[EvaluateSuite], Any], Callable[..., dict[str, Any]]]] = {
    "beir": (open_sets, evaluate_beir),
    "sts": (open_sts, evaluate_sts),
    "senteval-transfer": (open_transfer, evaluate_transfer),
}


def evaluate_suite(settings: EvaluateSuite) -> dict[str, Any]:
    """Measure a retriever by a suite, write the results to a folder and return what its metrics.json says.

    Raises:
        DupmaeError: for a retriever or data that cannot be read, are missing, or are not whole, and for a file
            where the results go.
    """
    check_folder(out_folder(settings))
    opening, evaluating = SUITES.get(settings.suite, (open_collection, evaluate_collection))
    # Data first: opening a model takes seconds, and most mistakes are in the data.
    data = opening(settings)
    return evaluating(settings, data, Retriever.load(settings.retriever), out_folder(settings))
