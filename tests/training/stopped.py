"""Three runs in a process that is one of two: a whole one, one that is stopped, and the same resumed.

`main` takes their settings. Process 1 alone is asked to stop, in the second of three passes of the third step. Each
process writes `stopped-RANK.json` to a folder: how the second run ended, the passes it began, the checkpoints there.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from dupmae.nn.objectives import DuplexMAE
from dupmae.settings import Pretrain
from dupmae.stages.pretrain import pretrain
from dupmae.training import checkpoints, processes

PASS = 7


def main(jobs: list[dict[str, Any]], folder: Path) -> None:
    torch.set_num_threads(1)
    whole, second, resumed = map(Pretrain.model_validate, jobs)
    pretrain(whole)
    forward, passes = DuplexMAE.forward, []

    def stops(self: DuplexMAE, *given: Any) -> Any:
        passes.append(1)
        if processes.rank() == 1 and len(passes) == PASS + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *given)

    DuplexMAE.forward = stops  # type: ignore[method-assign]
    code: Any = None
    try:
        pretrain(second)
    except SystemExit as ended:
        code = ended.code
    DuplexMAE.forward = forward  # type: ignore[method-assign]
    kept = [path.name for path in checkpoints.listed(second.out)]
    # Before the resumed run adds to them.
    processes.join().wait_for_everyone()
    told = {"code": code, "passes": len(passes), "checkpoints": kept}
    (folder / f"stopped-{processes.rank()}.json").write_text(json.dumps(told))
    pretrain(resumed)
    torch.distributed.destroy_process_group()
