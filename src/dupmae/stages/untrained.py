"""`untrained`: a randomly started encoder as a folder, so that several runs start from the same weights."""

from __future__ import annotations

from pathlib import Path

import torch

from dupmae.settings import Untrained
from dupmae.shards.folder import Shards
from dupmae.training.start import save_untrained


def untrained(settings: Untrained) -> Path:
    """Save the encoder with the tokenizer of the shards.

    Raises:
        DupmaeError: for shards that cannot be read, or when the file system refuses.
    """
    shards = Shards.open(settings.data)
    torch.manual_seed(settings.seed)
    return save_untrained(settings.shape, shards, max(settings.positions, shards.manifest.max_length), settings.out)
