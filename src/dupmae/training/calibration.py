"""What fine-tuning sets by measuring instead of learning: idf, threshold and the parts' weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from dupmae.console import logger
from dupmae.nn.contrastive import best_scales
from dupmae.nn.gradient_cache import PairEncoder, texts_of
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import device
from dupmae.retriever.model import Retriever
from dupmae.shards.tokenise import Tokenisation
from dupmae.training.pairs import FinetuningSteps, PairData

STATISTICS_PASSAGES = 10_000
# What a piece that continues a word counts beside its first: chosen on dev queries (docs/method.md).
CONTINUED = 0.7


def count_terms(encoder: HybridEncoder, pairs: PairData, tokenizer: Any) -> None:
    """Set what counting needs of the passages: their mean length, and the start of the term weights.

    A term weight starts at the square root of BM25's idf over the passages, scaled to mean 1 over the tokens seen. It
    stands on both sides of the product, so that a matching term counts once with its idf. A word of several pieces
    would count several times: those that continue one count less.
    """
    tokenise, terms = Tokenisation(tokenizer), encoder.term_weights.data
    sample = pairs.passages[:: max(1, len(pairs.passages) // STATISTICS_PASSAGES)]
    documents, tokens = np.zeros(len(terms)), 0.0
    for start in range(0, len(sample), 1000):
        counts = tokenise.counts(sample[start : start + 1000])
        documents += np.bincount(counts.terms[counts.times > 0], minlength=len(terms))
        tokens += float(counts.lengths.sum())
    encoder.mean_length.fill_(max(1.0, tokens / len(sample)))
    if encoder.settings.term_weights == "idf":
        idf = np.log1p((len(sample) - documents + 0.5) / (documents + 0.5))
        names = tokenizer.convert_ids_to_tokens(list(range(min(len(tokenizer), len(terms)))))
        idf[: len(names)] *= [CONTINUED if str(name).startswith("##") else 1.0 for name in names]
        weights = np.sqrt(idf)
        known = terms >= 0
        terms[known] = torch.from_numpy(weights / weights[documents > 0].mean()).to(terms)[known]


@torch.no_grad()
def calibrate(encoder: HybridEncoder, data: FinetuningSteps, dtype: torch.dtype) -> None:
    """Start threshold and part weights where a sample of pairs wants them.

    The threshold leaves a passage top-k positive entries on average; the part weights minimise InfoNCE, unless the
    settings give them.
    """
    low = encoder.lowered(dtype)
    # The copy is in its precision already.
    pairs = PairEncoder(low, torch.float32)
    dense, sparse, targets, ignored = [], [], [], []
    for step in range(len(data)):
        item = {name: value.to(device()) for name, value in data[step].items()}
        if encoder.has_sparse and step == 0:
            encoder.threshold.copy_(_threshold(low, item))
            low.threshold.copy_(encoder.threshold)
        queries, passages = pairs(item)
        shares = encoder.scores(queries.vectors, passages.vectors)
        dense.append(shares[0])
        sparse.append(shares[1])
        targets.append(item["targets"])
        ignored.append(item["ignored"])
    told = f"threshold at {float(encoder.threshold):.3g}"
    if encoder.settings.part_weights is None:
        chosen = best_scales(_joined(dense), _joined(sparse), torch.cat(targets), torch.cat(ignored))
        encoder.log_scales.copy_(torch.tensor(chosen).log())
        told = f"part weights start at {chosen[0]:.4g} (dense) and {chosen[1]:.4g} (sparse), {told}"
    logger.info(told)


@torch.no_grad()
def weigh_parts(retriever: Retriever, pairs: PairData, queries: list[int]) -> None:
    """Set the part weights anew where they rank a pool of passages best: the positives of all the queries.

    Hard negatives are left out: those from BM25 make the vocabulary part look worse than it is over a corpus, since
    they are passages that share the query's words. The weights' ratio is the one with the best nDCG@10, their size
    the one with the lowest InfoNCE.
    """
    encoder = retriever.encoder
    encoder.log_scales.zero_()
    pool = [pairs.positives[query][0] for query in queries]
    asked = retriever.encode_queries([pairs.queries[query] for query in queries])
    found = retriever.encode_passages([pairs.passages[place] for place in pool])
    dense = torch.from_numpy(asked.dense @ found.dense.T)
    sparse = torch.from_numpy((asked.sparse @ found.sparse.T).toarray())
    ignored = torch.from_numpy(np.stack([pairs.answers.among(query, pool) for query in queries]))
    targets = torch.arange(len(queries))
    ignored[targets, targets] = False
    ratio = best_ratio(dense, sparse, targets, ignored)
    size, _ = best_scales(ratio * dense + sparse, None, targets, ignored)
    chosen = (ratio * size, size)
    encoder.log_scales.copy_(torch.tensor(chosen).log())
    logger.info(f"part weights end at {chosen[0]:.4g} (dense) and {chosen[1]:.4g} (sparse)")


def best_ratio(dense: Tensor, sparse: Tensor, targets: Tensor, ignored: Tensor) -> float:
    """The dense part's weight, for 1 of the other's, with the best nDCG@10 over a grid, smoothed over neighbours.

    Args:
        dense, sparse: unweighted shares [Q, P] of the sample's scores.
        targets: [Q], column of each query's positive.
        ignored: bool [Q, P], passages that are not ranked.
    """
    even = float(sparse.std() / dense.std().clamp(min=1e-9)) or 1.0
    ratios: list[float] = [even * 2.0 ** (exponent / 4) for exponent in range(-10, 11)]
    values = []
    for ratio in ratios:
        scores = (ratio * dense + sparse).masked_fill(ignored, float("-inf"))
        above = (scores > scores.gather(1, targets[:, None])).sum(1)
        values.append(float(torch.where(above < 10, 1 / torch.log2(above + 2.0), 0.0).mean()))
    # The mean over a sample jumps from step to step by more than the curve itself bends.
    smoothed = np.convolve(np.pad(values, 2, mode="edge"), [1, 2, 3, 2, 1], "valid")
    return ratios[int(smoothed.argmax())]


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _threshold(encoder: HybridEncoder, item: dict[str, Tensor]) -> Tensor:
    """The value that top-k entries of a passage exceed, on average over passages."""
    maxima = encoder.maxima(texts_of(item, "passage"))
    place = min(encoder.settings.top_k, maxima.shape[1])
    return maxima.topk(place, dim=1).values[:, -1].mean()
