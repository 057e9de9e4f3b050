"""A judged split of a retrieval set, whichever layout its folder has."""

from __future__ import annotations

from pathlib import Path

from dupmae.corpus import beir, msmarco
from dupmae.corpus.beir import Passage, Qrels, Queries


def load_split(folder: Path, split: str) -> tuple[list[Passage], Queries, Qrels]:
    """Passages, judged queries and qrels of a BEIR folder, or of MS MARCO's own files.

    Raises:
        DupmaeError: as `beir.load_split` and `msmarco.load_split`.
    """
    if msmarco.is_folder(folder):
        return msmarco.load_split(folder, split)
    return beir.load_split(folder, split)
