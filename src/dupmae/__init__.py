"""dupmae: from raw text to a measured hybrid retriever.

The names below are imported when first used, so that `import dupmae` is quick. The settings that the
functions take are the classes of `dupmae.settings`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dupmae.errors import DupmaeError

if TYPE_CHECKING:
    from dupmae.retriever.model import Retriever
    from dupmae.search.engine import Searcher
    from dupmae.search.index import HybridIndex
    from dupmae.stages.evaluate import evaluate_retriever as evaluate
    from dupmae.stages.finetune import finetune
    from dupmae.stages.index import build as build_index
    from dupmae.stages.prepare import prepare
    from dupmae.stages.pretrain import pretrain

__version__ = version("dupmae")
__all__ = [
    "DupmaeError",
    "HybridIndex",
    "Retriever",
    "Searcher",
    "__version__",
    "build_index",
    "evaluate",
    "finetune",
    "prepare",
    "pretrain",
]

_PLACES = {
    "HybridIndex": ("dupmae.search.index", "HybridIndex"),
    "Retriever": ("dupmae.retriever.model", "Retriever"),
    "Searcher": ("dupmae.search.engine", "Searcher"),
    "build_index": ("dupmae.stages.index", "build"),
    "evaluate": ("dupmae.stages.evaluate", "evaluate_retriever"),
    "finetune": ("dupmae.stages.finetune", "finetune"),
    "prepare": ("dupmae.stages.prepare", "prepare"),
    "pretrain": ("dupmae.stages.pretrain", "pretrain"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'dupmae' has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
