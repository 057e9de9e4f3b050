"""Tokenising into shards against the bare tokenizer: `python -m benchmarks.prepare --json`.

Ours is everything that `dupmae prepare` does: reading, splitting into sentences, tokenising, word starts, joining,
writing and checksums. Bare is `encode_batch` of the same texts, already in memory, by as many processes, its
result thrown away. Both take turns. A ratio of 1 means that preparing costs no more than the tokenizer itself.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from transformers import PreTrainedTokenizerFast

from dupmae import console
from dupmae.corpus.readers import read_texts
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.shards.workers import ordered_map, usable_cores
from dupmae.shards.writing import write_shards

# Texts handed to the bare tokenizer at once; of 64 to 1024 the fastest here.
BARE_TEXTS = 256


def main() -> None:
    """Time both in turns, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--inputs", type=Path, nargs="+", help="as for dupmae prepare; none: Python's language help")
    parser.add_argument("--tokenizer", help="folder or hub name; none: the quickstart encoder's")
    parser.add_argument("--megabytes", type=float, default=10, help="characters of text, in millions")
    parser.add_argument("--text", choices=["articles", "passages"], default="articles", help="what a text is")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a record")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="processes")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    console.set_up(quiet=True)
    tokenizer = load_tokenizer(options.tokenizer or _encoder())
    before = _memory()
    ours = [_ours(options, tokenizer)]
    memory = _memory()
    texts = list(_texts(options))
    bare, tokens = [_bare(options, tokenizer, texts)[0]], 0
    for _ in range(options.repeats):
        ours.append(_ours(options, tokenizer))
        seconds, tokens = _bare(options, tokenizer, texts)
        bare.append(seconds)
    # The first turn of each warmed up.
    speeds = {"ours": [tokens / value for value in ours[1:]], "bare": [tokens / value for value in bare[1:]]}
    ratios = [plain / own for own, plain in zip(ours[1:], bare[1:], strict=True)]
    result = {
        "workers": options.workers,
        "text": options.text,
        "max_length": options.max_length,
        "texts": len(texts),
        "tokens": tokens,
        "tokens_per_second": {name: _spread(values) for name, values in speeds.items()},
        "ratio_to_tokenizer": median(ratios),
        "ratio_spread": _spread(ratios),
        "peak_memory_bytes": memory,
        "memory_before_bytes": before,
    }
    print(json.dumps(result) if options.json else _table(result))


def _encoder() -> str:
    from dupmae.settings.models import MINILM

    return MINILM


def _texts(options: argparse.Namespace) -> Iterator[str]:
    left = options.megabytes * 1e6
    while left > 0:
        for text in read_texts(options.inputs) if options.inputs else topics.values():
            if left <= 0:
                return
            yield text
            left -= len(text)


def _ours(options: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        write_shards(
            Path(folder) / "shards",
            _texts(options),
            tokenizer,
            max_length=options.max_length,
            shard_records=500_000,
            text=options.text,
            workers=options.workers,
        )
        return time.perf_counter() - start


def _bare(options: argparse.Namespace, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[float, int]:
    """Seconds and tokens."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()

    def count(batch: list[str]) -> int:
        return sum(map(len, backend.encode_batch(batch, add_special_tokens=False)))

    batches = [texts[start : start + BARE_TEXTS] for start in range(0, len(texts), BARE_TEXTS)]
    start = time.perf_counter()
    tokens = sum(ordered_map(count, batches, options.workers))
    return time.perf_counter() - start, tokens


def _memory() -> int:
    """The most memory that this process has held, and a worker beside it."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _spread(values: list[float]) -> dict[str, float]:
    return {"min": min(values), "median": median(values), "max": max(values)}


def _table(result: dict) -> str:
    rows = [
        f"{name:<8}" + "".join(f"{speed[kind]:>14,.0f}" for kind in ("min", "median", "max"))
        for name, speed in result["tokens_per_second"].items()
    ]
    ratios = "".join(f"{result['ratio_spread'][kind]:>14.2f}" for kind in ("min", "median", "max"))
    head = f"{'tokens/s':<8}{'min':>14}{'median':>14}{'max':>14}"
    return "\n".join([head, *rows, f"{'ratio':<8}{ratios}", f"peak memory {result['peak_memory_bytes'] / 1e6:,.0f} MB"])


if __name__ == "__main__":
    main()
