"""Typed settings of every stage, read from YAML with `key=value` overrides.

A recipe is a YAML file whose keys are the fields of one settings class. Unknown keys and combinations that cannot
work are refused by name. One module for each part of the way; all classes can be had from here.
"""

from __future__ import annotations

from dupmae.settings.base import Settings
from dupmae.settings.benchmarks import EvaluateSuite, SuiteOptions
from dupmae.settings.chain import Chain
from dupmae.settings.compare import Compare
from dupmae.settings.contrastive import Contrastive
from dupmae.settings.export import Export
from dupmae.settings.finetune import Finetune, FinetuneOptions
from dupmae.settings.index import Evaluate, FromEncoder, Index, Merge, Search
from dupmae.settings.objectives import Masking, Objective
from dupmae.settings.prepare import Prepare
from dupmae.settings.pretrain import FromScratch, Plan, Planned, Pretrain, PretrainOptions, Report
from dupmae.settings.quickstart import Documentation, Quickstart, Untrained
from dupmae.settings.representation import Representation, RetrieverSettings
from dupmae.settings.reranker import Distill, Mine, Rerank, TrainReranker
from dupmae.settings.study import Collection, Finding, Gather, Level, PairSource, Start, Study
from dupmae.settings.synthesize import Shares, Synthesize
from dupmae.settings.training import TrainingOptions, marked

__all__ = [
    "Chain",
    "Collection",
    "Compare",
    "Contrastive",
    "Distill",
    "Documentation",
    "Evaluate",
    "EvaluateSuite",
    "Export",
    "Finding",
    "Finetune",
    "FinetuneOptions",
    "FromEncoder",
    "FromScratch",
    "Gather",
    "Index",
    "Level",
    "Masking",
    "Merge",
    "Mine",
    "Objective",
    "PairSource",
    "Plan",
    "Planned",
    "Prepare",
    "Pretrain",
    "PretrainOptions",
    "Quickstart",
    "Report",
    "Representation",
    "Rerank",
    "RetrieverSettings",
    "Search",
    "Settings",
    "Shares",
    "Start",
    "Study",
    "SuiteOptions",
    "Synthesize",
    "TrainReranker",
    "TrainingOptions",
    "Untrained",
    "marked",
]
