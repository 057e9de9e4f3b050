"""Pre-training in a process that is one of two, with the shard files whose checksums it took.

`main` takes settings of `Pretrain`. Each process writes `opened-RANK.json` to a folder: for each of them the number of
checksums, and the error, if there was one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from dupmae.errors import DupmaeError
from dupmae.settings import Pretrain
from dupmae.shards import folder as shards
from dupmae.stages.pretrain import pretrain
from dupmae.training import processes


def main(jobs: list[dict[str, Any]], folder: Path) -> None:
    torch.set_num_threads(1)
    taken: list[Path] = []
    sum_of = shards.sha256

    def counts(path: Path) -> str:
        taken.append(path)
        return sum_of(path)

    shards.sha256 = counts  # type: ignore[assignment]
    told = []
    for settings in jobs:
        taken.clear()
        error = None
        try:
            pretrain(Pretrain.model_validate(settings))
        except DupmaeError as raised:
            error = str(raised)
        told.append({"sums": len(taken), "error": error})
    (folder / f"opened-{processes.rank()}.json").write_text(json.dumps(told))
    torch.distributed.destroy_process_group()
