"""`dupmae quickstart`: the chain of the recipe `quickstart`, with its values filled in."""

from __future__ import annotations

from typing import Any

from dupmae.console import logger
from dupmae.files import read_json
from dupmae.settings import Chain, Quickstart
from dupmae.settings.loading import find_recipe, load
from dupmae.settings.models import MINILM
from dupmae.stages.chain import chain

RECIPE, REPORT = "quickstart", "report"
# The encoder's own width; a smaller start has a smaller one.
WIDTH = 384
LONGEST_FINETUNE_MINUTES = 1.0
# Encoding the documents four times must not outlast a short run.
SHORT_MINUTES, PASSAGE_LENGTH, SHORT_PASSAGE_LENGTH = 4.0, 96, 64
# 1,000 a minute: encoding them for every system must not outlast the training.
QUERIES_A_MINUTE, FEWEST_QUERIES, MOST_QUERIES = 1000, 3000, 8000


def quickstart(settings: Quickstart) -> dict[str, Any]:
    """Run everything that is not finished, and return the report with the stages.

    Raises:
        DupmaeError: when the starting encoder is not installed or damaged, too little documentation is found, or a
            changed setting is none of a stage's.
    """
    if settings.from_scratch is not None:
        logger.warning(
            "starting from nothing: expect every row to stay below BM25; minutes are too few to learn a language, "
            "hours or a GPU are another matter"
        )
    ran = chain(chain_settings(settings), find_recipe(RECIPE, ""))
    report: dict[str, Any] = read_json(settings.out / REPORT / "report.json")
    return report | {"stages": [stage.as_dict() for stage in ran]}


def chain_settings(settings: Quickstart) -> Chain:
    """The recipe with the values, and the changed settings of its stages.

    Raises:
        DupmaeError: for settings that no chain has.
    """
    recipe = find_recipe(RECIPE, "")
    shape = settings.from_scratch
    short = settings.minutes < SHORT_MINUTES
    queries = int(min(MOST_QUERIES, max(FEWEST_QUERIES, QUERIES_A_MINUTE * settings.minutes)))
    values = {
        "minutes": settings.minutes,
        "finetune_minutes": settings.finetune_minutes or min(LONGEST_FINETUNE_MINUTES, 0.1 + settings.minutes / 8),
        "seed": settings.seed,
        "documents": settings.documents,
        "test_queries": settings.test_queries or queries,
        "test_documents_in_training": settings.test_documents_in_training,
        "roots": None if settings.roots is None else list(map(str, settings.roots)),
        "from_scratch": None if shape is None else shape.model_dump(),
        "tokenizer": MINILM if shape is None else None,
        "vocabulary": settings.vocabulary,
        "width": WIDTH if shape is None else min(WIDTH, shape.hidden),
        "passage_length": settings.passage_length or (SHORT_PASSAGE_LENGTH if short else PASSAGE_LENGTH),
    }
    base = load(Chain, recipe, (), out=settings.out, values=values)
    stages = {name: _merged(given, settings.stages.get(name, {})) for name, given in base.stages.items()}
    # Names that the recipe does not have come last, to be refused.
    return base.model_copy(update={"stages": {**stages, **settings.stages, **stages}})


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with some changed, group by group."""
    merged = dict(base)
    for name, value in changes.items():
        before = merged.get(name)
        merged[name] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
