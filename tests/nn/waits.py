"""Counts what a GPU would have to be waited for, without one: tensors of the `meta` device stand for it.

They have shapes and no numbers, so whatever needs one (a copy to the host, a tensor's truth, a shape that depends on
numbers) cannot be computed, and an operation on tensors of two devices is an error as it is on a GPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What stands for a GPU.
DEVICE = "meta"


class Waits(TorchDispatchMode):
    """Names of the operations for which the host waits for the device, or the device for the host's pageable memory.

    A number that is asked for is 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        first = args[0] if args and isinstance(args[0], Tensor) else None
        name = func.overloadpacket.__name__
        if first is None:
            return func(*args, **kwargs)
        if name == "_local_scalar_dense" and first.device.type == DEVICE:
            self.seen.append(name)
            return False if first.dtype == torch.bool else 0
        target = kwargs.get("device")
        moved = name == "_to_copy" and target is not None and torch.device(target).type != first.device.type
        if moved and not kwargs.get("non_blocking"):
            self.seen.append(f"{name} to {target}")
            return torch.zeros(first.shape, dtype=kwargs.get("dtype") or first.dtype, device=target)
        return func(*args, **kwargs)
