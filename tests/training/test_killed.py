"""A run killed at any moment and started again ends bit for bit where one that was never stopped does."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from dupmae.files import write_text
from dupmae.settings import Prepare
from dupmae.stages.prepare import prepare
from tests import warm
from tests.reference.tiny import sentences
from tests.training import killed

POINTS = 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked")
def test_killed_runs_end_like_one_that_never_stopped(tmp_path: Path) -> None:
    write_text(tmp_path / "texts.txt", "\n".join(sentences(120)))
    prepare(Prepare(inputs=[tmp_path / "texts.txt"], out=tmp_path / "data", vocabulary=150, max_length=32))
    cache = {"DUPMAE_CACHE": str(tmp_path / "cache")}
    done = warm.run(killed.main, tmp_path / "data", tmp_path, POINTS, environment=cache)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    whole, stopped = report["whole"], report["stopped"]
    assert whole["log"][-1]["step"] == 7
    for run in stopped:
        assert run["again"] == 0, run
        for name in ("sums", "log", "names"):
            assert run[name] == whole[name], run
    ended = [run for run in stopped if run["code"] == -signal.SIGKILL]
    assert len(ended) >= 10
    saving = [run for run in ended if run["kind"] == "save"]
    assert len(saving) == POINTS // 3
    # Some died with half a checkpoint under its temporary name, and some had a whole one to go on from.
    assert any(name.startswith(".checkpoint-") for run in saving for name in run["found"])
    assert any(name.startswith("checkpoint-") for run in ended for name in run["found"])
