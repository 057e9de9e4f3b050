from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import numpy as np
import pytest

from dupmae.memory import KERNELS_KEPT, peak_bytes, release

KERNELS = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="utf-8") as handle:
        return int(handle.read().split()[1]) * 4096


def test_the_peak_counts_what_was_held() -> None:
    block = np.ones(40_000_000, dtype=np.uint8)
    assert peak_bytes() > block.nbytes


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives heap pages back on request")
def test_free_pages_go_back_to_the_system() -> None:
    # Blocks below any mmap threshold lie in the heap; one kept at the end pins its top.
    blocks = [ctypes.create_string_buffer(b"x" * 100_000) for _ in range(2000)]
    kept = blocks[-1]
    before = resident_bytes()
    blocks.clear()
    release()
    assert before - resident_bytes() > 100_000_000
    assert kept.raw[:1] == b"x"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told")
def test_kept_pages_are_not_faulted_in_again() -> None:
    """In a process of its own, because the setting stays."""
    script = """
import resource, sys
import numpy as np
from dupmae.memory import keep_pages
if sys.argv[1] == "keep":
    keep_pages()
np.ones(64_000_000, dtype=np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(64_000_000, dtype=np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = {}
    for mode in ("keep", "default"):
        command = [sys.executable, "-c", script, mode]
        faults[mode] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert faults["keep"] < 100
    assert faults["default"] > 20 * faults["keep"]


@pytest.mark.parametrize("given", [None, "7"])
def test_the_kernels_kept_are_bounded_unless_they_are_already(given: str | None) -> None:
    script = f"import os; from dupmae.memory import keep_pages; keep_pages(); print(os.environ[{KERNELS!r}])"
    environment = {name: value for name, value in os.environ.items() if name != KERNELS}
    environment |= {} if given is None else {KERNELS: given}
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == (given or str(KERNELS_KEPT))
