"""Text in, explained hits out: an index together with the retriever that built it.

`Searcher` opens both from the index's own record; `index_passages` builds an index with a retriever.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.retriever.vectors import Encoded
from dupmae.search.builder import build_index
from dupmae.search.index import SETTINGS, HybridIndex
from dupmae.search.postings import REBUILD

PATH = "path"
"""Key of the index's record that holds the retriever's folder, relative to the index; the others are SHA-256s."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One found passage.

    Attributes:
        rank: 1 for the best.
        score: dense + sparse (DupMAE, equation 12).
        words: tokens of the vocabulary that query and passage share, with what each adds to the sparse
            share, largest first; continuations of a word keep their `##`.
    """

    rank: int
    id: str
    title: str
    text: str
    score: float
    dense: float
    sparse: float
    words: list[tuple[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """The hit as plain values, for JSON."""
        return asdict(self)


class Searcher:
    """An open index and its retriever."""

    def __init__(self, index: HybridIndex, retriever: Retriever) -> None:
        self.index, self.retriever = index, retriever

    @classmethod
    def open(cls, path: str | Path) -> Searcher:
        """Open an index folder, or a run's folder with `index/` in it, and the retriever it was built with.

        Raises:
            DupmaeError: when there is no index, when the retriever is gone, or is another than the index
                was built with: its vectors would then mean something else.
        """
        path = Path(path)
        inner = path / "index"
        index = HybridIndex.load(inner if not (path / SETTINGS).is_file() and (inner / SETTINGS).is_file() else path)
        return cls(index, _recorded_retriever(index))

    def search(self, text: str, k: int = 10) -> list[Hit]:
        """The k passages with the largest score for a query, best first; fewer when the index has fewer.

        Where the score is the sparse part alone, passages that share no word with the query are left out.

        Raises:
            DupmaeError: for a query without a word, k below 1, or a sparse retriever that finds nothing.
        """
        query = self._encode(text)
        scores, positions = self.index.search(query, k)
        sparse_only = self.retriever.dimensions == 0
        found = [
            (int(position), float(score))
            for position, score in zip(positions[0], scores[0], strict=True)
            if position >= 0 and not (sparse_only and score <= 0)
        ]
        if not found:
            raise DupmaeError("no passage shares a word with the query", where=repr(text), fix="use other words")
        passages = self.index.passages([position for position, _ in found])
        return [
            self._hit(query, rank, position, score, passage)
            for rank, ((position, score), passage) in enumerate(zip(found, passages, strict=True), 1)
        ]

    def _encode(self, text: str) -> Encoded:
        tokenizer = self.retriever.tokenizer
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise DupmaeError("the query is empty", where=repr(text), fix="give at least one word")
        if set(ids) == {tokenizer.unk_token_id}:
            logger.warning("the retriever knows no word of the query: the order below means little")
        return self.retriever.encode_queries([text])

    def _hit(self, query: Encoded, rank: int, position: int, score: float, passage: Passage) -> Hit:
        parts = self.index.explain(query, position)
        tokens = self.retriever.tokenizer.convert_ids_to_tokens([term for term, _ in parts.contributions])
        values = [value for _, value in parts.contributions]
        return Hit(
            rank=rank,
            id=passage.id,
            title=passage.title,
            text=passage.text,
            score=score,
            dense=parts.dense,
            sparse=parts.sparse,
            words=list(zip(tokens, values, strict=True)),
        )


def index_passages(
    out: Path, retriever: Retriever, passages: Sequence[Passage], *, batch_tokens: int | None = None
) -> HybridIndex:
    """Encode passages and write their index, which records the retriever so that `Searcher.open` finds it.

    Args:
        out: folder of the index.
        retriever: loaded from a folder or saved to one.
        batch_tokens: tokens per encoding batch, padding included; None: what suits the device.

    Raises:
        DupmaeError: when `out` is or holds the retriever's folder, there are no passages, or the file system
            refuses.
    """
    fingerprint, folder, final = retriever.fingerprint(), retriever.folder, Path(out).resolve()
    assert folder is not None, "fingerprint() refuses a retriever without a folder"
    if folder.resolve().is_relative_to(final):
        raise DupmaeError("the index would replace its own retriever", where=out, fix="choose another folder")
    return build_index(
        out,
        retriever.passage_batches([passage.content for passage in passages], batch_tokens=batch_tokens),
        passages,
        dimensions=retriever.dimensions,
        vocabulary=retriever.vocabulary,
        # A relative path keeps its meaning when the run's folder is moved or copied as a whole.
        retriever={PATH: Path(os.path.relpath(folder.resolve(), final)).as_posix(), **fingerprint},
    )


def _recorded_retriever(index: HybridIndex) -> Retriever:
    record = dict(index.retriever)
    where, path = index.folder / SETTINGS, record.pop(PATH, None)
    if path is None:
        raise DupmaeError("does not name the retriever that built the index", where=where, fix=REBUILD)
    folder = Path(os.path.normpath(index.folder.resolve() / path))
    if not folder.is_dir():
        fix = "put it back, or build the index again"
        raise DupmaeError(f"the retriever that built the index is gone: {folder}", where=where, fix=fix)
    retriever = Retriever.load(folder)
    found = retriever.fingerprint()
    changed = sorted(name for name in record.keys() | found.keys() if record.get(name) != found.get(name))
    if changed:
        problem = f"the retriever {folder} has changed since the index was built: {', '.join(changed)}"
        raise DupmaeError(problem, where=where, fix=REBUILD)
    return retriever
