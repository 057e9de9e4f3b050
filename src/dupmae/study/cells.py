"""The cells of a study as stages: pre-training, fine-tuning, measuring, each in a folder called by its fingerprint.

Cells that have a stage in common share its folder, so that it is run once.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dupmae.corpus.beir import read_qrels
from dupmae.evaluation.metrics import Run, per_query
from dupmae.evaluation.runs import RUN_FILE, read_run
from dupmae.settings import Evaluate, FromEncoder, Gather, Settings, Study, Untrained
from dupmae.settings.models import MINILM
from dupmae.stages.evaluate import score_run
from dupmae.stages.plan import step_operations
from dupmae.stages.runner import Ran, Runner, Stage
from dupmae.study.grid import Cell, finetune_settings, prepare_settings, pretrain_settings
from dupmae.training.start import ENCODER

COMPARED = "ndcg@10"
DEPTH = 100
# Stages whose folders stay: all cells share them.
SHARED = ("prepare", "gather", "untrained")
VERSIONS = ("dupmae", "torch", "transformers")
BM25, AS_IT_COMES = "BM25", "start as it comes"


@dataclass(frozen=True)
class Work:
    """What a cell with a seed, or a system without training, is made of.

    Attributes:
        levels: the level of every axis, or the name of the system.
        stages: what has to be run, in order, by what it is to the cell.
        tests: the stages that measure it, by test set.
        cell: the cell; None for a system without training.
    """

    levels: Mapping[str, str]
    seed: int
    stages: Mapping[str, Stage]
    tests: Mapping[str, Stage]
    cell: Cell | None = None

    @property
    def key(self) -> str:
        """What it is known by: the fingerprints of what measures it, into which all others go."""
        made = sorted((name, stage.fingerprint) for name, stage in self.tests.items())
        return hashlib.sha256(repr(made).encode()).hexdigest()[:16]

    @property
    def folders(self) -> set[Path]:
        """The folders of its stages."""
        return {stage.out for stage in (*self.stages.values(), *self.tests.values())}


class Cells:
    """Makes stages of the cells of a study, and runs them."""

    def __init__(self, study: Study) -> None:
        self.study, self.runner = study, Runner(study.work)

    def _stage(self, kind: str, settings: Settings, **known_now: Any) -> Stage:
        """A stage with what the study sets; its folder is called by kind and fingerprint."""
        return self.runner.stage(kind, settings.model_copy(update=known_now))

    @cached_property
    def model(self) -> str:
        """The encoder that cells start from, unless the study starts from nothing."""
        return self.study.start.model or MINILM

    def shards(self, name: str) -> dict[str, Stage]:
        """What makes the shards of a corpus: a start from nothing has the tokenizer that the first one trains."""
        settings = prepare_settings(self.study, name, self.study.corpora[name])
        if self.study.start.from_scratch is None:
            return {f"shards {name}": self._stage("prepare", settings, tokenizer=self.model)}
        first = next(iter(self.study.corpora))
        if name == first:
            return {f"shards {name}": self._stage("prepare", settings, vocabulary=self.study.start.vocabulary)}
        trained = self.shards(first)
        tokenizer = str(trained[f"shards {first}"].out / "tokenizer")
        return {**trained, f"shards {name}": self._stage("prepare", settings, tokenizer=tokenizer)}

    def start(self, seed: int) -> tuple[dict[str, Stage], str]:
        """What makes the start, and its folder or hub name; a start from nothing is one for each seed."""
        shape = self.study.start.from_scratch
        if shape is None:
            return {}, self.model
        first = next(iter(self.study.corpora))
        stages = self.shards(first)
        settings = Untrained(shape=shape, data=stages[f"shards {first}"].out, seed=seed, out=Path())
        stages["start"] = self._stage("untrained", settings)
        return stages, str(stages["start"].out)

    def work(self, cell: Cell, seed: int) -> Work:
        """What a cell is made of; the same on every machine with the same data.

        Raises:
            DupmaeError: when the data is not there.
        """
        study = self.study
        stages, model = self.start(seed)
        paths = {
            name: source.model_copy(update={"path": study.data / source.path}) for name, source in study.pairs.items()
        }
        pairs = stages["pairs"] = self._stage("gather", Gather(pairs=paths, out=Path()))
        for name, values in (("pretrain", cell.pretrain), ("second", cell.second)):
            if values is None:
                continue
            settings = pretrain_settings(study, values, pairs=str(pairs.out))
            shards = [self.shards(corpus) for corpus in _corpora(values)]
            stages |= {each: stage for made in shards for each, stage in made.items()}
            data = [list(made.values())[-1].out for made in shards]
            share = 1.0 if cell.second is None else study.second_share if name == "second" else 1 - study.second_share
            # A second stage goes on with the first one's decoder, which is in its folder.
            begin = model if name == "pretrain" else str(stages["pretrain"].out)
            known_now = {"data": data, "model": begin, "seed": seed, "flops": study.flops * share}
            stages[name] = self._stage("pretrain", settings, **known_now)
            model = str(stages[name].out / ENCODER)
        tuned = finetune_settings(cell.finetune)
        stages["finetune"] = self._stage("finetune", tuned, model=model, data=pairs.out, seed=seed)
        tests = self._tests(retriever=stages["finetune"].out)
        return Work(cell.levels, seed, stages, tests, cell)

    def references(self) -> list[Work]:
        """What is measured without training."""
        works = []
        if self.study.bm25:
            works.append(Work({"system": BM25}, 0, {}, self._tests(bm25=True)))
        if self.study.as_it_comes is not None:
            stages, model = self.start(0)
            kept = self.study.as_it_comes.model_dump(exclude_unset=True)
            settings = FromEncoder.model_validate({**kept, "model": model, "out": Path()})
            stages["retriever"] = self._stage("from-encoder", settings)
            works.append(Work({"system": AS_IT_COMES}, 0, stages, self._tests(retriever=stages["retriever"].out)))
        return works

    def _tests(self, **system: Any) -> dict[str, Stage]:
        tests = {}
        for name, test in self.study.tests.items():
            values = {"data": self.study.data / test.path, "split": test.split, "depth": DEPTH, "out": Path()}
            tests[name] = self._stage("evaluate", Evaluate(**values, **system))
        return tests

    def run(self, work: Work) -> dict[str, Any]:
        """Run what is left of a cell, and give its entry for study.json."""
        ran = {name: self.runner.run(stage) for name, stage in work.stages.items()}
        tested = {name: self.runner.run(stage) for name, stage in work.tests.items()}
        metrics, values = {}, {}
        for name, test in self.study.tests.items():
            qrels = read_qrels(self.study.data / test.path, test.split)
            run: Run = {query: {} for query in qrels} | read_run(tested[name].out / RUN_FILE)
            metrics[name] = score_run(qrels, run)
            values[name] = [round(value, 5) for value in per_query(qrels, run, [COMPARED])[COMPARED].values()]
        entry: dict[str, Any] = {
            "settings": dict(work.levels),
            "seed": work.seed,
            "key": work.key,
            "metrics": metrics,
            "per_query": values,
            "steps": self._steps(work, ran),
            "seconds": _seconds(ran, tested.values()),
            "hardware": hardware(),
        }
        return entry if work.cell is None else entry | {"stages": work.cell.stages}

    def _steps(self, work: Work, ran: Mapping[str, Ran]) -> dict[str, Any]:
        """Steps of each training, and the operations counted for pre-training."""
        steps: dict[str, Any] = {}
        for name in ("pretrain", "second"):
            if name in ran:
                done = ran[name].entry.steps or 0
                steps[name] = {"steps": done, "flops": done * step_operations(work.stages[name].settings)}
        if "finetune" in ran:
            steps["finetune"] = ran["finetune"].entry.steps
        return steps

    def clean(self, finished: Work, pending: Iterable[Work]) -> None:
        """Remove what a finished cell leaves and no pending one needs."""
        if self.study.keep:
            return
        needed = {folder for work in pending for folder in work.folders}
        for stage in (*finished.stages.values(), *finished.tests.values()):
            if stage.kind not in SHARED and stage.out not in needed:
                self.runner.forget(stage)


def _corpora(values: Mapping[str, Any]) -> list[str]:
    names = values["data"]
    return list(names) if isinstance(names, list) else [names]


def _seconds(ran: Mapping[str, Ran], tested: Iterable[Ran]) -> dict[str, Any]:
    """Seconds of a cell's stages, of all processors and by the clock."""
    groups = {name: [ran[name]] for name in ("pretrain", "second", "finetune") if name in ran}
    groups["evaluate"] = list(tested)
    return {
        name: {
            "processor": round(sum(done.entry.processor for done in group), 1),
            "clock": round(sum(done.entry.seconds for done in group), 1),
        }
        for name, group in groups.items()
    }


def hardware() -> dict[str, Any]:
    """What ran a cell."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()} | {package: version(package) for package in VERSIONS},
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
