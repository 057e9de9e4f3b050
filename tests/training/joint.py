"""Pre-training runs in a process that may be one of several, with what their gradients and files were.

`main` takes a list of settings of `Pretrain`. Process 0 writes `OUT.safetensors` beside each run's folder: the
gradients of its first step, by parameter. Every process writes `written-RANK.json` to a folder, the paths that it
opened for writing, made or renamed inside the runs' folders.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from dupmae.settings import Pretrain
from dupmae.stages.pretrain import pretrain
from dupmae.training import processes
from dupmae.training.loop import Loop

CHANGES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


def run(settings: dict[str, Any]) -> None:
    """Pre-train, and keep the gradients of the first step that is done."""
    kept: dict[str, Tensor] = {}
    gradients = Loop._gradients

    def keep(self: Loop, stop: Any) -> Any:
        found = gradients(self, stop)
        if not kept:
            for name, parameter in self.inner.named_parameters():
                # What turns states into the vectors of the contrastive term is not trained.
                if not parameter.requires_grad:
                    continue
                assert parameter.grad is not None, name
                sharded = settings.get("sharding") == "full"
                assert isinstance(parameter, DTensor) is sharded, name
                assert not sharded or parameter.to_local().numel() <= -(-parameter.numel() // 2) + parameter[0].numel()
                kept[name] = processes.whole(parameter.grad).clone()
        return found

    Loop._gradients = keep  # type: ignore[method-assign]
    try:
        pretrain(Pretrain.model_validate(settings))
    finally:
        Loop._gradients = gradients  # type: ignore[method-assign]
    if processes.rank() == 0:
        save_file(kept, f"{settings['out']}.safetensors")


def main(jobs: list[dict[str, Any]], folder: Path) -> None:
    torch.set_num_threads(1)
    folders = tuple(f"{settings['out']}/" for settings in jobs)
    written: list[str] = []

    def note(event: str, given: tuple[Any, ...]) -> None:
        if event not in CHANGES or not str(given[0]).startswith(folders):
            return
        if event != "open" or given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            written.append(str(given[0]))

    sys.addaudithook(note)
    for settings in jobs:
        run(settings)
    (folder / f"written-{processes.rank()}.json").write_text(json.dumps(written))
    torch.distributed.destroy_process_group()
