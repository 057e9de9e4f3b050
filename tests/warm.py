"""Functions run in processes of their own that need not load the libraries: forked from one that has done so once.

Loading them takes some 5 s of a core, far longer than most of what the tests do in other processes. Where processes
cannot be forked, each is started afresh.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from dupmae.training import peak
from tests.paths import ROOT

NOTHING: Mapping[str, str] = {}
CONTEXT = multiprocessing.get_context("forkserver" if hasattr(os, "fork") else "spawn")
LOADED = [
    "transformers.models.bert.modeling_bert",
    # What the libraries load on their own, late and where it is installed.
    "torch._dynamo",
    "torch.utils.tensorboard",
    "pandas",
    "dupmae.cli",
    "dupmae.settings.loading",
    *(
        f"dupmae.stages.{name}"
        for name in ("prepare", "pretrain", "finetune", "mine", "train_reranker", "distill", "index")
    ),
    "dupmae.stages.evaluate",
    "dupmae.report.text",
    "dupmae.search.index",
]
if hasattr(os, "fork"):
    CONTEXT.set_forkserver_preload(LOADED)


def run(function: Callable[..., Any], *given: Any, seconds: float = 300, **places: Any) -> CompletedProcess[str]:
    """Call a function of a module in a process of its own: its exit code and what it wrote.

    Args:
        given: what it is called with, to be pickled; what it returns is the exit code, as for `sys.exit`.
        seconds: it is killed after that.
        places: as for `Running`.
    """
    return Running(function, *given, **places).wait(seconds)


class Running:
    """A function called in a process of its own.

    Args:
        folder: where it runs.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *given: Any,
        folder: Path = ROOT,
        environment: Mapping[str, str] = NOTHING,
    ) -> None:
        self._scratch = ExitStack()
        self._said = Path(self._scratch.enter_context(tempfile.TemporaryDirectory()))
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process = CONTEXT.Process(target=_work, args=(function, given, folder, variables, self._said))
        self.process.start()

    def wait(self, seconds: float = 300) -> CompletedProcess[str]:
        """Its end."""
        with self._scratch:
            self.process.join(seconds)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
            out, error = ((self._said / name).read_text(encoding="utf-8") for name in ("out", "error"))
            code = self.process.exitcode
            self.process.close()
        return CompletedProcess([], -1 if code is None else code, out, error)


def measure_quickly() -> None:
    """Take the speed that utilisation is measured against from small products: it costs every run 0.3 s otherwise."""
    peak.SIZE["cpu"], peak.SECONDS = 64, 0.0


def _work(
    function: Callable[..., Any], given: tuple[Any, ...], folder: Path, variables: dict[str, str], said: Path
) -> None:
    for number, name in ((1, "out"), (2, "error")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    # What was loaded before is no garbage: looking through it takes a training run 0.3 s.
    gc.freeze()
    measure_quickly()
    sys.exit(function(*given))
