"""Mask building against the loops of the reference: `python -m benchmarks.masking --json`.

One example's masks are everything a DupMAE step draws: the encoder's whole-word mask at rate 0.3, the
corrupted ids, and the decoder's visibility at rate 0.5. Ours are drawn a batch at a time, the reference's one
text at a time, both on one thread in this process, whose own time is counted. A ratio of 100 means a hundred times as
fast.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor

from dupmae.memory import keep_pages
from dupmae.nn.masking import Layout, corrupt, decoder_visibility, encoder_mask
from dupmae.nn.randomness import RowRandom
from tests.reference import masking as reference
from tests.reference.tiny import MASK, random_batch

VOCABULARY = 30_522
ENCODER_RATE, DECODER_RATE = 0.3, 0.5


def main() -> None:
    """Time both at every length, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[150, 512], help="tokens of an example")
    parser.add_argument("--batch", type=int, default=32, help="examples drawn at once")
    parser.add_argument("--repeats", type=int, default=15, help="timed batches")
    parser.add_argument("--unit", choices=["word", "token"], default="word", help="what a decoder row hides")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_pages()
    times, slow = {}, {}
    for length in options.lengths:
        batch = random_batch("bert", [length] * options.batch, 0, VOCABULARY)
        times[str(length)] = _milliseconds(lambda step, b=batch: _ours(b, step, options.unit), options.repeats)
        times[str(length)] = [value / options.batch for value in times[str(length)]]
        slow[str(length)] = _milliseconds(lambda step, b=batch: _reference(b, step, options.unit), 3)
    result = {
        "batch": options.batch,
        "unit": options.unit,
        "ms_per_example": {length: median(values) for length, values in times.items()},
        "spread": {length: {"min": min(v), "median": median(v), "max": max(v)} for length, v in times.items()},
        "reference_ms_per_example": {length: median(values) for length, values in slow.items()},
        "ratio_to_reference": {length: median(slow[length]) / median(times[length]) for length in times},
    }
    print(json.dumps(result) if options.json else _table(result))


def _ours(batch: dict[str, Tensor], step: int, unit: str) -> None:
    source = RowRandom.of(0, step, torch.arange(len(batch["valid"])))
    layout = Layout.of(batch["word_starts"], batch["special"], batch["valid"])
    masked = encoder_mask(layout, ENCODER_RATE, source)
    corrupt(batch["input_ids"], masked, mask_id=MASK, vocabulary=VOCABULARY, keep=True, random=source)
    decoder_visibility(layout, DECODER_RATE, "word" if unit == "word" else "token", source)


def _reference(batch: dict[str, Tensor], step: int, unit: str) -> None:
    source, row = random.Random(step), step % len(batch["valid"])
    ids, starts, valid = (batch[name][row].tolist() for name in ("input_ids", "word_starts", "valid"))
    ordinary = (batch["valid"] & ~batch["special"])[row].tolist()
    masked = reference.choose_words([source.random() for _ in ids], starts, ordinary, ENCODER_RATE)
    reference.corrupt(ids, masked, MASK, VOCABULARY, source)
    reference.visibility(starts, ordinary, valid, DECODER_RATE, unit, source)


def _milliseconds(work: Callable[[int], None], repeats: int) -> list[float]:
    """Milliseconds of each call, after one to warm up."""
    work(0)
    moments = [time.process_time()]
    for step in range(repeats):
        work(step)
        moments.append(time.process_time())
    return [1000 * (after - before) for before, after in pairwise(moments)]


def _table(result: dict[str, dict[str, float]]) -> str:
    header = f"{'tokens':>8}{'ms/example':>14}{'reference':>14}{'ratio':>10}"
    names = ("ms_per_example", "reference_ms_per_example", "ratio_to_reference")
    rows = [
        f"{length:>8}"
        + "".join(f"{result[name][length]:>{width}.3f}" for name, width in zip(names, (14, 14, 10), strict=True))
        for length in result["ms_per_example"]
    ]
    return "\n".join([header, *rows])


if __name__ == "__main__":
    main()
