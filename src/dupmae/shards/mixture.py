"""Several shard folders to be mixed: `open_corpora`, `weights_of`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dupmae.errors import DupmaeError
from dupmae.shards.folder import Shards


def open_corpora(paths: Sequence[Path], *, verify: bool = True) -> list[Shards]:
    """Open shard folders that one model can be trained on.

    Args:
        verify: as for `Shards.open`.

    Raises:
        DupmaeError: when one of them cannot be opened, or was made with another tokenizer than the first.
    """
    corpora = [Shards.open(path, verify=verify) for path in paths]
    for shards in corpora[1:]:
        if shards.manifest.tokenizer != corpora[0].manifest.tokenizer:
            problem = f"was made with another tokenizer than {corpora[0].path}"
            fix = f"prepare it again with tokenizer={corpora[0].path / 'tokenizer'}"
            raise DupmaeError(problem, where=shards.path, fix=fix)
    return corpora


def weights_of(corpora: Sequence[Shards], weights: Sequence[float] | None) -> list[float]:
    """The weights given, or the sizes of the corpora in tokens: then every token is as likely as any other."""
    return [float(shards.manifest.tokens) for shards in corpora] if weights is None else list(weights)
