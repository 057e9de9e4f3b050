"""The process's memory: its peak, keeping freed pages, and giving them back."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource

# Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
# Kernels that oneDNN keeps, one for each shape of a product; its own 1,024 are half a gigabyte.
KERNELS_KEPT = 128


def peak_bytes() -> int:
    """Most resident memory of this process so far (macOS counts in bytes, Linux in kilobytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def keep_pages() -> None:
    """Make glibc keep freed memory for the next tensor, and oneDNN no more kernels than a step needs.

    Has to come before the first product. Elsewhere than under glibc only the kernels are bounded.

    By default every large tensor is mapped anew and its pages are zeroed and faulted in at the first touch:
    `--naive-allocator ours` of benchmarks.pretraining shows what that costs a step. `release` gives back what piles up.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def release() -> None:
    """Collect cycles and return free heap pages to the system.

    Batches differ in shape, so glibc's heap fills with holes: a run of several stages grew to 6.7 GB of which
    a stage needs a third. Elsewhere than under glibc only the collection happens.
    """
    # A Trainer and its model refer to each other: without this they stay until the collector happens to run.
    gc.collect()
    trim()


def trim() -> None:
    """Return free heap pages to the system, without looking for garbage first."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
