"""How fast this machine multiplies matrices: the figure that utilisation is measured against."""

from __future__ import annotations

import time

import torch

from dupmae.retriever.backbones import device

# Long enough to fill the machine, short enough to measure at the start of every run.
SIZE = {"cpu": 1024, "cuda": 8192}
SECONDS = 0.3
FEWEST = 3


def matmul_peak(dtype: torch.dtype) -> float:
    """Operations per second of the fastest of a few square matrix products in `dtype`, on the device that trains."""
    where = device()
    size = SIZE[where.type]
    # Not ones: products of equal numbers take so little power that a GPU runs them faster than any others. Drawn from
    # a source of their own, since dropout starts from the common one.
    source = torch.Generator(where).manual_seed(0)
    left = torch.randn(size, size, dtype=dtype, device=where, generator=source)
    best, spent, done = float("inf"), 0.0, 0
    while done <= FEWEST or spent < SECONDS:
        before = _now(where)
        torch.mm(left, left)
        seconds = _now(where) - before
        # The first product pays for loading the kernels.
        best = min(best, seconds) if done else best
        spent, done = spent + seconds, done + 1
    return 2 * size**3 / best


def _now(where: torch.device) -> float:
    if where.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
