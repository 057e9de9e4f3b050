from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

from dupmae.memory import peak_bytes, release


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
