"""One cell through the stages: pre-training, fine-tuning, measuring. What is finished is not done again.

Pre-training is kept by what it is made of, so that cells which differ in fine-tuning alone share it.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dupmae.console import logger
from dupmae.corpus.beir import read_qrels
from dupmae.evaluation.metrics import Run, per_query
from dupmae.evaluation.runs import RUN_FILE, read_run, write_run
from dupmae.files import read_json, write_json
from dupmae.memory import release
from dupmae.report.judged import open_judged
from dupmae.retriever.model import Retriever
from dupmae.settings import Evaluate, Plan, Pretrain, Study
from dupmae.stages.evaluate import evaluate_retriever, score_run
from dupmae.stages.finetune import finetune
from dupmae.stages.plan import plan
from dupmae.stages.pretrain import pretrain
from dupmae.study.grid import Cell, finetune_settings, pretrain_settings
from dupmae.study.inputs import Inputs, fingerprint
from dupmae.training.start import ENCODER

COMPARED = "ndcg@10"
DEPTH = 100
CLOCK, STEPS = "seconds.json", "steps.json"
VERSIONS = ("dupmae", "torch", "transformers")
BM25, AS_IT_COMES = "BM25", "start as it comes"


@dataclass(frozen=True)
class Work:
    """A cell to be run with a seed, and the folders it needs under the study's work folder."""

    cell: Cell
    seed: int
    key: str
    folder: Path
    first: Path | None
    second: Path | None

    @property
    def needed(self) -> set[Path]:
        """Folders of pre-training."""
        return {path for path in (self.first, self.second) if path is not None}


class Runner:
    """Runs the cells of a study."""

    def __init__(self, study: Study) -> None:
        self.study, self.inputs = study, Inputs(study)

    def work(self, cell: Cell, seed: int) -> Work:
        """What a cell is made of; the same on every machine with the same data."""
        study, inputs = self.study, self.inputs
        first = second = None
        made: Any = None
        if cell.pretrain is not None:
            share = 1.0 if cell.second is None else 1.0 - study.second_share
            made = [self._made(cell.pretrain), study.flops * share, inputs.network_key()]
            first = study.work / f"pretrained-{fingerprint(made)}-{seed}"
        if cell.second is not None:
            made = [made, self._made(cell.second), study.flops * study.second_share]
            second = study.work / f"pretrained-{fingerprint(made)}-{seed}"
        tuned = finetune_settings(cell.finetune).model_dump(mode="json", exclude_unset=True, exclude={"out"})
        key = fingerprint([made, inputs.network_key(), tuned, inputs.pairs_key(), inputs.tests_key(), seed])
        return Work(cell, seed, key, self._folder(key), first, second)

    def _made(self, values: Mapping[str, Any]) -> Any:
        """What pre-training is made of: what is left to its defaults is no part of that."""
        settings = pretrain_settings(self.study, values)
        told = settings.model_dump(mode="json", exclude_unset=True, exclude={"out"})
        corpora = {name: self.inputs.corpus_key(name) for name in _corpora(values)}
        return [told, corpora, *([] if settings.contrastive is None else [self.inputs.pairs_key()])]

    def run(self, work: Work) -> dict[str, Any]:
        """Run a cell, or what is left of it, and give its entry for study.json."""
        study, cell = self.study, work.cell
        model, steps = self.inputs.start(work.seed), {}
        if work.first is not None and cell.pretrain is not None:
            share = 1.0 if cell.second is None else 1.0 - study.second_share
            steps["pretrain"] = self._pretrain(work.first, cell.pretrain, model, work.seed, share)
            model = str(work.first / ENCODER)
        if work.first is not None and work.second is not None and cell.second is not None:
            steps["second"] = self._pretrain(work.second, cell.second, str(work.first), work.seed, study.second_share)
            model = str(work.second / ENCODER)
        retriever = work.folder / "retriever"
        resumes = cell.finetune.get("save_every") != 0
        settings = finetune_settings(
            cell.finetune, model=model, data=self.inputs.pairs(), out=retriever, resume=resumes, seed=work.seed
        )
        if not (work.folder / STEPS).exists():
            with _timed(work.folder, "finetune"):
                write_json(work.folder / STEPS, finetune(settings).steps)
            release()
        steps["finetune"] = read_json(work.folder / STEPS)
        with _timed(work.folder, "evaluate"):
            measured = self._measure(retriever, work.folder)
        clocks = {name: read_json(path / CLOCK) for name, path in _clocks(work).items()}
        entry = self._entry(dict(cell.levels), work.key, work.seed, measured, steps, _summed(clocks))
        return entry | {"stages": cell.stages}

    def bm25(self, key: str) -> dict[str, Any]:
        """The entry of BM25."""
        folder = self._folder(key)
        with _timed(folder, "evaluate"):
            for name, test in self.study.tests.items():
                judged = open_judged(self.study.data / test.path, test.split, ["ndcg@10"])
                write_run(folder / name / RUN_FILE, judged.bm25(DEPTH), "bm25")
        entry = self._entry({"system": BM25}, key, 0, self._read(folder), {}, read_json(folder / CLOCK))
        shutil.rmtree(folder)
        return entry

    def as_it_comes(self, key: str) -> dict[str, Any]:
        """The entry of the start without any training."""
        assert self.study.as_it_comes is not None
        folder = self._folder(key)
        with _timed(folder, "evaluate"):
            retriever = Retriever.from_encoder(self.inputs.start(0), self.study.as_it_comes)
            measured = self._measure(retriever.save(folder / "retriever"), folder)
        entry = self._entry({"system": AS_IT_COMES}, key, 0, measured, {}, read_json(folder / CLOCK))
        shutil.rmtree(folder)
        return entry

    def _pretrain(self, out: Path, values: Mapping[str, Any], model: str, seed: int, share: float) -> dict[str, Any]:
        """Pre-train unless that is done; gives the steps and the operations counted for them."""
        done = out / "done.json"
        if not done.exists():
            shards = [str(self.inputs.shards(name)) for name in _corpora(values)]
            settings = pretrain_settings(self.study, values, pairs=str(self.inputs.pairs()))
            settings = settings.model_copy(update={"data": list(map(Path, shards)), "model": model, "out": out})
            each = step_operations(settings)
            steps = max(1, round(self.study.flops * share / each))
            logger.info(f"{steps:,} steps of {each:.3g} operations")
            with _timed(out, "pretrain"):
                pretrain(settings.model_copy(update={"steps": steps, "seed": seed, "resume": True}))
            write_json(done, {"steps": steps, "flops": steps * each})
            release()
        found: dict[str, Any] = read_json(done)
        return found

    def _measure(self, retriever: Path, folder: Path) -> dict[str, Any]:
        for name, test in self.study.tests.items():
            if not (folder / name / RUN_FILE).exists():
                data = self.study.data / test.path
                settings = Evaluate(retriever=retriever, data=data, split=test.split, depth=DEPTH, out=folder / name)
                evaluate_retriever(settings)
        return self._read(folder)

    def _read(self, folder: Path) -> dict[str, Any]:
        """Metrics by test set, and the values of the compared one by query, in the order of the qrels."""
        metrics, values = {}, {}
        for name, test in self.study.tests.items():
            qrels = read_qrels(self.study.data / test.path, test.split)
            run: Run = {query: {} for query in qrels} | read_run(folder / name / RUN_FILE)
            metrics[name] = score_run(qrels, run)
            values[name] = [round(value, 5) for value in per_query(qrels, run, [COMPARED])[COMPARED].values()]
        return {"metrics": metrics, "per_query": values}

    def _entry(
        self,
        levels: Mapping[str, str],
        key: str,
        seed: int,
        measured: Mapping[str, Any],
        steps: Mapping[str, Any],
        clocks: Mapping[str, Any],
    ) -> dict[str, Any]:
        return {
            "settings": dict(levels),
            "seed": seed,
            "key": key,
            "metrics": measured["metrics"],
            "per_query": measured["per_query"],
            "steps": dict(steps),
            "seconds": clocks,
            "hardware": hardware(),
        }

    def clean(self, finished: Work, pending: Iterable[Work]) -> None:
        """Remove what a finished cell leaves and no pending one needs: of pre-training, encoder and decoder apart."""
        if self.study.keep:
            return
        shutil.rmtree(finished.folder, ignore_errors=True)
        encoders = {path for work in pending for path in work.needed}
        decoders = {work.first for work in pending if work.second is not None}
        for path in finished.needed:
            if path not in encoders:
                shutil.rmtree(path, ignore_errors=True)
            elif path not in decoders:
                for checkpoint in path.glob("checkpoint-*"):
                    shutil.rmtree(checkpoint, ignore_errors=True)

    def _folder(self, key: str) -> Path:
        return self.study.work / f"cell-{key}"


def step_operations(settings: Pretrain) -> float:
    """Operations of one step, counted from shapes as `dupmae plan` does."""
    encoder = Path(settings.model or "") / ENCODER
    model = str(encoder) if encoder.is_dir() else settings.model
    values = settings.model_dump(exclude_unset=True) | {"steps": 1, "model": model}
    return plan(Plan.model_validate(values)).flops


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


def _corpora(values: Mapping[str, Any]) -> list[str]:
    names = values["data"]
    return list(names) if isinstance(names, list) else [names]


@contextmanager
def _timed(folder: Path, name: str) -> Iterator[None]:
    """Add the seconds of a stage to those of its earlier attempts: by the clock, and of all processors."""
    folder.mkdir(parents=True, exist_ok=True)
    start, processor = time.perf_counter(), time.process_time()
    try:
        yield
    finally:
        kept = read_json(folder / CLOCK) if (folder / CLOCK).exists() else {}
        before = kept.get(name, {"processor": 0.0, "clock": 0.0})
        spent = {
            "processor": round(before["processor"] + time.process_time() - processor, 1),
            "clock": round(before["clock"] + time.perf_counter() - start, 1),
        }
        write_json(folder / CLOCK, kept | {name: spent})


def _clocks(work: Work) -> dict[str, Path]:
    found = {"": work.folder, "first": work.first, "second": work.second}
    return {name: path for name, path in found.items() if path is not None}


def _summed(clocks: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds by stage; the second stage of pre-training under its own name."""
    seconds: dict[str, Any] = {}
    if "first" in clocks:
        seconds["pretrain"] = clocks["first"]["pretrain"]
    if "second" in clocks:
        seconds["second"] = clocks["second"]["pretrain"]
    return {**seconds, **clocks[""]}
