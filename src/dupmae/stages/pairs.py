"""Training pairs with hard negatives, as one ready batch per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from dupmae.corpus.beir import load_split, read_pairs
from dupmae.errors import DupmaeError
from dupmae.evaluation.bm25 import BM25

MINING_BLOCK = 512


@dataclass(frozen=True)
class PairData:
    """Queries with the passages that answer them, by position in `passages`.

    Attributes:
        negatives: per query given hard negatives, possibly none.
    """

    passages: list[str]
    queries: list[str]
    positives: list[list[int]]
    negatives: list[list[int]]


def read_pair_data(path: Path) -> PairData:
    """Read a BEIR folder with qrels/train.tsv, or a jsonl of query/positive/negatives.

    Raises:
        DupmaeError: for what the readers refuse, and for fewer than two usable queries.
    """
    data = _from_beir(path) if path.is_dir() else _from_jsonl(path)
    if len(data.queries) < 2:
        raise DupmaeError("fewer than two queries with a positive", where=path, fix="add training pairs")
    return data


def _from_beir(path: Path) -> PairData:
    passages, queries, qrels = load_split(path, "train")
    position = {passage.id: place for place, passage in enumerate(passages)}
    judged = {query: [position[d] for d, grade in found.items() if grade > 0] for query, found in qrels.items()}
    kept = [query for query, found in judged.items() if found]
    return PairData(
        [passage.content for passage in passages],
        [queries[query] for query in kept],
        [judged[query] for query in kept],
        [[] for _ in kept],
    )


def _from_jsonl(path: Path) -> PairData:
    pairs = read_pairs(path)
    position: dict[str, int] = {}

    def place(text: str) -> int:
        return position.setdefault(text, len(position))

    positives = [[place(text) for text in pair.positives] for pair in pairs]
    negatives = [[place(text) for text in pair.negatives] for pair in pairs]
    return PairData(list(position), [pair.query for pair in pairs], positives, negatives)


class HardNegatives:
    """Hard negatives of a query: those given, or the best BM25 passages that are no positives.

    BM25 is asked for blocks of queries as training reaches them: a short run uses a few thousand of
    tens of thousands of queries.
    """

    def __init__(self, data: PairData, depth: int) -> None:
        self._data, self._depth = data, depth
        self._bm25: BM25 | None = None
        self._mined: dict[int, list[int]] = {}

    def of(self, queries: Sequence[int], upcoming: Sequence[int]) -> list[list[int]]:
        """Candidates per query, best first; `upcoming` are queries worth mining in the same call."""
        missing = [query for query in queries if not self._data.negatives[query] and query not in self._mined]
        if missing:
            self._mine([q for q in upcoming if not self._data.negatives[q] and q not in self._mined])
        return [self._data.negatives[query] or self._mined[query] for query in queries]

    def _mine(self, queries: Sequence[int]) -> None:
        if self._bm25 is None:
            self._bm25 = BM25(self._data.passages)
        found, _ = self._bm25.search([self._data.queries[query] for query in queries], self._depth)
        for query, row in zip(queries, found, strict=True):
            positives = set(self._data.positives[query])
            self._mined[query] = [int(place) for place in row if place >= 0 and int(place) not in positives]


class FinetuningSteps(Dataset[dict[str, Tensor]]):
    """The batches of a fine-tuning run, one a step, a pure function of (seed, step).

    Items hold ids, validity and specials of queries [B, Lq] and passages [P, Lp] with P = B (1 + negatives);
    `targets` int64 [B], the column of each query's positive; `ignored` bool [B, P], passages that are
    no negatives of a query.
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
    ) -> None:
        self.data, self.steps, self.tokenizer = data, steps, tokenizer
        self._negatives, self._per_query, self._lengths, self._seed = negatives, per_query, lengths, seed
        self.batch_size = min(batch_size, len(data.queries))

    def __len__(self) -> int:
        return self.steps

    def _queries(self, step: int) -> list[int]:
        """Queries of a step: epochs are fresh permutations cut into whole batches."""
        per_epoch = len(self.data.queries) // self.batch_size
        epoch, place = divmod(step, per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self.data.queries))
        return [int(query) for query in order[place * self.batch_size : (place + 1) * self.batch_size]]

    def last_queries(self, count: int) -> list[int]:
        """The last `count` queries of the first epoch: training has not seen them unless it went through it all."""
        order = np.random.default_rng([self._seed, 0]).permutation(len(self.data.queries))
        return [int(query) for query in order[-count:]]

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        queries = self._queries(step)
        random = np.random.default_rng([self._seed, step, 1])
        positives = [int(random.choice(self.data.positives[query])) for query in queries]
        columns = list(positives)
        if self._per_query:
            ahead = range(step, min(self.steps, step + -(-MINING_BLOCK // self.batch_size)))
            candidates = self._negatives.of(queries, [query for later in ahead for query in self._queries(later)])
            for found in candidates:
                columns += self._sample(found, random)
        item = self._tokens([self.data.queries[query] for query in queries], self._lengths[0], "query")
        item |= self._tokens([self.data.passages[column] for column in columns], self._lengths[1], "passage")
        item["targets"] = torch.arange(len(queries))
        item["ignored"] = torch.from_numpy(self._ignored(queries, columns))
        return item

    def _sample(self, candidates: list[int], random: np.random.Generator) -> list[int]:
        """Negatives of one query; random passages fill up where too few are known."""
        chosen = [candidates[place] for place in random.permutation(len(candidates))[: self._per_query]]
        fill = random.integers(len(self.data.passages), size=self._per_query - len(chosen))
        return chosen + [int(place) for place in fill]

    def _ignored(self, queries: list[int], columns: list[int]) -> np.ndarray:
        """A query's own positives anywhere but in its target column are no negatives, nor is a copy of its target."""
        places = np.asarray(columns)
        ignored = np.stack([np.isin(places, self.data.positives[query]) for query in queries])
        ignored[np.arange(len(queries)), np.arange(len(queries))] = False
        return ignored

    def _tokens(self, texts: list[str], limit: int, name: str) -> dict[str, Tensor]:
        encoded = self.tokenizer(texts, truncation=True, max_length=limit, padding=True, return_tensors="pt")
        special = torch.isin(encoded["input_ids"], torch.tensor(self.tokenizer.all_special_ids))
        return {
            f"{name}_ids": encoded["input_ids"],
            f"{name}_valid": encoded["attention_mask"].bool(),
            f"{name}_special": special,
        }
