"""The one engine: runs stages, and knows which of them are done.

A stage is known by a fingerprint of its kind, its settings, and what it reads: the contents of files, and the
fingerprint of the stage that writes a folder. So a change runs again what depends on it, and all fingerprints are known
before anything is run. `KINDS` lists the kinds of stages; chains and studies both run on `Runner`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import (
    check_folder,
    read_side_file,
    remove_folder,
    remove_leftovers,
    sha256,
    training_folder,
    write_json,
)
from dupmae.locks import locked
from dupmae.memory import peak_bytes, release
from dupmae.settings import Settings
from dupmae.stages import STAGES, call
from dupmae.training import processes

RECORD = "chain.json"
# Part of every fingerprint: raised when the same settings give other figures than before.
# 2: gradients of LayerNorm, embeddings and confident predictions summed in float32 where the network is bfloat16.
VERSION = 2
# What a chain cannot have as a stage: it leaves no folder, or runs stages itself.
NO_STAGES = ("quickstart", "plan", "report", "search", "run", "study")
KINDS = {name: stage for name, stage in STAGES.items() if name not in NO_STAGES}
# Settings that are texts and may name a folder all the same.
NAMES_OR_FOLDERS = ("model", "tokenizer", "teacher")
# What changes neither a stage's result nor what it reads.
WITHOUT_EFFECT = {"out", "resume", "chain", "workers", "block", "shards", "keep_shards", "save_every", "log_every"}


@dataclass(frozen=True)
class Stage:
    """One stage to run: its name, what kind it is, its checked settings, and its fingerprint."""

    name: str
    kind: str
    settings: Any
    fingerprint: str = ""

    @property
    def out(self) -> Path:
        """Where it writes."""
        out: Path = self.settings.out
        return out

    @property
    def training(self) -> Path:
        """Where the stage keeps checkpoints, if it has any."""
        return self.out if self.kind == "pretrain" else training_folder(self.out)


class Entry(BaseModel):
    """What `chain.json` says of a stage: seconds by the clock and of all processors, over all its attempts."""

    fingerprint: str
    finished: bool = False
    settings: dict[str, Any]
    seconds: float = 0.0
    processor: float = 0.0
    peak_memory_bytes: int = 0
    steps: int | None = None
    metrics: dict[str, float] | None = None


@dataclass(frozen=True)
class Ran:
    """What became of a stage, and whether that was in an earlier run."""

    name: str
    kind: str
    out: Path
    before: bool
    entry: Entry = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        kept = self.entry.model_dump(include={"seconds", "processor", "peak_memory_bytes", "steps", "metrics"})
        return {"name": self.name, "kind": self.kind, "out": str(self.out), "before": self.before, **kept}


class Runner:
    """Runs stages whose record is kept in one folder; several processes may share it.

    Args:
        folder: for `chain.json` and what stages write; made when the first one is run.
        replace_pretraining: begin a pre-training anew whose settings have changed, instead of refusing.

    Raises:
        DupmaeError: under torchrun.
    """

    def __init__(self, folder: Path, *, replace_pretraining: bool = False) -> None:
        if processes.count() > 1:
            raise DupmaeError("several stages are run by one process only", where="run", fix="start without torchrun")
        self.folder, self._replace = folder, replace_pretraining
        self._writers: dict[Path, str] = {}
        self._sums: dict[str, list[Any]] = {}
        self._entries: dict[str, Entry] = {}
        remove_leftovers(folder)
        self._read()

    def stage(self, kind: str, settings: Settings, name: str | None = None) -> Stage:
        """A stage with its fingerprint; later ones may read what it writes.

        Args:
            name: of its entry in the record; None: kind and fingerprint, which its folder is called by, too.

        Raises:
            DupmaeError: when a file that it reads is neither there nor written by an earlier stage.
        """
        described = json.dumps([VERSION, kind, self._described(settings)], sort_keys=True, default=str)
        fingerprint = hashlib.sha256(described.encode()).hexdigest()[:16]
        if name is None:
            name = f"{kind}-{fingerprint}"
            settings = settings.model_copy(update={"out": self.folder / name})
        stage = Stage(name, kind, settings, fingerprint)
        for out in {stage.out, training_folder(stage.out)}:
            self._writers[out.absolute()] = fingerprint
        return stage

    def run(self, stage: Stage, place: str = "") -> Ran:
        """Run a stage unless it is finished; one that was stopped goes on from its last checkpoint.

        Raises:
            DupmaeError: for a pre-training that was begun with other settings, and whatever the stage raises.
        """
        title = f"-- {stage.name}" + (f" ({place})" if place else "")
        with locked(self.folder / f"{stage.name}.stage", wait=True):
            entry = self._read().get(stage.name)
            same = entry is not None and entry.fingerprint == stage.fingerprint
            if entry is not None and same and entry.finished and stage.out.exists():
                logger.info(f"{title}: finished before")
                return Ran(stage.name, stage.kind, stage.out, True, entry)
            logger.info(title)
            if entry is not None and not same:
                self.check(stage)
                self._begin_anew(stage, entry)
            if entry is None or not same or entry.finished:
                entry = Entry(fingerprint=stage.fingerprint, settings=_shown(stage.settings))
            self._put(stage.name, entry)
            entry = self._timed(stage, entry)
        return Ran(stage.name, stage.kind, stage.out, False, entry)

    def check(self, stage: Stage) -> None:
        """Refuse what `run` would refuse.

        Raises:
            DupmaeError: for a pre-training that was begun with other settings, or a folder that cannot be replaced.
        """
        check_folder(stage.out, KINDS[stage.kind].writes)
        entry = self._entries.get(stage.name)
        if self._replace or stage.kind != "pretrain" or entry is None or entry.fingerprint == stage.fingerprint:
            return
        if stage.training.exists():
            problem = f"stage {stage.name} was run otherwise: {_changes(stage, entry)}"
            fix = "put that back, remove the folder, give another out, or replace_pretraining=true"
            raise DupmaeError(problem, where=stage.training, fix=fix)

    def forget(self, stage: Stage) -> None:
        """Delete what a stage has written, its entry first: nothing is taken for finished that is half there."""
        self._put(stage.name, None)
        for folder in {stage.out, stage.training}:
            if folder.exists():
                remove_folder(folder)

    def _timed(self, stage: Stage, entry: Entry) -> Entry:
        """Run a stage, and keep its seconds even when it is stopped."""
        settings = stage.settings
        if "resume" in type(settings).model_fields and getattr(settings, "save_every", None) != 0:
            settings = settings.model_copy(update={"resume": True})
        start, processor = time.perf_counter(), time.process_time()
        changes: dict[str, Any] = {}
        try:
            result = call(KINDS[stage.kind], settings)
            metrics = result.get("metrics") if isinstance(result, dict) else None
            changes = {"finished": True, "steps": getattr(result, "steps", None), "metrics": metrics}
            del result
        finally:
            release()
            changes["seconds"] = round(entry.seconds + time.perf_counter() - start, 1)
            changes["processor"] = round(entry.processor + time.process_time() - processor, 1)
            entry = entry.model_copy(update=changes | {"peak_memory_bytes": peak_bytes()})
            self._put(stage.name, entry)
        return entry

    def _begin_anew(self, stage: Stage, entry: Entry) -> None:
        """Settings or inputs have changed since the stage began: its checkpoints are of no use now."""
        logger.info(f"{stage.name} is run anew: {_changes(stage, entry)}")
        if stage.training.exists():
            remove_folder(stage.training)

    def _described(self, settings: Settings) -> dict[str, Any]:
        """The settings that are not at their defaults, each path replaced by what it leads to."""
        described = {}
        for name, info in type(settings).model_fields.items():
            value = getattr(settings, name)
            if name not in WITHOUT_EFFECT and value != info.get_default(call_default_factory=True):
                described[name] = self._value(name, value)
        return described

    def _value(self, name: str, value: Any) -> Any:
        if isinstance(value, Settings):
            return self._described(value)
        if isinstance(value, Mapping):
            return {key: self._value(name, inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._value(name, inner) for inner in value]
        if isinstance(value, Path) or (name in NAMES_OR_FOLDERS and isinstance(value, str)):
            return self._contents(name, value)
        return value

    def _contents(self, name: str, path: Path | str) -> Any:
        """What stands for a path: the stage that writes it, or the SHA-256 of the files there."""
        whole = Path(path).absolute()
        if whole == self.folder.absolute():
            return "this run"
        for folder in (whole, *whole.parents):
            if folder in self._writers:
                return [self._writers[folder], whole.relative_to(folder).as_posix()]
        found = [whole] if whole.exists() else sorted(map(Path, glob(str(path))))
        if found:
            return [self._digest(entry) for entry in found]
        # A name of the hub stands for itself.
        if isinstance(path, str) or str(path).startswith("hub:"):
            return str(path)
        raise DupmaeError(f"{name}: no such file or folder", where=path, fix="check the path")

    def _digest(self, path: Path) -> list[list[str]]:
        files = [path] if path.is_file() else sorted(inner for inner in path.rglob("*") if inner.is_file())
        return [[file.relative_to(path).as_posix(), self._sum(file)] for file in files]

    def _sum(self, file: Path) -> str:
        """A file's SHA-256, which is not worked out again while size and time stay."""
        state, name = file.stat(), str(file.resolve())
        known = self._sums.get(name)
        if known is None or known[:2] != [state.st_size, state.st_mtime_ns]:
            known = [state.st_size, state.st_mtime_ns, sha256(file)]
            self._sums[name] = known
        return str(known[2])

    def _read(self) -> dict[str, Entry]:
        """Take in what the record says, of this process and others; what is damaged there counts as absent."""
        path = self.folder / RECORD
        kept = read_side_file(path)
        stages, sums = (found if isinstance(found := kept.get(name), dict) else {} for name in ("stages", "files"))
        self._entries = {}
        for name, entry in stages.items():
            try:
                self._entries[name] = Entry.model_validate(entry)
            except ValidationError:
                logger.warning(f"{path}: the entry of {name} is damaged; it does not count as finished")
        self._sums |= {name: known for name, known in sums.items() if isinstance(known, list) and len(known) == 3}
        return self._entries

    def _put(self, name: str, entry: Entry | None) -> None:
        """Set or remove a stage's entry in the record."""
        with locked(self.folder / RECORD, wait=True):
            entries = self._read()
            if entry is None:
                entries.pop(name, None)
            else:
                entries[name] = entry
            stages = {each: kept.model_dump() for each, kept in entries.items()}
            write_json(self.folder / RECORD, {"stages": stages, "files": self._sums})


def _changes(stage: Stage, entry: Entry) -> str:
    """What has changed since a stage was run, in words."""
    now = _shown(stage.settings)
    changed = [
        f"{name} was {entry.settings.get(name)}, is {now[name]}"
        for name in now
        if entry.settings.get(name) != now[name]
    ]
    return ", ".join(changed) or "its inputs have changed"


def _shown(settings: Settings) -> dict[str, Any]:
    shown: dict[str, Any] = settings.model_dump(mode="json", exclude=WITHOUT_EFFECT)
    return shown
