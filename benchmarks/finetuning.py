"""Steps of fine-tuning and distillation over many queries: `python -m benchmarks.finetuning --json`.

All-MiniLM-L6-v2 learns from synthetic texts, as many queries as MS MARCO has. The other way, measured in the same
run, permutes all queries each time a batch is looked up, and makes a batch when the step asks for it. The time that
a step waits for its batch is counted apart.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.children import spread
from benchmarks.encoder import as_it_comes
from dupmae import console
from dupmae.nn.contrastive import ContrastiveObjective, loss_weights
from dupmae.nn.distillation import DistillationObjective
from dupmae.nn.representation import HybridEncoder
from dupmae.retriever.backbones import device, resolve_dtype
from dupmae.settings import Representation, TrainingOptions
from dupmae.stages.distill import DistillationSteps, Judged
from dupmae.training.loop import Loop, Steps, Training, names_of
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData
from dupmae.training.prefetch import Prefetched

WORDS = 20_000
# Queries share this many groups of a positive, negatives and scores, so that memory holds more queries than texts.
GROUPS, NEGATIVES = 1000, 50
WARM_UP = 2
LENGTHS = (32, 64)
# Queries a step and negatives a query: the stages' own.
SIZES = {"finetune": (32, 1), "distill": (16, 15)}


class PermutedEachTime(FinetuningSteps):
    """The order of queries by a permutation of them all, for this batch and for each one that it looks ahead to."""

    def _shuffled(self, epoch: int, start: int, end: int) -> list[int]:
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self.data.queries))
        return [int(query) for query in order[start:end]]


class DistilledPermutedEachTime(PermutedEachTime, DistillationSteps):
    """The same with a teacher's scores, for which the batch was looked up a second time."""

    def part(self, step: int, part: int, parts: int) -> dict[str, Tensor] | None:
        """As for distillation."""
        self._passages(step, self._queries(step))
        return super().part(step, part, parts)


class LooksAhead(HardNegatives):
    """Negatives that want to know the next queries, whether they need them or not."""

    def of(self, queries: Sequence[int], upcoming: Iterable[int]) -> list[list[int]]:
        """As they were given."""
        return super().of(queries, list(upcoming))


@dataclass
class Timed:
    """Batches, and the seconds that steps waited for each."""

    data: Steps
    waits: list[float] = field(default_factory=list)

    def part(self, step: int, part: int, parts: int) -> dict[str, Tensor] | None:
        """The batch."""
        start = time.perf_counter()
        batch = self.data.part(step, part, parts)
        self.waits.append(time.perf_counter() - start)
        return batch


def main() -> None:
    """Measure both stages both ways; print the figures."""
    options = _options()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    console.set_up(quiet=True)
    judged = _judged(options.queries)
    result: dict[str, Any] = {"settings": {"queries": options.queries, "steps": options.steps}}
    result |= {"threads": torch.get_num_threads(), "device": device().type}
    for stage in SIZES:
        ours, plain = (_measured(stage, judged, options, plain=plain) for plain in (False, True))
        ratio = plain["step_seconds"]["median"] / ours["step_seconds"]["median"]
        result[stage] = {"ours": ours, "plain": plain, "ratio_to_plain": ratio}
    print(json.dumps(result) if options.json else _lines(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--queries", type=int, default=500_000, help="queries of the data")
    parser.add_argument("--steps", type=int, default=8, help="steps timed, after two")
    parser.add_argument("--threads", type=int, help="threads (torch's own choice when not given)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser.parse_args()


def _judged(queries: int) -> Judged:
    """Texts of made-up words, queries of their own each, with negatives and scores for all."""
    random = np.random.default_rng(0)

    def text(words: int) -> str:
        return " ".join(f"w{number}" for number in random.integers(WORDS, size=words))

    passages = [text(30) for _ in range(GROUPS * 10)]
    negatives = [random.integers(len(passages), size=NEGATIVES).tolist() for _ in range(GROUPS)]
    positives = [[group] for group in range(GROUPS)]
    names = [set(positives[group] + negatives[group]) for group in range(GROUPS)]
    scores = [{place: float(random.normal()) for place in places} for places in names]
    groups = [query % GROUPS for query in range(queries)]
    pairs = PairData(
        passages,
        [f"{text(4)} {query}" for query in range(queries)],
        [positives[group] for group in groups],
        [negatives[group] for group in groups],
    )
    return Judged(pairs, [scores[group] for group in groups])


def _measured(stage: str, judged: Judged, options: argparse.Namespace, *, plain: bool) -> dict[str, Any]:
    """Seconds of a step, and the share of them that it waits for its batch."""
    start = as_it_comes(passage_length=LENGTHS[1])
    torch.manual_seed(0)
    settings = Representation()
    encoder = HybridEncoder(start.encoder.backbone, settings).to(device())
    dtype = resolve_dtype("auto")
    total = options.steps + WARM_UP
    batch_size, negatives = SIZES[stage]
    made: dict[str, Any] = {"steps": total, "batch_size": batch_size, "per_query": negatives}
    made |= {"lengths": LENGTHS, "seed": 0}
    chosen = (LooksAhead if plain else HardNegatives)(judged.pairs, NEGATIVES)
    if stage == "distill":
        distilled = DistilledPermutedEachTime if plain else DistillationSteps
        steps: FinetuningSteps = distilled(judged, chosen, start.tokenizer, **made)
        model: ContrastiveObjective = DistillationObjective(encoder, dtype, None, "kl")
    else:
        steps = (PermutedEachTime if plain else FinetuningSteps)(judged.pairs, chosen, start.tokenizer, **made)
        model = ContrastiveObjective(encoder, dtype)
    weights = loss_weights(settings, 0.5) | ({"kl": 1.0} if stage == "distill" else {})
    training = Training(model, weights, names_of(model, encoder.new_parameters()))
    timed = Timed(steps if plain else Prefetched(steps))
    loop = Loop(training, timed, TrainingOptions(learning_rate=2e-5), total, Path())
    seconds = []
    for _ in range(total):
        begin = time.perf_counter()
        loop.step()
        seconds.append(time.perf_counter() - begin)
    kept, waits = seconds[WARM_UP:], timed.waits[WARM_UP:]
    return {"step_seconds": spread(kept), "wait_seconds": median(waits), "waiting": sum(waits) / sum(kept)}


def _lines(result: dict[str, Any]) -> str:
    lines = []
    for stage in SIZES:
        for way in ("ours", "plain"):
            each = result[stage][way]
            step = "{min:.3f} / {median:.3f} / {max:.3f} s".format(**each["step_seconds"])
            lines.append(f"{stage:10}{way:8}{step}  {each['waiting']:.1%} of it waiting")
        lines.append(f"{stage:10}ratio   {result[stage]['ratio_to_plain']:.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
