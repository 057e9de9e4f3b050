"""The script for a machine with a GPU starts, runs and says what it could not measure on a machine without one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from dupmae.nn import vocabulary


def test_it_runs_on_a_cpu_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "STEPS", 1)
    monkeypatch.setattr(gpu, "SHAPES", gpu.SHAPES[:1])
    monkeypatch.setattr(vocabulary, "_scored", vocabulary._scored)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--scale", "0.01", "--out", str(out)])
    gpu.main()
    found = json.loads(out.read_text())
    assert set(found) == set(gpu.STAGES)
    failed = [name for part in found.values() for name, value in part.items() if str(value).startswith("failed")]
    # A CPU has not all of these kernels.
    assert all(name.startswith(("cudnn", "efficient", "flash")) for name in failed)
    assert found["correct"]["masks are the CPU's, 64 tokens"] is True
    assert found["correct"]["maxima against a whole product"] < 1e-5
    assert {name.partition(",")[0] for name in found["speed"]} == set(gpu.VARIANTS)
    assert all(isinstance(value, dict) or "out of time" in value for value in found["speed"].values())
    assert found["run"] == {"small-from-nothing": "not measured: no --data"}
