"""Text in, explained hits out: `Index` builds, opens, searches and changes an index of documents.

index = Index.build(retriever, ["a text", "another"])
index.search("a question", k=10)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from dupmae.console import logger
from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.retriever.vectors import Encoded
from dupmae.search.blocks import (
    PATH,
    SEGMENT,
    Block,
    Encoder,
    content_name,
    encoding,
    merged,
    paired,
    record_of,
    refuse_duplicates,
    refuse_shared,
)
from dupmae.search.documents import Document, Explanation, Hit, Word, as_documents
from dupmae.search.filters import Filter, Mask
from dupmae.search.segment import REBUILD, Segment, build_segment
from dupmae.search.snapshot import Snapshot, weighted
from dupmae.search.store import Store
from dupmae.search.topk import NOTHING, TopK

Run = dict[str, dict[str, float]]
Item = str | Passage | Document | Mapping[str, Any]


class Index:
    """Documents with their vectors, in memory or in a folder.

    Every search sees one version of the index; `add`, `update`, `delete` and `compact` make the next one, and in a
    folder it is on disk when they return. Any number of threads may search while one writes.
    """

    def __init__(
        self, snapshot: Snapshot, *, store: Store | None, record: dict[str, str], retriever: Encoder | None, int8: bool
    ) -> None:
        self.snapshot = snapshot
        self._store, self._record, self._retriever, self._int8 = store, record, retriever, int8
        self._lock = threading.RLock()

    @classmethod
    def build(
        cls,
        retriever: Encoder,
        documents: Iterable[Item],
        ids: Sequence[str] | None = None,
        path: str | Path | None = None,
        *,
        int8: bool = False,
        batch_tokens: int | None = None,
        segment: int = SEGMENT,
    ) -> Index:
        """Encode documents and index them.

        They are read as a stream, and memory holds one segment of them. A build that was stopped goes on when it is
        called again with the same documents: what was encoded is found by its content.

        Args:
            documents: texts, passages, or mappings of `text`, `id`, `title` and metadata.
            ids: one for each document; None: their own, and "0", "1", ... for texts.
            path: folder that keeps the index; one that is there is replaced when the new one is whole. None: memory.
            int8: keep dense vectors in 8 bits, half the bytes.
            batch_tokens: tokens of an encoding batch, padding included; None: what suits the device.
            segment: passages that are encoded and written at once.

        Raises:
            DupmaeError: for documents without text, id or with an id that comes twice, none at all, a `path` that
                holds something else, or an unsaved retriever where the index is to be kept.
        """
        items = as_documents(documents, ids)

        def blocks() -> Iterator[Block]:
            while block := list(islice(items, segment)):
                yield block, encoding(retriever, block, batch_tokens)

        store = None if path is None else Store(Path(path))
        record = {} if store is None else record_of(retriever, store.folder)
        index = cls(
            Snapshot(0, retriever.dimensions, retriever.vocabulary),
            store=store,
            record=record,
            retriever=retriever,
            int8=int8,
        )
        index._fill(blocks())
        return index

    @classmethod
    def from_vectors(
        cls,
        documents: Iterable[Item],
        batches: Iterable[Encoded],
        *,
        dimensions: int,
        vocabulary: int,
        path: str | Path | None = None,
        record: Mapping[str, str] | None = None,
        int8: bool = False,
        segment: int = SEGMENT,
    ) -> Index:
        """Index documents whose vectors are there, in batches in their order.

        Args:
            record: how to encode queries; None: not known.

        Raises:
            DupmaeError: as `build`.
            ValueError: batches of another width, or documents and vectors that differ in number.
        """
        store = None if path is None else Store(Path(path))
        empty = Snapshot(0, dimensions, vocabulary)
        index = cls(empty, store=store, record=dict(record or {}), retriever=None, int8=int8)
        index._fill(paired(as_documents(documents), batches, segment, (dimensions, vocabulary)))
        return index

    @classmethod
    def open(cls, path: str | Path, retriever: Encoder | None = None) -> Index:
        """Open an index folder, or a run's folder with `index/` in it.

        Args:
            retriever: what to encode with; None: the one that built the index, loaded when it is needed.

        Raises:
            DupmaeError: when there is no index, it is damaged, or was built with another retriever.
        """
        path = Path(path)
        inner = Store(path / "index")
        store = inner if inner.numbers() and not Store(path).numbers() else Store(path)
        manifest, snapshot = store.newest()
        index = cls(snapshot, store=store, record=manifest.retriever, retriever=None, int8=manifest.int8)
        if retriever is not None:
            index._check(retriever)
            index._retriever = retriever
        return index

    def __len__(self) -> int:
        return len(self.snapshot)

    def __repr__(self) -> str:
        snapshot = self.snapshot
        where = "in memory" if self._store is None else str(self._store.folder)
        parts = f"{len(snapshot):,} passages, {len(snapshot.segments)} segments"
        return f"Index({where}, {parts}, version {snapshot.number})"

    @property
    def path(self) -> Path | None:
        """The folder; None in memory."""
        return None if self._store is None else self._store.folder

    @property
    def retriever(self) -> Encoder:
        """What encodes queries and documents.

        Raises:
            DupmaeError: when the retriever that built the index is gone, or has changed since.
        """
        with self._lock:
            if self._retriever is None:
                self._retriever = self._recorded_retriever()
            return self._retriever

    # A string is a sequence of strings to the type checker; here it is one query.
    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, k: int = 10, *, filter: Filter | None = ..., weights: object = ..., threshold: float = ...
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        filter: Filter | None = ...,
        weights: object = ...,
        threshold: float = ...,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        queries: str | Sequence[str],
        k: int = 10,
        *,
        filter: Filter | None = None,
        weights: object = None,
        threshold: float = -np.inf,
    ) -> list[Hit] | list[list[Hit]]:
        """The k passages with the largest score for a query, or for each of several, best first.

        The list is shorter when fewer pass, and empty when none does or the query has no word. Where the score is
        the sparse part alone, passages that share no word with the query are left out.

        Args:
            filter: what passages must be, such as {"year": {"gte": 2020}} (`dupmae.search.filters`).
            weights: factors (a, b) of the dense and the sparse share, or a pair for each query; None: 1 and 1.
            threshold: the smallest score that counts.

        Raises:
            DupmaeError: k below 1, or a filter or weights that cannot be used.
        """
        texts = [queries] if isinstance(queries, str) else list(queries)
        snapshot = self.snapshot
        encoded = self.encode_queries(texts)
        found = snapshot.nearest(encoded, k, weights=weights, filter=filter)
        encoded = weighted(encoded, weights)
        least = max(threshold, float(np.nextafter(np.float32(0), np.float32(1)))) if self._lexical() else threshold
        hits = [
            self._hits(snapshot, encoded.rows(row, row + 1), found, row, least) if text.strip() else []
            for row, text in enumerate(texts)
        ]
        return hits[0] if isinstance(queries, str) else hits

    def encode_queries(self, texts: Sequence[str]) -> Encoded:
        """Vectors of queries, for `snapshot.nearest`."""
        return self.retriever.encode_queries(texts)

    def run(self, queries: Mapping[str, str], k: int = 100, *, weights: object = None) -> Run:
        """Rank for each query (id -> text): query id -> {document id -> score}, best first.

        Raises:
            DupmaeError: as `search`.
        """
        return self.rank(list(queries), self.encode_queries(list(queries.values())), k, weights=weights)

    def rank(self, names: Sequence[str], queries: Encoded, k: int = 100, *, weights: object = None) -> Run:
        """As `run`, for queries that are encoded."""
        snapshot = self.snapshot
        found = snapshot.nearest(queries, k, weights=weights)
        run: Run = {}
        for name, positions, scores in zip(names, found.positions, found.scores, strict=True):
            kept = positions != NOTHING
            run[name] = dict(zip(snapshot.ids(positions[kept]), scores[kept].tolist(), strict=True))
        return run

    def explain(self, query: str, id: str, *, weights: object = None) -> Explanation:
        """Split the score of any document for a query into its parts and words.

        Raises:
            DupmaeError: when no document has the id.
        """
        snapshot = self.snapshot
        position = snapshot.find(id)
        if position is None:
            raise DupmaeError("no document has this id", where=id, fix="ask for one that is in the index")
        return self._explained(snapshot, weighted(self.encode_queries([query]), weights), position)

    def _explained(self, snapshot: Snapshot, query: Encoded, position: int) -> Explanation:
        dense, terms = snapshot.explain(query, position)
        tokens = self.retriever.tokenizer.convert_ids_to_tokens([term for term, _ in terms])
        words = [Word(token, weight) for token, (_, weight) in zip(tokens, terms, strict=True)]
        sparse = sum(weight for _, weight in terms)
        return Explanation(dense + sparse, dense, sparse, words)

    def _hits(self, snapshot: Snapshot, query: Encoded, best: TopK, row: int, least: float) -> list[Hit]:
        hits: list[Hit] = []
        for position, score in zip(best.positions[row].tolist(), best.scores[row].tolist(), strict=True):
            if position != NOTHING and score >= least:
                shares, found = self._explained(snapshot, query, position), snapshot.document(position)
                hit = Hit(
                    rank=len(hits) + 1,
                    id=found.id,
                    title=found.title,
                    text=found.text,
                    score=score,
                    dense=shares.dense,
                    sparse=shares.sparse,
                    words=shares.words,
                    metadata=dict(found.metadata),
                )
                hits.append(hit)
        return hits

    def _lexical(self) -> bool:
        return self.snapshot.dimensions == 0

    def add(self, documents: Iterable[Item], ids: Sequence[str] | None = None) -> Index:
        """Encode documents and add them as a new version.

        Raises:
            DupmaeError: for an id that is there already, a text without an id, or when another process writes.
        """
        return self._put(list(as_documents(documents, ids)), replacing=False)

    def update(self, documents: Iterable[Item], ids: Sequence[str] | None = None) -> Index:
        """As `add`, in place of the documents that have the same ids; both in one version."""
        return self._put(list(as_documents(documents, ids)), replacing=True)

    def _put(self, documents: list[Document], *, replacing: bool) -> Index:
        refuse_duplicates(document.id for document in documents)
        if not documents:
            return self
        with self._writing():
            places = {document.id: self.snapshot.find(document.id) for document in documents}
            known = {name: position for name, position in places.items() if position is not None}
            if known and not replacing:
                fix = "use update to replace a document"
                raise DupmaeError("there is a document with this id", where=next(iter(known)), fix=fix)
            blocks = (documents[start : start + SEGMENT] for start in range(0, len(documents), SEGMENT))
            segments = [self._segment(block, encoding(self.retriever, block, None)) for block in blocks]
            self._commit(self.snapshot.without(known.values()).having(segments))
        return self

    def delete(self, ids: Iterable[str]) -> int:
        """Delete documents as a new version; an id that is not there is no error. Returns how many were there.

        Raises:
            DupmaeError: when another process writes the index.
        """
        with self._writing():
            found = {self.snapshot.find(name) for name in ([ids] if isinstance(ids, str) else ids)} - {None}
            if found:
                self._commit(self.snapshot.without(position for position in found if position is not None))
        return len(found)

    def compact(self) -> Index:
        """Write small segments and those with deleted passages anew, as full ones without.

        Raises:
            DupmaeError: when another process writes the index.
        """
        with self._writing():
            snapshot = self.snapshot
            kept: list[tuple[Segment, Mask | None]] = []
            moved: list[tuple[Segment, Mask | None]] = []
            for segment, gone in zip(snapshot.segments, snapshot.deleted, strict=True):
                whole = gone is None and len(segment) >= SEGMENT // 2
                (kept if whole else moved).append((segment, gone))
            if len(moved) > 1 or any(gone is not None for _, gone in moved):
                segments = [self._segment(*block) for block in merged(moved)]
                alone = tuple(segment for segment, _ in kept)
                base = replace(snapshot, segments=alone, deleted=(None,) * len(alone))
                self._commit(base.having(segments))
        return self

    def refresh(self) -> Index:
        """Take up the newest version of the folder, which another process may have written."""
        if self._store is not None:
            with self._lock:
                if self._store.numbers()[:1] != [self.snapshot.number]:
                    self.snapshot = self._store.newest()[1]
        return self

    def verify(self) -> None:
        """Compare the contents of every file with their checksums; sizes are always compared on opening.

        Raises:
            DupmaeError: naming the first file that differs.
        """
        if self._store is not None:
            self._store.verify(self._store.newest()[0])

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._store is None:
                yield
                return
            with self._store.writing():
                self.refresh()
                yield

    def _fill(self, blocks: Iterable[Block]) -> None:
        """Put all documents in, in place of whatever the folder holds."""
        with self._lock:
            if self._store is None:
                self._take(blocks)
                return
            with self._store.writing():
                self._take(blocks)

    def _take(self, blocks: Iterable[Block]) -> None:
        segments: list[Segment] = []
        for documents, encoded in blocks:
            refuse_duplicates(document.id for document in documents)
            segments.append(self._segment(documents, encoded))
            if self._store is not None and len(documents) >= SEGMENT:
                logger.info(f"{sum(map(len, segments)):,} passages indexed")
        if not segments:
            where = None if self._store is None else self._store.folder
            raise DupmaeError("no passages to index", where=where, fix="give a corpus with at least one passage")
        refuse_shared(segments)
        self._commit(self.snapshot.having(segments))

    def _segment(self, documents: list[Document], encoded: Callable[[], Encoded]) -> Segment:
        if self._store is None:
            return build_segment(encoded(), documents, int8=self._int8)
        name = content_name(documents, self._record, self._int8)
        known = self._store.reopen(name, self.snapshot.vocabulary)
        return known or self._store.write(name, build_segment(encoded(), documents, int8=self._int8))

    def _commit(self, snapshot: Snapshot) -> None:
        # A damaged manifest that was stepped over keeps its number.
        used = [] if self._store is None else self._store.numbers()
        snapshot = replace(snapshot, number=max(snapshot.number, *used, 0) + 1)
        if self._store is not None:
            self._store.commit(snapshot, self._record, int8=self._int8)
        self.snapshot = snapshot

    def _check(self, retriever: Encoder) -> None:
        own = {name: value for name, value in self._record.items() if name != PATH}
        found = retriever.fingerprint()
        changed = sorted(name for name in own.keys() | found.keys() if own.get(name) != found.get(name))
        if own and changed:
            problem = f"the retriever {retriever.folder} has changed since the index was built: {', '.join(changed)}"
            raise DupmaeError(problem, where=self.path, fix=REBUILD)

    def _recorded_retriever(self) -> Encoder:
        from dupmae.retriever.model import Retriever

        if self._store is None or PATH not in self._record:
            fix = "open it with the retriever that made its vectors"
            raise DupmaeError("the index does not name its retriever", where=self.path, fix=fix)
        folder = Path(os.path.normpath(self._store.folder.resolve() / self._record[PATH]))
        if not folder.is_dir():
            fix = "put it back, or build the index again"
            raise DupmaeError(f"the retriever that built the index is gone: {folder}", where=self.path, fix=fix)
        retriever = Retriever.load(folder)
        self._check(retriever)
        return retriever
