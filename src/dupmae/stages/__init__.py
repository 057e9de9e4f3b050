"""The stages, one file each. `STAGES` says what each is called with and where it is; `call` runs one.

A stage's module is imported when it is called, since it brings torch and transformers with it.
"""

from __future__ import annotations

import gc
import os
from contextlib import nullcontext
from glob import has_magic
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dupmae.errors import DupmaeError
from dupmae.files import check_folder
from dupmae.locks import locked
from dupmae.settings.models import check_model

if TYPE_CHECKING:
    from dupmae.settings import Settings

# Settings that name a model: a folder, or a name that stands for one.
MODELS = ("model", "tokenizer", "retriever", "teacher")


class Stage(NamedTuple):
    """What a stage is called with, and where it is.

    Attributes:
        settings: name of its class in `dupmae.settings`.
        writes: what kind of folder its `out` is; None where it writes files into one.
        recipe: whether it is called with the file of its settings, too.
    """

    settings: str
    module: str
    function: str
    writes: str | None = None
    recipe: bool = False


STAGES = {
    "quickstart": Stage("Quickstart", "dupmae.stages.quickstart", "quickstart"),
    "prepare": Stage("Prepare", "dupmae.stages.prepare", "prepare", "shards"),
    "pretrain": Stage("Pretrain", "dupmae.stages.pretrain", "pretrain"),
    "plan": Stage("Plan", "dupmae.stages.plan", "plan"),
    "report": Stage("Report", "dupmae.stages.report", "report"),
    "synthesize": Stage("Synthesize", "dupmae.stages.synthesize", "synthesize", "a corpus"),
    "finetune": Stage("Finetune", "dupmae.stages.finetune", "finetune", "a retriever"),
    "mine": Stage("Mine", "dupmae.stages.mine", "mine"),
    "train-reranker": Stage("TrainReranker", "dupmae.stages.train_reranker", "train_reranker"),
    "distill": Stage("Distill", "dupmae.stages.distill", "distill", "a retriever"),
    "rerank": Stage("Rerank", "dupmae.stages.rerank", "rerank"),
    "index": Stage("Index", "dupmae.stages.index", "build", "an index"),
    "search": Stage("Search", "dupmae.stages.search", "search"),
    "evaluate": Stage("Evaluate", "dupmae.stages.evaluate", "evaluate_retriever"),
    "evaluate-suite": Stage("EvaluateSuite", "dupmae.evaluation.benchmarks.suite", "evaluate_suite"),
    "compare": Stage("Compare", "dupmae.stages.compare", "compared"),
    "export": Stage("Export", "dupmae.stages.export", "export", "a retriever"),
    "documentation": Stage("Documentation", "dupmae.stages.documentation", "documentation", "a corpus"),
    "gather": Stage("Gather", "dupmae.stages.gather", "gather", "a corpus"),
    "untrained": Stage("Untrained", "dupmae.stages.untrained", "untrained", "an encoder"),
    "from-encoder": Stage("FromEncoder", "dupmae.stages.from_encoder", "from_encoder", "a retriever"),
    "merge": Stage("Merge", "dupmae.stages.merge", "merge"),
    "run": Stage("Chain", "dupmae.stages.chain", "chain", recipe=True),
    "study": Stage("Study", "dupmae.study.runner", "study", recipe=True),
}


def call(stage: Stage, settings: Settings, recipe: Path | None = None) -> Any:
    """Run a stage on checked settings and give what it returns.

    Raises:
        DupmaeError: for a file or folder that is not there, and an `out` that another process is writing, before the
            stage is imported; whatever the stage raises.
    """
    out = getattr(settings, "out", None)
    if out is not None:
        check_folder(out, stage.writes)
    _check_inputs(settings)
    # Imports make objects by the hundred thousand and free none: collecting garbage took 0.8 of 3.8 s.
    gc.disable()
    try:
        function = getattr(import_module(stage.module), stage.function)
    finally:
        gc.enable()
    # Of the processes of one run the first one writes.
    with locked(out) if out is not None and os.environ.get("RANK", "0") == "0" else nullcontext():
        return function(settings, recipe) if stage.recipe else function(settings)


def _check_inputs(settings: Settings, prefix: str = "") -> None:
    """Refuse settings that name a file, a folder or a model that is not there."""
    for name in (name for name in type(settings).model_fields if name not in settings.need_not_exist):
        value = getattr(settings, name)
        if hasattr(value, "need_not_exist"):
            _check_inputs(value, f"{prefix}{name}.")
        elif name in MODELS and value is not None:
            check_model(value)
        several = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        for path in several:
            if isinstance(path, Path) and name not in MODELS and not _is_there(path):
                fix = f"it is given as {prefix}{name}: check the path"
                raise DupmaeError("no such file or folder", where=path, fix=fix)


def _is_there(path: Path) -> bool:
    """Whether a path can be read: globs and data sets of the hub are looked at by their readers."""
    return path.exists() or has_magic(str(path)) or str(path).startswith("hub:")
