"""Small runs whose checkpoints are looked at, stopped at a chosen step, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dupmae.files import sha256, write_text
from dupmae.settings import Prepare, Pretrain
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import pretrain
from dupmae.training.prefetch import Prefetched
from tests.reference.tiny import sentences

SHAPE = {"layers": 1, "hidden": 16, "heads": 2}
TEXTS = sentences(120)


def prepared(folder: Path, texts: Sequence[str] = TEXTS, **changes: Any) -> Path:
    """Shards of a few sentences."""
    write_text(folder / "texts.txt", "\n".join(texts))
    given = {"inputs": [folder / "texts.txt"], "out": folder / "data", "vocabulary": 150, "max_length": 32}
    prepare(Prepare.model_validate({**given, **changes}))
    return folder / "data"


def settings(data: Path, out: Path, **changes: Any) -> Pretrain:
    values = {"data": data, "out": out, "from_scratch": SHAPE, "batch_tokens": 256, "dtype": "fp32", "log_every": 3}
    return Pretrain.model_validate({**values, "steps": 6, "save_every": 2, **changes})


def never_stopped(data: Path, out: Path) -> Path:
    """The folder of a run that went through all its steps at once."""
    torch.set_num_threads(1)
    pretrain(settings(data, out))
    return out


def weights(run: Path) -> str:
    return sha256(run / "encoder" / "model.safetensors")


def names(run: Path) -> list[str]:
    return sorted(path.name for path in run.iterdir() if path.name != "tensorboard")


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], object]) -> None:
    """Do something just before the batch of a step (counted from 0) is taken."""
    take = Prefetched.part

    def takes(self: Prefetched, wanted: int, part: int, parts: int) -> dict[str, Tensor] | None:
        if wanted == step:
            act()
        return take(self, wanted, part, parts)

    monkeypatch.setattr(Prefetched, "part", takes)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
