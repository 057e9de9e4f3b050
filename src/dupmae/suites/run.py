"""A suite by its name: retrieval collections, BEIR, STS and SentEval's transfer tasks."""

from __future__ import annotations

from typing import Any

from dupmae.recipe.suites import EvaluateSuite
from dupmae.retriever import Retriever
from dupmae.suites.beir import evaluate_beir
from dupmae.suites.collections import open_collection
from dupmae.suites.results import out_folder
from dupmae.suites.retrieval import evaluate_collection
from dupmae.suites.similarity import evaluate_sts
from dupmae.suites.transfer import evaluate_transfer


def evaluate_suite(settings: EvaluateSuite) -> dict[str, Any]:
    """Measure a retriever by a suite, write the results to a folder and return what its metrics.json says.

    Raises:
        DupmaeError: for a retriever or data that cannot be read, are missing, or are not whole.
    """
    out = out_folder(settings)
    several = {"beir": evaluate_beir, "sts": evaluate_sts, "senteval-transfer": evaluate_transfer}
    if settings.suite in several:
        return several[settings.suite](settings, Retriever.load(settings.retriever), out)
    # Data first: opening a model takes seconds, and most mistakes are in the data.
    collection = open_collection(settings)
    return evaluate_collection(settings, collection, Retriever.load(settings.retriever), out)
