"""The process's memory: its peak, and giving back what is free."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource


def peak_bytes() -> int:
    """Most resident memory of this process so far (macOS counts in bytes, Linux in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def release() -> None:
    """Collect cycles and return free heap pages to the system.

    Batches differ in shape, so glibc's heap fills with holes: a run of several stages grew to 6.7 GB of which
    a stage needs a third. Elsewhere than under glibc only the collection happens.
    """
    # A Trainer and its model refer to each other: without this they stay until the collector happens to run.
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
