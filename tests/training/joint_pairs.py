"""Fine-tuning runs in a process that may be one of several, with what their gradients were.

`main` takes a list of settings of `Finetune`. Process 0 writes `OUT.safetensors` beside each retriever: the gradients
of its first step, by parameter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dupmae.settings import Finetune
from dupmae.stages.finetune import finetune
from dupmae.training import processes
from dupmae.training.loop import Loop


def run(settings: dict[str, Any]) -> None:
    """Fine-tune, and keep the gradients of the first step that is done."""
    kept: dict[str, Tensor] = {}
    gradients = Loop._gradients

    def keep(self: Loop, stop: Any) -> Any:
        found = gradients(self, stop)
        if not kept:
            named = self.inner.named_parameters()
            kept.update({name: value.grad.clone() for name, value in named if value.grad is not None})
        return found

    Loop._gradients = keep  # type: ignore[method-assign]
    try:
        finetune(Finetune.model_validate(settings))
    finally:
        Loop._gradients = gradients  # type: ignore[method-assign]
    if processes.rank() == 0:
        save_file(kept, f"{settings['out']}.safetensors")


def main(jobs: list[dict[str, Any]], folder: Path) -> None:
    torch.set_num_threads(1)
    for settings in jobs:
        run(settings)
    torch.distributed.destroy_process_group()
