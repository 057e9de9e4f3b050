"""`dupmae run`: stages one after another from one recipe, each on what those before it wrote.

`chain.json` in the run's folder says which stages are finished, by a fingerprint of their settings and of the files
they read. A finished stage is not run again; one that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import string
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob
from importlib import import_module
from pathlib import Path
from typing import Any

from dupmae import settings as settings_of
from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import read_json, remove_leftovers, sha256, training_folder, write_json
from dupmae.memory import release
from dupmae.settings import Chain, Settings
from dupmae.settings.loading import find_recipe, line_of, load_part
from dupmae.training import processes

RECORD = "chain.json"
# Name of a stage: its settings and the function that runs it.
STAGES = {
    "prepare": ("Prepare", "dupmae.stages.prepare", "prepare"),
    "synthesize": ("Synthesize", "dupmae.stages.synthesize", "synthesize"),
    "pretrain": ("Pretrain", "dupmae.stages.pretrain", "pretrain"),
    "finetune": ("Finetune", "dupmae.stages.finetune", "finetune"),
    "mine": ("Mine", "dupmae.stages.mine", "mine"),
    "train-reranker": ("TrainReranker", "dupmae.stages.train_reranker", "train_reranker"),
    "rerank": ("Rerank", "dupmae.stages.rerank", "rerank"),
    "distill": ("Distill", "dupmae.stages.distill", "distill"),
    "index": ("Index", "dupmae.stages.index", "build"),
    "evaluate": ("Evaluate", "dupmae.stages.evaluate", "evaluate_retriever"),
    "compare": ("Compare", "dupmae.stages.compare", "compare"),
    "suite": ("EvaluateSuite", "dupmae.evaluation.benchmarks.suite", "evaluate_suite"),
}
# Settings that are texts and may name a folder all the same.
NAMES_OR_FOLDERS = ("model", "tokenizer")
# What changes neither a stage's result nor what it reads.
WITHOUT_EFFECT = {"out", "resume", "chain"}


class _Template(string.Template):
    idpattern = r"[A-Za-z0-9_][A-Za-z0-9_-]*"


@dataclass(frozen=True)
class Stage:
    """One stage of a chain: its name, what kind it is, and its checked settings."""

    name: str
    kind: str
    settings: Any

    @property
    def training(self) -> Path:
        """Where the stage keeps checkpoints, if it has any."""
        out: Path = self.settings.out
        return out if self.kind == "pretrain" else training_folder(out)


@dataclass(frozen=True)
class Ran:
    """What became of a stage: seconds it took, whether that was in an earlier run, and its metrics, if it has any."""

    name: str
    kind: str
    out: Path
    seconds: float
    before: bool
    metrics: dict[str, float] | None


def chain(settings: Chain, recipe: Path | None = None) -> list[Ran]:
    """Run every stage that is not finished, in order.

    Args:
        recipe: the file the settings came from, whose lines errors name.

    Raises:
        DupmaeError: for settings that a stage refuses, before any stage is run, and whatever a stage raises.
    """
    if processes.count() > 1:
        raise DupmaeError("works in one process only", where="run", fix="start it without torchrun")
    stages = stages_of(settings, recipe)
    settings.out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(settings.out)
    record = _Record(settings.out / RECORD)
    return [_run(stage, record, f"{place} of {len(stages)}") for place, stage in enumerate(stages, 1)]


def stages_of(settings: Chain, recipe: Path | None = None) -> list[Stage]:
    """The stages with their settings, `$NAME` replaced by values and by the folders of earlier stages.

    A stage whose `when` is empty is left out: `when: $NAME` makes it depend on whether a value was given.

    Raises:
        DupmaeError: for an unknown kind of stage, an unknown name, or settings that a stage refuses.
    """
    known = {name: str(value) for name, value in settings.values.items()}
    stages: list[Stage] = []
    for name, given in settings.stages.items():
        with _placed(name, recipe):
            values = dict(given)
            if not _replaced(values.pop("when", True), known):
                continue
            kind = values.pop("stage", name)
            if kind not in STAGES:
                raise DupmaeError(f"no stage {kind}", fix=f"write stage: and one of {', '.join(STAGES)}")
            if name in known:
                raise DupmaeError("the name stands for a value", fix="rename one of them")
            base = find_recipe(values.pop("recipe", None), "")
            values = {"out": str(settings.out / name)} | _replaced(values, known)
            part = f"stages.{name}"
            checked = load_part(getattr(settings_of, STAGES[kind][0]), part, values, recipe=recipe, base=base)
            stages.append(Stage(name, kind, checked))
        known[name] = str(stages[-1].settings.out)
    return stages


@contextmanager
def _placed(name: str, recipe: Path | None) -> Iterator[None]:
    """Put the name of a stage into its errors, and its line in the recipe where they have no place of their own."""
    try:
        yield
    except DupmaeError as error:
        problem, where, line = f"stage {name}: {error.problem}", error.where, error.line
        if recipe is not None and line is None and where in (None, recipe):
            where, line = recipe, line_of(recipe, f"stages.{name}")
        raise DupmaeError(problem, where=where, line=line, fix=error.fix) from None


def _replaced(value: Any, known: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, known) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, known) for inner in value]
    if not isinstance(value, str):
        return value
    try:
        return _Template(value).substitute(known)
    except KeyError as error:
        fix = f"known here: {', '.join(known) or 'none'}"
        raise DupmaeError(f"${error.args[0]} names no value and no earlier stage", fix=fix) from None
    except ValueError:
        raise DupmaeError(f"{value!r} has a $ without a name", fix="write $$ for the character itself") from None


def _run(stage: Stage, record: _Record, place: str) -> Ran:
    """Run a stage unless it is finished."""
    fingerprint = record.fingerprint(stage)
    found = record.stages.get(stage.name, {})
    same = found.get("fingerprint") == fingerprint
    out: Path = stage.settings.out
    if same and found.get("finished") and out.exists():
        logger.info(f"-- {stage.name} ({place}): finished before")
        return Ran(stage.name, stage.kind, out, found["seconds"], True, found["metrics"])
    if found and not same:
        _begin_anew(stage, found)
    logger.info(f"-- {stage.name} ({place})")
    described = _described(stage.settings)
    record.put(stage.name, {"fingerprint": fingerprint, "finished": False, "settings": described})
    settings = stage.settings
    if "resume" in type(settings).model_fields:
        settings = settings.model_copy(update={"resume": True})
    _, module, function = STAGES[stage.kind]
    start = time.perf_counter()
    result = getattr(import_module(module), function)(settings)
    seconds = round(time.perf_counter() - start, 1)
    metrics = result.get("metrics") if isinstance(result, dict) else None
    done = {"fingerprint": fingerprint, "finished": True, "settings": described, "seconds": seconds}
    record.put(stage.name, done | {"metrics": metrics})
    del result
    release()
    return Ran(stage.name, stage.kind, out, seconds, False, metrics)


def _begin_anew(stage: Stage, found: Mapping[str, Any]) -> None:
    """Settings or inputs have changed since the stage began: its checkpoints are of no use now.

    Pre-training may be days of work, so only a person throws that away.
    """
    before, now = found["settings"], _described(stage.settings)
    changed = [name for name in now if before.get(name) != now[name]]
    told = ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed) or "its inputs have changed"
    if stage.kind == "pretrain" and stage.training.exists():
        fix = "put that back, remove the folder, or give another out"
        raise DupmaeError(f"stage {stage.name} was run otherwise: {told}", where=stage.training, fix=fix)
    logger.info(f"{stage.name} is run anew: {told}")
    if stage.training.exists():
        shutil.rmtree(stage.training)


def _described(settings: Settings) -> dict[str, Any]:
    described: dict[str, Any] = settings.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return described


class _Record:
    """`chain.json`: stages by name, and the SHA-256 of input files, by which they are not read at every start.

    Args:
        path: the file; read when it is there, written at every change.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        kept = read_json(path) if path.exists() else {}
        self.stages: dict[str, Any] = kept.get("stages", {})
        self._files: dict[str, list[Any]] = kept.get("files", {})

    def put(self, name: str, entry: dict[str, Any]) -> None:
        """Set a stage's entry and write the file."""
        self.stages[name] = entry
        write_json(self._path, {"stages": self.stages, "files": self._files})

    def fingerprint(self, stage: Stage) -> str:
        """SHA-256 over a stage's kind, its settings, and the contents of the files and folders that these name."""
        inputs = {str(path): self._digest(path) for path in sorted(set(_inputs(stage.settings)))}
        described = json.dumps([stage.kind, _described(stage.settings), inputs], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def _digest(self, path: Path) -> str:
        files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
        sums = [[inner.relative_to(path).as_posix(), self._sum(inner)] for inner in files]
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()

    def _sum(self, file: Path) -> str:
        state, name = file.stat(), str(file.resolve())
        known = self._files.get(name)
        if known is None or known[:2] != [state.st_size, state.st_mtime_ns]:
            known = [state.st_size, state.st_mtime_ns, sha256(file)]
            self._files[name] = known
        return str(known[2])


def _inputs(settings: Settings) -> Iterator[Path]:
    """The files and folders that settings name; of a glob, those it fits."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _inputs(value)
            continue
        entries = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else [value]
        if name not in WITHOUT_EFFECT:
            for entry in entries:
                if isinstance(entry, Path) or (name in NAMES_OR_FOLDERS and isinstance(entry, str)):
                    yield from [Path(entry)] if Path(entry).exists() else map(Path, glob(str(entry)))
