"""A vocabulary vector folded to a fixed width, so that an index of dense vectors serves it."""

from __future__ import annotations

import torch
from torch import Tensor


def fold(values: Tensor, width: int) -> Tensor:
    """The largest entry of each of `width` groups, with a sign that says which half of the group it is from.

    Entry v belongs to group v mod width; its sign is that of (-1)^(v // width). Products of different terms that
    share a group then count for the score as often as against it (Lin, Li and Lin 2023, "Aggretriever").

    Args:
        values: [B, |V|], none below 0.

    Returns:
        [B, width].
    """
    rows = -(-values.shape[1] // width)
    padded = torch.nn.functional.pad(values, (0, rows * width - values.shape[1]))
    best = padded.view(len(values), rows, width).max(1)
    return best.values * (1 - 2 * (best.indices % 2)).to(values.dtype)
