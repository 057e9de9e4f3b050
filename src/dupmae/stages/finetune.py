"""`dupmae finetune`: an encoder and pairs to a hybrid retriever (DupMAE, section 3.3, first step)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dupmae.console import logger
from dupmae.corpus.tokenizers import load_tokenizer
from dupmae.errors import DupmaeError
from dupmae.models import device, open_backbone, resolve_dtype
from dupmae.nn.backbone import set_dropout
from dupmae.nn.contrastive import ContrastiveObjective, best_scales, encode_pairs
from dupmae.nn.precision import LowPrecision
from dupmae.nn.representation import HybridEncoder
from dupmae.recipe import Finetune, RetrieverSettings
from dupmae.retriever import Retriever
from dupmae.stages.loop import Plan
from dupmae.stages.pairs import FinetuningSteps, HardNegatives, PairData, read_pair_data
from dupmae.stages.start import head_from_text
from dupmae.stages.training import parameter_groups, steps_within, train

CALIBRATION_STEPS = 4
WEIGHING_QUERIES = 500


@dataclass(frozen=True)
class Finetuned:
    """What fine-tuning leaves: the retriever's folder, the log lines, and the number of steps done."""

    retriever: Path
    log: list[dict[str, float]]
    steps: int


def finetune(settings: Finetune) -> Finetuned:
    """Train a retriever on pairs with in-batch and hard negatives, and save it to `out`.

    Raises:
        DupmaeError: for data or a model that cannot be read.
    """
    torch.manual_seed(settings.seed)
    pairs = read_pair_data(settings.data)
    backbone, brought = open_backbone(settings.model)
    tokenizer = load_tokenizer(settings.model)
    _check_lengths(settings, backbone.max_length)
    dtype = resolve_dtype(settings.dtype)
    negatives = HardNegatives(pairs, settings.negative_depth)

    def data(steps: int) -> FinetuningSteps:
        return FinetuningSteps(
            pairs,
            negatives,
            tokenizer,
            steps=steps,
            batch_size=settings.batch_size,
            per_query=settings.negatives,
            lengths=(settings.query_length, settings.passage_length),
            seed=settings.seed,
        )

    encoder = HybridEncoder(backbone, settings.representation).to(device())
    if encoder.has_sparse:
        head_from_text(backbone, _passage_batches(data(len(pairs.queries))), dtype, "auto", brought)
        if settings.representation.term_weights == "idf":
            encoder.term_weights.data.copy_(idf_weights(pairs, tokenizer, len(encoder.term_weights)))
    calibrate(encoder, data(CALIBRATION_STEPS), dtype)
    if settings.dropout is not None:
        set_dropout(encoder, settings.dropout)
    model = LowPrecision(ContrastiveObjective(encoder, settings.part_loss_weight), dtype)
    plan = _plan(settings)
    steps = settings.steps or _steps(settings, model, data, plan)
    logger.info(f"fine-tuning {settings.representation.kind} for {steps:,} steps on {len(pairs.queries):,} queries")
    log = train(model, data, plan, steps=steps)
    kept = RetrieverSettings(
        representation=settings.representation,
        query_length=settings.query_length,
        passage_length=settings.passage_length,
    )
    retriever = Retriever(encoder, tokenizer, kept)
    if settings.representation.kind == "hybrid":
        weigh_parts(retriever, pairs, data(steps).last_queries(WEIGHING_QUERIES))
    return Finetuned(retriever.save(settings.out), log, steps)


def _check_lengths(settings: Finetune, longest: int) -> None:
    for name in ("query_length", "passage_length"):
        if getattr(settings, name) > longest:
            raise DupmaeError(f"the model takes {longest} tokens", where=name, fix=f"set {name}={longest} or less")


def _passage_batches(data: FinetuningSteps) -> Iterator[dict[str, Tensor]]:
    for step in range(len(data)):
        item = data[step]
        yield {name: item[f"passage_{source}"] for name, source in _NAMES.items()}


_NAMES = {"input_ids": "ids", "valid": "valid", "special": "special"}


def idf_weights(pairs: PairData, tokenizer: Any, vocabulary: int) -> Tensor:
    """Square roots of BM25's idf of every token over the passages, [|V|], scaled to mean 1 over the tokens seen.

    The factor stands on both sides of the product, so a matching term counts once with its idf.
    """
    counts = np.zeros(vocabulary)
    sample = pairs.passages[:: max(1, len(pairs.passages) // 20_000)]
    for start in range(0, len(sample), 1000):
        texts = sample[start : start + 1000]
        for ids in tokenizer(texts, add_special_tokens=False, truncation=True, max_length=256)["input_ids"]:
            counts[np.unique(ids)] += 1
    weights = np.sqrt(np.log1p((len(sample) - counts + 0.5) / (counts + 0.5)))
    return torch.from_numpy(weights / weights[counts > 0].mean()).float()


@torch.no_grad()
def calibrate(encoder: HybridEncoder, data: FinetuningSteps, dtype: torch.dtype) -> None:
    """Start threshold and part weights where a sample of pairs wants them.

    The threshold leaves a passage top-k positive entries on average; the part weights minimise InfoNCE.
    """
    low = copy.deepcopy(encoder).to(dtype).eval()
    dense, sparse, targets, ignored = [], [], [], []
    for step in range(len(data)):
        item = {name: value.to(device()) for name, value in data[step].items()}
        if encoder.has_sparse and step == 0:
            encoder.threshold.copy_(_threshold(low, item))
            low.threshold.copy_(encoder.threshold)
        shares = encoder.scores(*encode_pairs(low, item))
        dense.append(shares[0])
        sparse.append(shares[1])
        targets.append(item["targets"])
        ignored.append(item["ignored"])
    chosen = best_scales(_joined(dense), _joined(sparse), torch.cat(targets), torch.cat(ignored))
    encoder.log_scales.copy_(torch.tensor(chosen).log())
    logger.info(
        f"part weights start at {chosen[0]:.4g} (dense) and {chosen[1]:.4g} (sparse), "
        f"threshold at {float(encoder.threshold):.3g}"
    )


@torch.no_grad()
def weigh_parts(retriever: Retriever, pairs: PairData, queries: list[int]) -> None:
    """Set the part weights anew where they minimise InfoNCE in a pool of passages, hard negatives left out.

    Training against BM25's negatives makes the vocabulary part look worse than it is over a corpus, since
    those are passages that share the query's words.
    """
    encoder = retriever.encoder
    encoder.log_scales.zero_()
    random = np.random.default_rng(len(queries))
    golds = [pairs.positives[query][0] for query in queries]
    pool = golds + [int(place) for place in random.integers(len(pairs.passages), size=len(queries))]
    asked = retriever.encode_queries([pairs.queries[query] for query in queries])
    found = retriever.encode_passages([pairs.passages[place] for place in pool])
    dense = torch.from_numpy(asked.dense @ found.dense.T)
    sparse = torch.from_numpy((asked.sparse @ found.sparse.T).toarray())
    ignored = torch.from_numpy(np.stack([np.isin(pool, pairs.positives[query]) for query in queries]))
    targets = torch.arange(len(queries))
    ignored[targets, targets] = False
    chosen = best_scales(dense, sparse, targets, ignored)
    encoder.log_scales.copy_(torch.tensor(chosen).log())
    logger.info(f"part weights end at {chosen[0]:.4g} (dense) and {chosen[1]:.4g} (sparse)")


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def _threshold(encoder: HybridEncoder, item: dict[str, Tensor]) -> Tensor:
    """The value that top-k entries of a passage exceed, on average over passages."""
    valid, special = item["passage_valid"], item["passage_special"]
    maxima = encoder.maxima(encoder.backbone.hidden(item["passage_ids"], valid), valid, special)
    place = min(encoder.settings.top_k, maxima.shape[1])
    return maxima.topk(place, dim=1).values[:, -1].mean()


def _steps(settings: Finetune, model: LowPrecision, data: Any, plan: Plan) -> int:
    if settings.minutes is None:
        raise DupmaeError("neither steps nor minutes is given", where="finetune", fix="set one, e.g. minutes=5")
    described = settings.model_dump(mode="json", exclude={"out", "data", "model", "minutes", "steps", "seed"})
    return steps_within(settings.minutes, model, data, plan, described)


def _plan(settings: Finetune) -> Plan:
    def groups(module: Any) -> list[dict[str, Any]]:
        return parameter_groups(
            module,
            module.inner.encoder.new_parameters(),
            rate=settings.learning_rate,
            new_rate=settings.new_learning_rate,
            weight_decay=settings.weight_decay,
        )

    def inputs(module: Any, batch: dict[str, Tensor]) -> tuple[tuple[dict[str, Tensor]], dict[str, Tensor]]:
        return (batch,), {}

    return Plan(
        out=settings.out.with_name(f"{settings.out.name}-training"),
        groups=groups,
        inputs=inputs,
        weights={"loss": 1.0},
        title="fine-tuning",
        warmup=settings.warmup,
        log_every=settings.log_every,
        seed=settings.seed,
    )
