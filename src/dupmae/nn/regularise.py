"""The FLOPS regulariser: fewer and evenly spread active terms make sparse search cheap."""

from __future__ import annotations

import torch
from torch import Tensor

from dupmae.nn.distributed import summed


def flops(sums: Tensor, count: int) -> Tensor:
    """sum over the vocabulary of the squared mean activation (Paria et al. 2020, section 4).

    The mean is over the texts of all processes, so that the weight means the same for any number of them. Every
    process gets the same value and has to count 1 / processes of it.

    Args:
        sums: [|V|], each term's activations summed over this process's texts; none below 0.
        count: how many texts those are.
    """
    joint = summed(torch.cat([sums, sums.new_tensor([count])]))
    return (joint[:-1] / joint[-1]).square().sum()
