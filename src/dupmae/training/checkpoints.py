"""Checkpoints that survive what stops a run: whole under their name, checksummed, the last two kept.

A checkpoint is the folder `checkpoint-<step>` with `model.safetensors` (every weight, the decoder's too),
`optimizer.safetensors` (moments by parameter name), `state.json` and `manifest.json` (SHA-256 of the others).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dupmae.console import logger
from dupmae.errors import DupmaeError
from dupmae.files import new_folder, read_json, remove_folder, sha256, write_json
from dupmae.training import processes

KEPT = 2
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its folder, the number of steps done, and what `save` was given as `state`."""

    folder: Path
    step: int
    state: dict[str, Any]


def listed(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, whole or not."""
    found = [path for path in run.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
    return sorted(found, key=_step)


def latest(run: Path) -> Checkpoint | None:
    """The newest whole checkpoint of a run, None when it has none at all; damaged ones on the way are named in the log.

    Raises:
        DupmaeError: when there are checkpoints and none is whole, or one cannot be read.
    """
    faults: dict[Path, str] = {}
    for folder in reversed(listed(run)):
        fault = damage(folder)
        if fault is None:
            for damaged, what in faults.items():
                logger.warning(f"{damaged}: damaged checkpoint, the one before is used ({what})")
            return Checkpoint(folder, _step(folder), read_json(folder / STATE))
        faults[folder] = fault
    if faults:
        told = ", ".join(f"{folder.name} ({fault})" for folder, fault in faults.items())
        fix = "move or delete them to start without"
        raise DupmaeError(f"none of its checkpoints is whole: {told}", where=run, fix=fix)
    return None


def diverged(run: Path, what: str) -> DupmaeError:
    """The error of a run whose losses or weights are not finite."""
    return DupmaeError(f"training diverged: {what}", where=run, fix="lower learning_rate")


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None when every file is what was written.

    Raises:
        DupmaeError: when the file system does not let a file be read, which says nothing of what was written.
    """
    try:
        sums = json.loads((folder / MANIFEST).read_bytes())["sha256"]
        for name, expected in sums.items():
            if sha256(folder / name) != expected:
                return f"{name} is not what was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        fix = f"try again, or delete {folder.name} to do without it"
        raise DupmaeError(f"cannot read: {error.strerror}", where=error.filename or folder, fix=fix) from error
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{MANIFEST} is no list of files"
    return None if {MODEL, OPTIMIZER, STATE} <= sums.keys() else "files are missing from the manifest"


def save(run: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Write `checkpoint-<step>` whole, then delete all but the last two; every process has to call this.

    Raises:
        DupmaeError: when weights are not finite, or cannot be written; earlier checkpoints stay as they were.
    """
    weights = dict(_gathered(weights_of(model)))
    moments = dict(_gathered(_moments(model, optimizer)))
    if processes.rank() == 0:
        bad = next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
        if bad is not None:
            raise diverged(run, f"{bad} is not finite")
        folder = run / f"checkpoint-{step}"
        try:
            if folder.exists():
                remove_folder(folder)
            _write(folder, weights, moments, state)
        except SafetensorError as error:
            fix = "free some space or choose another place"
            raise DupmaeError(f"cannot write: {error}", where=folder, fix=fix) from error
        prune(run, step)
    processes.join().wait_for_everyone()


def prune(run: Path, step: int) -> None:
    """Delete all checkpoints but the last two up to `step`, where the run stands."""
    # Those of a later step were damaged, or the run would have gone on from there.
    kept = [path for path in listed(run) if _step(path) <= step][-KEPT:]
    for path in listed(run):
        if path not in kept:
            remove_folder(path)


def _write(folder: Path, weights: dict[str, Tensor], moments: dict[str, Tensor], state: Mapping[str, Any]) -> None:
    with new_folder(folder, "a checkpoint") as temporary:
        save_file(weights, temporary / MODEL, {"format": "pt"})
        save_file(moments, temporary / OPTIMIZER)
        write_json(temporary / STATE, dict(state))
        sums = {name: sha256(temporary / name) for name in (MODEL, OPTIMIZER, STATE)}
        write_json(temporary / MANIFEST, {"step": _step(folder), "sha256": sums})


def weights_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and saved buffers by name, those that share memory once."""
    yield from model.named_parameters()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    yield from ((name, value) for name, value in model.state_dict().items() if name not in parameters)


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"{key}/{name}", value


def _gathered(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors on the CPU, kept by process 0 alone."""
    for name, tensor in tensors:
        full = processes.whole(tensor)
        if processes.rank() == 0:
            yield name, full.cpu().contiguous()


def gathered_weights(model: nn.Module) -> dict[str, Tensor]:
    """All weights by name in process 0, nothing elsewhere; every process has to call this."""
    return dict(_gathered(weights_of(model)))


def load_model(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put a checkpoint's weights into a model that is not spread over processes yet.

    Raises:
        DupmaeError: when the checkpoint is of a model of another shape.
    """
    own = dict(weights_of(model))
    with safe_open(checkpoint.folder / MODEL, framework="pt") as file, torch.no_grad():
        names = set(file.keys())
        for name in sorted(names | own.keys()):
            if name not in names or name not in own or file.get_slice(name).get_shape() != list(own[name].shape):
                problem = f"is of another model: {name} differs"
                raise DupmaeError(problem, where=checkpoint.folder, fix="resume with the settings of the first run")
            own[name].copy_(file.get_tensor(name))


def load_optimizer(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into an optimizer, as its parameters are placed; every process has to call this."""
    held: dict[str, Tensor] = {}
    if processes.rank() == 0:
        with safe_open(folder / OPTIMIZER, framework="pt") as file:
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parameters = dict(model.named_parameters())
    for entry in processes.agreed(sorted(held)):
        key, _, name = entry.partition("/")
        parameter, value = parameters[name], held.pop(entry, None)
        # AdamW counts its steps in one number a parameter, which is never sharded.
        like = torch.zeros((), device=parameter.device) if key == "step" else parameter.detach()
        optimizer.state[parameter][key] = processes.placed_like(value, like)


def read_lines(path: Path, until: int) -> list[dict[str, float]]:
    """The log lines up to a step; one that is damaged, as by the end of its process, is left out."""
    kept = []
    for text in path.read_bytes().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
            if line["step"] <= until:
                kept.append(line)
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    return kept


def _step(folder: Path) -> int:
    return int(folder.name.partition("-")[2])
