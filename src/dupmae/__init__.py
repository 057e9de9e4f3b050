"""dupmae: from raw text to a measured hybrid retriever.

`Retriever` encodes, `Index` searches, `evaluate` measures a ranking. Every command is a function, too, which takes its
settings by name: `dupmae.pretrain(data="shards", out="pretraining", minutes=60)`. All names are imported when they
are first used, so that `import dupmae` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dupmae.errors import DupmaeError

if TYPE_CHECKING:
    from dupmae.evaluation.metrics import evaluate as evaluate
    from dupmae.retriever.model import Retriever as Retriever
    from dupmae.retriever.vectors import Encoded as Encoded
    from dupmae.search.documents import Hit as Hit
    from dupmae.search.index import Index as Index
    from dupmae.shards.folder import Manifest
    from dupmae.stages.compare import Compared
    from dupmae.stages.export import Exported
    from dupmae.stages.finetune import Finetuned
    from dupmae.stages.functions import StageFunction
    from dupmae.stages.mine import Mined
    from dupmae.stages.plan import Planned
    from dupmae.stages.pretrain import Pretrained
    from dupmae.stages.runner import Ran
    from dupmae.stages.synthesize import Synthesized
    from dupmae.stages.train_reranker import Taught
    from dupmae.study.runner import Done

    __version__: str
    build_index: StageFunction[Index]
    compare: StageFunction[Compared]
    distill: StageFunction[Finetuned]
    evaluate_retriever: StageFunction[dict[str, Any]]
    evaluate_suite: StageFunction[dict[str, Any]]
    export: StageFunction[Exported]
    finetune: StageFunction[Finetuned]
    mine: StageFunction[Mined]
    plan: StageFunction[Planned]
    prepare: StageFunction[Manifest]
    pretrain: StageFunction[Pretrained]
    quickstart: StageFunction[dict[str, Any]]
    rerank: StageFunction[dict[str, Any]]
    run: StageFunction[list[Ran]]
    run_study: StageFunction[Done]
    synthesize: StageFunction[Synthesized]
    train_reranker: StageFunction[Taught]

_MODULES = {
    "Encoded": "dupmae.retriever.vectors",
    "Hit": "dupmae.search.documents",
    "Index": "dupmae.search.index",
    "Retriever": "dupmae.retriever.model",
    "evaluate": "dupmae.evaluation.metrics",
}
# Functions that run a stage, with the name of its command; `study` is the name of a package here.
_STAGES = {
    "build_index": "index",
    "compare": "compare",
    "distill": "distill",
    "evaluate_retriever": "evaluate",
    "evaluate_suite": "evaluate-suite",
    "export": "export",
    "finetune": "finetune",
    "mine": "mine",
    "plan": "plan",
    "prepare": "prepare",
    "pretrain": "pretrain",
    "quickstart": "quickstart",
    "rerank": "rerank",
    "run": "run",
    "run_study": "study",
    "synthesize": "synthesize",
    "train_reranker": "train-reranker",
}
__all__ = ["DupmaeError", "__version__", *_MODULES, *_STAGES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    elif name in _STAGES:
        from dupmae.stages.functions import stage_function

        value = stage_function(name, _STAGES[name])
    elif name == "__version__":
        from importlib.metadata import version

        value = version("dupmae")
    else:
        # With these Python guesses at the name that was meant.
        message = f"module 'dupmae' has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
