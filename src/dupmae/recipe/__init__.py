"""Typed settings of every stage, read from YAML with `key=value` overrides.

A recipe is a YAML file whose keys are the fields of one settings class. Unknown keys and combinations that cannot
work are refused by name. One module for each part of the way; all classes can be had from here.
"""

from __future__ import annotations

from dupmae.recipe.base import Settings
from dupmae.recipe.chain import Chain
from dupmae.recipe.comparing import Compare
from dupmae.recipe.contrastive import Contrastive
from dupmae.recipe.corpus import Prepare
from dupmae.recipe.export import Export
from dupmae.recipe.finetuning import Finetune, FinetuneOptions
from dupmae.recipe.objectives import Masking, Objective
from dupmae.recipe.pretraining import FromScratch, Plan, Planned, Pretrain, PretrainOptions, Report
from dupmae.recipe.quickstart import Quickstart
from dupmae.recipe.retriever import Representation, RetrieverSettings
from dupmae.recipe.searching import Evaluate, Index
from dupmae.recipe.study import Collection, Finding, Level, PairSource, Start, Study
from dupmae.recipe.suites import EvaluateSuite, PlanSuite, SuiteOptions
from dupmae.recipe.synthetic import Shares, Synthesize
from dupmae.recipe.teaching import Distill, Mine, Rerank, Teach

__all__ = [
    "Chain",
    "Collection",
    "Compare",
    "Contrastive",
    "Distill",
    "Evaluate",
    "EvaluateSuite",
    "Export",
    "Finding",
    "Finetune",
    "FinetuneOptions",
    "FromScratch",
    "Index",
    "Level",
    "Masking",
    "Mine",
    "Objective",
    "PairSource",
    "Plan",
    "PlanSuite",
    "Planned",
    "Prepare",
    "Pretrain",
    "PretrainOptions",
    "Quickstart",
    "Report",
    "Representation",
    "Rerank",
    "RetrieverSettings",
    "Settings",
    "Shares",
    "Start",
    "Study",
    "SuiteOptions",
    "Synthesize",
    "Teach",
]
