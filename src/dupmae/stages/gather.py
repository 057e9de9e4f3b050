"""`gather`: pairs from several sources to one BEIR folder."""

from __future__ import annotations

from pathlib import Path

from dupmae.corpus import pair_sources
from dupmae.settings import Gather


def gather(settings: Gather) -> int:
    """Write the pairs, return the number of queries; errors as `dupmae.corpus.pair_sources.gather`."""
    return pair_sources.gather(settings.pairs, Path(), settings.out, seed=settings.seed)
