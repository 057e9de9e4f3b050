"""A searchable folder of hybrid vectors: exact search, explanations, passages.

Layout (docs/formats.md): `settings.json`, `dense.npy` float16 [N, d'], the inverted file of
`dupmae.search.postings`, and `passages.arrow` (id, title, text). All but the settings are memory-mapped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.files import read_json
from dupmae.retriever.vectors import Encoded, Floats
from dupmae.search.postings import REBUILD, Postings, open_array

FORMAT, VERSION = "dupmae-index", 1
SETTINGS, DENSE, PASSAGES = "settings.json", "dense.npy", "passages.arrow"
# Queries scored together: posting lists and dense rows are read once a block, and past 64 the gain is gone.
# Beyond 8 MB of scores they leave the processor's cache: 96,000 passages took 4 ms a query at 16, 20 at 64.
BLOCK = 64
SCORES = 1 << 21
ROWS = 1 << 13  # dense rows widened to float32 at once: 12 MB at 384 dimensions

Part = Literal["hybrid", "dense", "sparse"]
Positions = NDArray[np.int32]
Run = dict[str, dict[str, float]]


class _Settings(BaseModel):
    """What `settings.json` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["dupmae-index"]
    version: Literal[1]
    passages: int = Field(ge=1)
    dimensions: int = Field(ge=0)
    vocabulary: int = Field(ge=0)
    longest: float = Field(ge=0, allow_inf_nan=False)
    retriever: dict[str, str]


@dataclass(frozen=True)
class Explanation:
    """Why a passage has its score: the share of each part, and what each matching term adds, largest first."""

    dense: float
    sparse: float
    contributions: list[tuple[int, float]]


class HybridIndex:
    """An index opened for search; `HybridIndex.load` opens one, `build_index` makes one."""

    def __init__(self, folder: Path, settings: _Settings) -> None:
        self.folder = folder
        self.dimensions, self.vocabulary = settings.dimensions, settings.vocabulary
        self.retriever: Mapping[str, str] = settings.retriever
        self._size, self._longest = settings.passages, settings.longest
        self._dense = open_array(folder / DENSE, np.float16, (self._size, self.dimensions))
        self._postings = Postings(folder, self._size, self.vocabulary)
        self._texts = _open_texts(folder / PASSAGES, self._size)

    @classmethod
    def load(cls, folder: str | Path) -> HybridIndex:
        """Open an index folder; vectors and texts stay on disk until they are needed.

        Raises:
            DupmaeError: when the folder is missing, is no index, is of another version, or is damaged.
        """
        folder = Path(folder)
        if not (folder / SETTINGS).is_file():
            problem = "not an index (it has no settings.json)" if folder.is_dir() else "no such index folder"
            raise DupmaeError(problem, where=folder, fix="make one with `dupmae index`")
        return cls(folder, _read_settings(folder / SETTINGS))

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Encoded, k: int, *, part: Part = "hybrid") -> tuple[Floats, Positions]:
        """The k passages with the largest score, exactly, for each query.

        score = q.dense . p.dense + q.sparse . p.sparse (DupMAE, equation 12), or one of its two terms.

        Args:
            queries: [Q, d'] and [Q, |V|].
            k: passages per query, at least 1.
            part: which terms of the score count.

        Returns:
            scores [Q, k] float32, best first, and positions [Q, k] int32. The lower position comes first
            where scores are equal; places past the last passage hold -inf and -1.

        Raises:
            DupmaeError: k below 1, or queries of another width than the passages.
        """
        if k < 1:
            raise DupmaeError(f"{k} passages asked for", where="k", fix="ask for at least 1")
        self._check(queries)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        positions = np.full((len(queries), k), -1, np.int32)
        step = min(BLOCK, max(1, SCORES // self._size))
        for start in range(0, len(queries), step):
            block = queries.rows(start, start + step)
            for row, (found, values) in enumerate(self._best(block, k, part), start):
                scores[row, : len(found)] = values
                positions[row, : len(found)] = found
        return scores, positions

    def explain(self, query: Encoded, position: int) -> Explanation:
        """Split the score of one query (a single row) for one passage into its parts and terms.

        Raises:
            DupmaeError: when the query has another width than the passages.
        """
        if len(query) != 1 or not 0 <= position < self._size:
            raise ValueError(f"need one query and a position below {self._size}: {len(query)}, {position}")
        self._check(query)
        contributions = self._postings.contributions(query.sparse, position)
        dense = self._dense_exactly(query.dense[0], np.array([position]))[0]
        return Explanation(float(dense), sum(value for _, value in contributions), contributions)

    def passages(self, positions: Iterable[int]) -> list[Passage]:
        """The passages at some positions, in the order asked for."""
        columns = [self._texts[name] for name in ("id", "title", "text")]
        return [Passage(*(column[int(position)].as_py() for column in columns)) for position in positions]

    @cached_property
    def ids(self) -> list[str]:
        """The passages' ids by position."""
        return [str(name) for name in self._texts["id"].to_pylist()]

    def ranking(self, query_ids: Sequence[str], queries: Encoded, k: int, *, part: Part = "hybrid") -> Run:
        """Search and give a run: query id -> {passage id -> score}, best first. Errors as `search`."""
        scores, positions = self.search(queries, k, part=part)
        run: Run = {}
        for name, values, found in zip(query_ids, scores.tolist(), positions.tolist(), strict=True):
            run[name] = {self.ids[p]: value for p, value in zip(found, values, strict=True) if p >= 0}
        return run

    def size_bytes(self, part: Part = "hybrid") -> int:
        """Bytes the vectors take on disk: both parts, or one."""
        sizes = {"dense": int(self._dense.nbytes), "sparse": self._postings.size_bytes}
        return sum(sizes.values()) if part == "hybrid" else sizes[part]

    def _check(self, queries: Encoded) -> None:
        widths, own = (queries.dense.shape[1], queries.sparse.shape[1]), (self.dimensions, self.vocabulary)
        if widths != own:
            problem = f"queries have widths {widths}, the index has {own}"
            raise DupmaeError(problem, where=self.folder, fix="search with the retriever that built the index")

    def _best(self, queries: Encoded, k: int, part: Part) -> Iterator[tuple[Positions, Floats]]:
        """For each query of a block its best positions and their scores, best first.

        Matrix products round by a row's place in the block, so they only choose candidates; the dense part of
        these is then summed again in float64, so that equal passages get equal scores. The sparse part, summed
        term by term in float32, has that property from the start.
        """
        zeros = np.zeros((len(queries), self._size), np.float32)
        dense = zeros if part == "sparse" else self._dense_roughly(queries.dense)
        sparse = zeros if part == "dense" else self._postings.scores(queries.sparse)
        for query, rough, lexical in zip(queries.dense, dense, sparse, strict=True):
            candidates = _candidates(rough + lexical, k, 0.0 if part == "sparse" else self._error(query))
            exact = lexical[candidates].astype(np.float64)
            if part != "sparse":
                exact += self._dense_exactly(query, candidates)
            scores = exact.astype(np.float32)
            order = np.argsort(-scores, kind="stable")[:k]
            yield candidates[order].astype(np.int32), scores[order]

    def _dense_roughly(self, queries: Floats) -> Floats:
        """Dense scores by float32 matrix products: [B, N]."""
        # torch widens float16 eight times faster than numpy, which makes single queries fast.
        wanted, scores = torch.from_numpy(queries), torch.empty(len(queries), self._size)
        for start in range(0, self._size, ROWS):
            rows = torch.from_numpy(self._dense[start : start + ROWS]).float()
            torch.mm(wanted, rows.T, out=scores[:, start : start + ROWS])
        return scores.numpy()

    def _dense_exactly(self, query: Floats, positions: NDArray[np.integer]) -> NDArray[np.float64]:
        """Dense scores of one query for a few passages in float64, which holds each product exactly: [n]."""
        rows = self._dense[positions].astype(np.float64)
        scores: NDArray[np.float64] = np.einsum("nd,d->n", rows, query.astype(np.float64))
        return scores

    def _error(self, query: Floats) -> float:
        """How far a float32 dense score can be off: d' roundings of at most |q| |p| in all."""
        unit = float(np.finfo(np.float32).eps)
        return unit * (self.dimensions + 1) * float(np.linalg.norm(query)) * self._longest


def _candidates(scores: Floats, k: int, error: float) -> NDArray[np.int64]:
    """Positions, rising, that can be among the k best when each score is off by at most `error`."""
    if k >= len(scores):
        return np.arange(len(scores))
    threshold = float(np.partition(scores, len(scores) - k)[len(scores) - k])
    # The sum of both parts is rounded to float32 as well, twice.
    slack = 2 * (error + float(np.finfo(np.float32).eps) * (abs(threshold) + error))
    return np.flatnonzero(scores >= threshold - slack)


def _read_settings(file: Path) -> _Settings:
    found = read_json(file)
    try:
        return _Settings.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise DupmaeError(f"cannot be used: {name}: {first['msg']}", where=file, fix=REBUILD) from None


def _open_texts(file: Path, rows: int) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(file))).read_all()
    except FileNotFoundError:
        raise DupmaeError("no such file in the index", where=file, fix=REBUILD) from None
    except (OSError, pa.ArrowException) as error:
        raise DupmaeError(f"damaged: {error}", where=file, fix=REBUILD) from None
    if table.num_rows != rows or table.column_names != ["id", "title", "text"]:
        problem = f"damaged: holds {table.num_rows} rows of {table.column_names} instead of {rows} passages"
        raise DupmaeError(problem, where=file, fix=REBUILD)
    return table
