"""Several processes on one model: who this one is, sums over all, replicas (DDP) or shards (FSDP2).

Started by `torchrun` or `accelerate launch`; a plain command is a run of one process and needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from accelerate.utils import broadcast_object_list, gather_object  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from dupmae.errors import DupmaeError
from dupmae.retriever.backbones import device

T = TypeVar("T")


def join() -> PartialState:
    """The group of processes this one was started in; the first call opens it and picks this process's GPU."""
    return PartialState(cpu=not torch.cuda.is_available())


def rank() -> int:
    """The number of this process; number 0 is the only one that writes."""
    return int(join().process_index)


def count() -> int:
    """How many processes there are."""
    return int(join().num_processes)


def first_of_node() -> bool:
    """Whether this process is the first one on its machine, which reads for the others what they share."""
    return bool(join().is_local_main_process)


def together(work: Callable[[], T]) -> T:
    """Do something in every process; an error of one of them is raised in all, so that none waits for it.

    Raises:
        DupmaeError: that of the first process that has one.
    """
    try:
        done: T | None = work()
        fault = None
    except DupmaeError as error:
        done, fault = None, error
    faults = [fault] if count() == 1 else gather_object([fault])
    raised = next((each for each in faults if each is not None), None)
    if raised is not None:
        raise raised
    return cast(T, done)


def agreed(value: T) -> T:
    """Process 0's value, on every process."""
    if count() == 1:
        return value
    shared: T = broadcast_object_list([value])[0]
    return shared


def total(values: Tensor, *, largest: bool = False) -> Tensor:
    """Element-wise sum (or largest) over all processes, where those exchange tensors."""
    if count() > 1:
        values = values.to(device(), non_blocking=True)
        dist.all_reduce(values, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return values


def anywhere(flag: bool) -> bool:
    """Whether a flag is set in any process, on every process."""
    return flag if count() == 1 else bool(total(torch.tensor([flag], dtype=torch.int32, device=device()), largest=True))


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its shards; every process has to call this."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def placed_like(tensor: Tensor | None, like: Tensor) -> Tensor:
    """Process 0's tensor, sharded or replicated as `like` is; every process has to call this."""
    full = torch.empty(like.shape, dtype=like.dtype, device=like.device) if tensor is None else tensor.to(like.device)
    if isinstance(like, DTensor):
        return distribute_tensor(full, like.device_mesh, like.placements)
    if count() > 1:
        dist.broadcast(full, 0)
    return full


def spread(model: nn.Module, layers: Sequence[nn.Module], sharded: torch.dtype | None) -> Any:
    """Put process 0's weights on every process and keep them equal; returns what is to be called.

    Args:
        layers: the modules that are gathered on their own.
        sharded: None keeps a replica in every process (DDP); else there is a share of weights, gradients and
            optimizer state in each (Zhao et al. 2023, in torch's second version), and this is what weights are cast to
            while they are gathered layer by layer.
    """
    model.to(device())
    if count() == 1:
        return model
    for tensor in (*model.parameters(), *model.buffers()):
        dist.broadcast(tensor.data, 0)
    if sharded is None:
        # A part of a batch may leave a parameter without gradient, and some backbones own parameters nobody uses.
        return DistributedDataParallel(
            model, find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    mesh = init_device_mesh(device().type, (count(),))
    policy = MixedPrecisionPolicy(param_dtype=sharded, reduce_dtype=torch.float32)
    for module in (*layers, model):
        fully_shard(module, mesh=mesh, mp_policy=policy)
    return model


@contextmanager
def gradients_kept_local(model: Any, local: bool) -> Iterator[None]:
    """Leave the exchange of gradients to a later part of the same step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(not local)
    with model.no_sync() if local and isinstance(model, DistributedDataParallel) else nullcontext():
        yield
