"""Training pairs with hard negatives, as one ready batch per step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dupmae.console import logger
from dupmae.corpus.beir import duplicate
from dupmae.corpus.negatives import read_negatives
from dupmae.corpus.training_data import TrainingData, blank, open_training
from dupmae.errors import DupmaeError
from dupmae.search.bm25 import BM25
from dupmae.search.topk import NOTHING
from dupmae.shards.permutation import permuted
from dupmae.shards.tokenise import Tokenisation

MINING_BLOCK = 512


@dataclass(frozen=True)
class PairData:
    """Queries with the passages that answer them, by position in `passages`.

    Attributes:
        negatives: per query given hard negatives, possibly none.
        own: per query the passages that are its own document, which are no negatives either; empty: nobody's.
    """

    passages: list[str]
    queries: list[str]
    positives: list[list[int]]
    negatives: list[list[int]]
    own: list[list[int]] = field(default_factory=list)

    @cached_property
    def answers(self) -> Answers:
        """Which passages are no negatives of a query."""
        own = self.own or [[] for _ in self.queries]
        known = [[*found, *mine] for found, mine in zip(self.positives, own, strict=True)]
        return Answers(self.passages, self.queries, known)


class Answers:
    """Which passages answer a query: copies of a text are one passage, and queries of the same text one query."""

    def __init__(self, passages: Sequence[str], queries: Sequence[str], positives: Sequence[Sequence[int]]) -> None:
        self._text = _numbered(passages)
        self._query = _numbered(queries)
        known: dict[int, set[int]] = {}
        for query, found in zip(self._query.tolist(), positives, strict=True):
            known.setdefault(query, set()).update(self._text[list(found)].tolist())
        self._known = {query: np.array(sorted(found)) for query, found in known.items()}

    def among(self, query: int, passages: Sequence[int]) -> NDArray[np.bool_]:
        """Whether each passage answers the query, bool [P]."""
        return np.isin(self._text[list(passages)], self._known[int(self._query[query])])

    def removed(self, query: int, passages: Sequence[int]) -> list[int]:
        """The passages that do not answer the query."""
        answers = self.among(query, passages)
        return [place for place, answer in zip(passages, answers, strict=True) if not answer]


def _numbered(texts: Sequence[str]) -> NDArray[np.int64]:
    """The same number for texts that differ in white space only, [N]; by 64-bit hashes, not to hold all texts twice."""
    hashes = np.fromiter((hash(" ".join(text.split())) for text in texts), np.int64, len(texts))
    numbers: NDArray[np.int64] = np.unique(hashes, return_inverse=True)[1]
    return numbers


def read_pair_data(path: Path, mined: Path | None = None, split: str = "train", *, whole: bool = False) -> PairData:
    """Read training data of any layout (`dupmae.corpus.training_data`), and hard negatives by id.

    All passages are held if `whole`, or if a query has no given negatives; else only those that training can meet.

    Args:
        mined: a file of `dupmae mine` or of another layout that `read_negatives` knows; its lists replace those in
            the data.

    Raises:
        DupmaeError: for what the readers refuse, and for fewer than two usable queries.
    """
    data = open_training(path, split)
    if len(data.queries) < 2:
        raise DupmaeError("fewer than two queries with a positive", where=path, fix="add training pairs")
    given = data.negatives if mined is None else data.negatives | read_negatives(mined, data.queries)
    wanted = None
    if not whole and all(given.get(query) for query in data.queries):
        wanted = {name for query in data.queries for name in chain(data.positives[query], given[query])}
    texts, own = _texts(data, wanted, mined)
    position = {name: place for place, name in enumerate(texts)}

    def places(names: Sequence[str]) -> list[int]:
        unknown = next((name for name in names if name not in position), None)
        if unknown is not None:
            raise data.unknown(unknown)
        return [position[name] for name in names]

    return PairData(
        list(texts.values()),
        list(data.queries.values()),
        [places(data.positives[query]) for query in data.queries],
        [places(given.get(query, [])) for query in data.queries],
        [places(own.get(query, [])) for query in data.queries],
    )


def _texts(
    data: TrainingData, wanted: set[str] | None, named_in: Path | None
) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Contents by id of the passages wanted, or of all; and by query its own documents among them."""
    needed = wanted or set(chain.from_iterable(data.positives.values()))
    rule = data.own_documents
    texts: dict[str, str] = {}
    own: dict[str, list[str]] = {}
    for line, passage in data.passages():
        if wanted is not None and passage.id not in wanted:
            continue
        if passage.blank and passage.id in needed:
            raise blank(passage.id, data.file, line)
        if passage.id in texts:
            raise duplicate(passage.id, data.file, line)
        texts[passage.id] = passage.content
        for query in rule.queries(passage):
            own.setdefault(query, []).append(passage.id)
    if wanted is not None and (missing := min(wanted - texts.keys(), default=None)) is not None:
        raise data.unknown(missing, named_in)
    return texts, own


class HardNegatives:
    """Hard negatives of a query: the best of those given, or the best BM25 passages, that do not answer it.

    BM25 is asked for blocks of queries as training reaches them: a short run uses a few thousand of
    tens of thousands of queries.
    """

    def __init__(self, data: PairData, depth: int) -> None:
        self._data, self._depth = data, depth
        self._bm25: BM25 | None = None
        self._mined: dict[int, list[int]] = {}
        self._fresh: Sequence[list[int]] | None = None

    def replace(self, mined: Sequence[list[int]]) -> None:
        """Take other candidates for every query from now on, best first."""
        self._fresh = mined

    def of(self, queries: Sequence[int], upcoming: Iterable[int]) -> list[list[int]]:
        """Candidates per query, best first; `upcoming` are queries worth mining in the same call, read if any is."""
        if self._fresh is not None:
            return [self._fresh[query] for query in queries]
        missing = [query for query in queries if not self._data.negatives[query] and query not in self._mined]
        if missing:
            self._mine([q for q in upcoming if not self._data.negatives[q] and q not in self._mined])
        return [self._given(query) or self._mined.get(query, []) for query in queries]

    def _given(self, query: int) -> list[int]:
        return self._data.answers.removed(query, self._data.negatives[query])[: self._depth]

    def _mine(self, queries: Sequence[int]) -> None:
        if self._bm25 is None:
            self._bm25 = BM25(self._data.passages)
        found, _ = self._bm25.search([self._data.queries[query] for query in queries], self._depth)
        unserved = int((found[:, 0] == NOTHING).sum())
        if 2 * unserved > len(queries) and not self._mined:
            said = "BM25 finds no passage for %d of %d queries: random passages are their negatives"
            logger.warning(said, unserved, len(queries))
        for query, row in zip(queries, found, strict=True):
            self._mined[query] = self._data.answers.removed(query, [int(place) for place in row if place >= 0])


class FinetuningSteps(Dataset[dict[str, Tensor]]):
    """The batches of a fine-tuning run, one a step, a pure function of (seed, step).

    Items hold ids, validity and specials of queries [B, Lq] and passages [P, Lp] with P = B (1 + negatives);
    `targets` int64 [B], the column of each query's positive; `ignored` bool [B, P], passages that are
    no negatives of a query; `start` int64 [], the column of the first passage. A part of an item has its queries and
    its passages only, while its columns are those of the passages of all parts, part by part.

    Args:
        lengths, prefixes: of queries and of passages.
    """

    def __init__(
        self,
        data: PairData,
        negatives: HardNegatives,
        tokenizer: Any,
        *,
        steps: int,
        batch_size: int,
        per_query: int,
        lengths: tuple[int, int],
        seed: int,
        prefixes: tuple[str, str] = ("", ""),
        counts: bool = False,
        query_terms_only: bool = False,
    ) -> None:
        self.data, self.steps, self._tokenise = data, steps, Tokenisation(tokenizer)
        self._negatives, self._per_query, self._seed = negatives, per_query, seed
        self._lengths, self._prefixes = lengths, prefixes
        self._counts, self._query_terms_only = counts, query_terms_only
        self.batch_size = min(batch_size, len(data.queries))

    def __len__(self) -> int:
        return self.steps

    @property
    def per_epoch(self) -> int:
        """Steps that go through all queries once, but for what is left of the last batch."""
        return len(self.data.queries) // self.batch_size

    def _queries(self, step: int) -> list[int]:
        """Queries of a step: epochs are fresh permutations cut into whole batches."""
        epoch, batch = divmod(step, self.per_epoch)
        return self._shuffled(epoch, batch * self.batch_size, (batch + 1) * self.batch_size)

    def last_queries(self, count: int) -> list[int]:
        """The last `count` queries of the first epoch: training has not seen them unless it went through it all."""
        total = len(self.data.queries)
        return self._shuffled(0, max(0, total - count), total)

    def _shuffled(self, epoch: int, start: int, end: int) -> list[int]:
        """The queries at places `start` to `end` of an epoch's order, which is never held as a whole."""
        places = permuted(np.arange(start, end), len(self.data.queries), (self._seed, epoch))
        return [int(place) for place in places]

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        item = self.part(step, 0, 1)
        assert item is not None
        return item

    def part(self, step: int, part: int, parts: int) -> dict[str, Tensor] | None:
        """Part `part` of `parts` of a step's item; None when there are fewer queries than parts."""
        queries = self._queries(step)
        drawn = self._passages(step, queries)
        rows = np.array_split(np.arange(len(queries)), parts)
        if not len(rows[part]):
            return None
        by_part = [[drawn[row][rank] for rank in range(1 + self._per_query) for row in of] for of in rows]
        columns = [place for of in by_part for place in of]
        start = sum(len(of) for of in by_part[:part])
        own = [queries[row] for row in rows[part]]
        item = self._item(own, [drawn[row] for row in rows[part]], by_part[part], columns, start)
        if self._query_terms_only:
            # Of all parts, so that the vectors of all processes have the same entries.
            texts = [self.data.queries[query] for query in queries]
            ids = torch.from_numpy(np.unique(self._tokenise(texts, self._lengths[0], self._prefixes[0]).ids))
            item["terms"] = ids[~torch.isin(ids, self._tokenise.special)]
        return item

    def _item(
        self, queries: list[int], drawn: list[list[int]], passages: list[int], columns: list[int], start: int
    ) -> dict[str, Tensor]:
        """The item of a part.

        Args:
            drawn: the passages of each query, its positive first.
            passages: those of the part, rank by rank: all positives, all first negatives, and so on.
            columns: the passages of all parts, `start` the place of the part's first one among them.
        """
        targets = start + np.arange(len(queries))
        item = self._tokens([self.data.queries[query] for query in queries], 0, "query")
        item |= self._tokens([self.data.passages[place] for place in passages], 1, "passage")
        item["targets"], item["start"] = torch.from_numpy(targets), torch.tensor(start)
        item["ignored"] = torch.from_numpy(self._ignored(queries, targets, columns))
        return item

    def _passages(self, step: int, queries: list[int]) -> list[list[int]]:
        """For each query its positive and its negatives."""
        random = np.random.default_rng([self._seed, step, 1])
        drawn = [[int(random.choice(self.data.positives[query]))] for query in queries]
        if self._per_query:
            ahead = range(step, min(self.steps, step + -(-MINING_BLOCK // self.batch_size)))
            candidates = self._negatives.of(queries, (query for later in ahead for query in self._queries(later)))
            for passages, found in zip(drawn, candidates, strict=True):
                passages += self._sample(found, random)
        return drawn

    def _sample(self, candidates: list[int], random: np.random.Generator) -> list[int]:
        """Negatives of one query; random passages fill up where too few are known."""
        chosen = [candidates[place] for place in random.permutation(len(candidates))[: self._per_query]]
        fill = random.integers(len(self.data.passages), size=self._per_query - len(chosen))
        return chosen + [int(place) for place in fill]

    def _ignored(self, queries: list[int], targets: NDArray[np.int64], columns: list[int]) -> NDArray[np.bool_]:
        """A query's own positives anywhere but in its target column are no negatives, nor is a copy of its target."""
        ignored = np.stack([self.data.answers.among(query, columns) for query in queries])
        ignored[np.arange(len(queries)), targets] = False
        return ignored

    def _tokens(self, texts: list[str], side: int, name: str) -> dict[str, Tensor]:
        tokens = self._tokenise(texts, self._lengths[side], self._prefixes[side], counts=side == 1 and self._counts)
        ids, valid, special = self._tokenise.padded(tokens)
        tensors = {f"{name}_ids": ids, f"{name}_valid": valid, f"{name}_special": special}
        if tokens.counts is not None:
            counts = zip(("terms", "times", "lengths"), tokens.counts, strict=True)
            tensors |= {f"{name}_{part}": torch.from_numpy(values) for part, values in counts}
        return tensors
