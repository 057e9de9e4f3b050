"""A zero-shot retrieval probe: how well the encoder ranks texts as it stands, before any fine-tuning.

Queries and passages stay the same for the whole run. `halves` makes them of training records, `judged` of a BEIR
folder; `Probe.measure` ranks all passages for every query by the dot product of the [CLS] states and by the bag
of words. Nothing here draws from the random state of training.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from dupmae.corpus.beir import load_split
from dupmae.nn.backbone import Backbone
from dupmae.nn.vocabulary import text_maxima
from dupmae.retriever.backbones import device
from dupmae.shards.batches import Records, budget_batches
from dupmae.shards.tokenise import Tokenisation
from dupmae.training.flops import Shape, Texts, encoder_forward, vocabulary_forward
from dupmae.training.processes import agreed, whole

QUERIES, PASSAGES = 256, 1024
HALF_TOKENS, TEXT_TOKENS = 64, 128
# Ordinary tokens that each half has at least.
FEWEST = 8
TOP_K = 384
DEPTH = 10
BATCH_TOKENS = 4096
STREAM = 7
SENTENCE_ENDS = frozenset(".!?。！？")

Ids = NDArray[np.integer[Any]]
Record = tuple[NDArray[np.int32], NDArray[np.bool_]]


@dataclass(frozen=True)
class ProbeTexts:
    """What a probe reads and how it is judged.

    Attributes:
        queries, passages: token ids, specials included.
        grades: int [Q, P], the relevance of each passage for each query; 0: none.
    """

    queries: Sequence[Ids]
    passages: Sequence[Ids]
    grades: NDArray[np.int64]


def halves(corpora: Sequence[Records], tokenizer: Any, seed: int) -> ProbeTexts | None:
    """Records cut in two: the first half asks for the second, among the second halves of all.

    The cut is the end of a sentence near the middle, or else of the word nearest it. Each half keeps the
    tokens next to the cut. Fewer than two records that are long enough make no probe: None.
    """
    chosen = _chosen(corpora, seed)
    if len(chosen) < 2:
        return None
    ends = [number for token, number in tokenizer.get_vocab().items() if token.lstrip("#▁Ġ") in SENTENCE_ENDS]
    queries, passages = [], []
    for ids, starts in chosen:
        cut = _cut(ids, starts, np.asarray(ends))
        kept = HALF_TOKENS - 2
        queries.append(np.concatenate([ids[:1], ids[max(1, cut - kept) : cut], ids[-1:]]))
        passages.append(np.concatenate([ids[:1], ids[cut : min(cut + kept, len(ids) - 1)], ids[-1:]]))
    return ProbeTexts(queries, passages, np.eye(len(queries), dtype=np.int64))


def _chosen(corpora: Sequence[Records], seed: int) -> list[Record]:
    """Records that are long enough, each as likely as any other."""
    short = [int(r.index.counts[r.index.lengths < 2 * FEWEST + 2].sum()) for r in corpora]
    ends = np.cumsum([len(r.index) - few for r, few in zip(corpora, short, strict=True)])
    random = np.random.default_rng([seed, STREAM])
    drawn = np.sort(random.choice(ends[-1], min(QUERIES, int(ends[-1])), replace=False))
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    found: list[Record] = []
    for records, few, end, places in zip(corpora, short, ends, parts, strict=True):
        by_length = few + places - (end - (len(records.index) - few))
        found += records.get(np.sort(records.index.records[by_length].astype(np.int64)))
    return found


def _cut(ids: Ids, starts: NDArray[np.bool_], ends: Ids) -> int:
    """Where a sentence begins in the middle half of a record, or a word, or a token: what is nearest the middle."""
    middle = len(ids) / 2
    places = np.arange(1 + FEWEST, len(ids) - FEWEST)
    word = places[starts[places]]
    sentence = word[np.isin(ids[word - 1], ends) & (np.abs(word - middle) <= middle / 2)]
    near = sentence if len(sentence) else word if len(word) else places
    return int(near[np.abs(near - middle).argmin()])


def judged(folder: Path, split: str, tokenizer: Any, seed: int, max_length: int) -> ProbeTexts:
    """The judged queries of a BEIR folder, 256 at most, and their passages among others, 1,024 in all or more.

    Raises:
        DupmaeError: when the folder cannot be read.
    """
    passages, queries, qrels = load_split(folder, split)
    random = np.random.default_rng([seed, STREAM])
    names = [list(queries)[place] for place in sorted(random.permutation(len(queries))[:QUERIES])]
    relevant = {name for query in names for name in qrels[query]}
    others = [place for place in random.permutation(len(passages)) if passages[place].id not in relevant]
    room = set(others[: max(0, PASSAGES - len(relevant))])
    kept = [passage for place, passage in enumerate(passages) if passage.id in relevant or place in room]
    place_of = {passage.id: place for place, passage in enumerate(kept)}

    tokenise = partial(Tokenisation(tokenizer), limit=min(TEXT_TOKENS, max_length))
    grades = np.zeros((len(names), len(kept)), dtype=np.int64)
    for row, query in enumerate(names):
        for name, grade in qrels[query].items():
            grades[row, place_of[name]] = grade
    asked, ranked = tokenise([queries[name] for name in names]), tokenise([passage.content for passage in kept])
    return ProbeTexts(asked.split(), ranked.split(), grades)


class _Reader(nn.Module):
    """[CLS] states [B, d] and bag-of-words weights [B, |V|] of unmasked texts, float32.

    The weight of a word is log(1 + |V| softmax(mu)): pre-training fixes mu up to a constant for each text, so
    that only its softmax has a meaning, and zero is where a word is no likelier than any other.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, input_ids: Tensor, valid: Tensor, special: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.backbone.hidden(input_ids, valid)
        maxima = text_maxima(self.backbone, hidden, valid & ~special)
        odds = maxima - maxima.logsumexp(1, keepdim=True) + math.log(maxima.shape[1])
        return hidden[:, 0].float(), F.softplus(odds)


class Probe:
    """The probe of one run.

    Args:
        backbone: the encoder that is being trained; it is read, never changed.
        dtype: what its weights are cast to while the probe runs.
    """

    def __init__(self, backbone: Backbone, texts: ProbeTexts, tokenizer: Any, dtype: torch.dtype) -> None:
        self._live, self._texts, self._dtype = backbone, texts, dtype
        self._pad, self._special = int(tokenizer.pad_token_id), torch.tensor(tokenizer.all_special_ids)
        # A shape without weights, so that no mode, hook or shard of the model in training is touched.
        self._reader = _Reader(copy.deepcopy(backbone).to("meta")).eval()

    def flops(self) -> float:
        """Operations of one measurement."""
        shape = Shape.of(self._live.config)
        texts = Texts.of(len(ids) for ids in (*self._texts.queries, *self._texts.passages))
        return encoder_forward(shape, texts) + vocabulary_forward(shape, texts.ordinary)

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """MRR@10 and nDCG@10 of both scores: `probe_cls_mrr@10`, `probe_bow_ndcg@10` and so on.

        In a run of several processes each has to call this; all get the same figures.
        """
        weights = self._weights()
        passages = list(self._read(weights, self._texts.passages))
        dense = _in_order([(rows, cls) for rows, cls, _ in passages])
        sparse = vstack([_largest(words) for _, _, words in passages]).tocsr()
        sparse = sparse[np.argsort(np.concatenate([rows for rows, _, _ in passages]))]
        sums: dict[str, float] = {}
        for rows, cls, words in self._read(weights, self._texts.queries):
            by_words = torch.from_numpy((sparse @ words.T.cpu().numpy()).T)
            grades = torch.from_numpy(self._texts.grades[rows])
            for name, scores in (("cls", (cls @ dense.T).cpu()), ("bow", by_words)):
                for metric, values in quality(scores, grades).items():
                    label = f"probe_{name}_{metric}"
                    sums[label] = sums.get(label, 0.0) + float(values.sum())
        # Processes may differ in the last digit, but must not differ on whether to stop.
        return agreed({label: value / len(self._texts.queries) for label, value in sums.items()})

    def _weights(self) -> dict[str, Tensor]:
        """The present weights, whole and cast, tied ones once."""
        cast: dict[int, Tensor] = {}
        named = {}
        for name, parameter in self._live.named_parameters(remove_duplicate=False):
            if id(parameter) not in cast:
                cast[id(parameter)] = whole(parameter).to(self._dtype)
            named[f"backbone.{name}"] = cast[id(parameter)]
        return named | {f"backbone.{name}": buffer for name, buffer in self._live.named_buffers()}

    def _read(self, weights: dict[str, Tensor], texts: Sequence[Ids]) -> Iterator[tuple[Ids, Tensor, Tensor]]:
        """Rows, [CLS] states and word weights, batch by batch of similar length."""
        lengths = np.array([len(ids) for ids in texts])
        where = device()
        for rows in budget_batches(lengths, BATCH_TOKENS, np.argsort(lengths, kind="stable")):
            ids = torch.full((len(rows), int(lengths[rows].max())), self._pad)
            for place, row in enumerate(rows):
                ids[place, : lengths[row]] = torch.from_numpy(texts[row].astype(np.int64))
            valid = torch.arange(ids.shape[1]) < torch.from_numpy(lengths[rows])[:, None]
            special = torch.isin(ids, self._special)
            cls, words = functional_call(self._reader, weights, (ids.to(where), valid.to(where), special.to(where)))
            yield rows, cls, words


def quality(scores: Tensor, grades: Tensor) -> dict[str, Tensor]:
    """MRR@10 and nDCG@10 of each query, float64 [Q], with linear gain; 0 where no passage is relevant.

    Args:
        scores, grades: [Q, P]; grades below 1 are no relevance.
    """
    depth = min(DEPTH, scores.shape[1])
    gains = grades.clamp(min=0).double()
    ranked = gains.gather(1, scores.topk(depth, dim=1).indices)
    ranks = torch.arange(1, depth + 1, dtype=torch.float64)
    discounts = torch.log2(ranks + 1)
    ideal = (gains.topk(depth, dim=1).values / discounts).sum(1)
    ndcg = (ranked / discounts).sum(1) / ideal.where(ideal > 0, 1.0)
    return {"mrr@10": ((ranked > 0) / ranks).amax(1), "ndcg@10": ndcg}


def _in_order(parts: list[tuple[Ids, Tensor]]) -> Tensor:
    back = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return torch.cat([states for _, states in parts])[torch.from_numpy(back)]


def _largest(words: Tensor) -> csr_array[Any, Any]:
    """The top-k of every row, as a passage keeps it (DupMAE, section 3.3)."""
    best = words.topk(min(TOP_K, words.shape[1]), dim=1)
    bounds = np.arange(len(words) + 1) * best.indices.shape[1]
    return csr_array(
        (best.values.flatten().cpu().numpy(), best.indices.flatten().cpu().numpy(), bounds),
        shape=(words.shape[0], words.shape[1]),
    )
