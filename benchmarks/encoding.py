"""Encoding passages against sentence-transformers: `python -m benchmarks.encoding --json`.

The same encoder (all-MiniLM-L6-v2: mean pooling, unit length), the same real texts of mixed length (docstrings of the
installed packages), cut to the same 256 tokens. sentence-transformers runs at its defaults, and once more with the
model in bfloat16; ours is `Retriever.encode_passages`. Each run is a process of its own, so that its peak of memory is
its own, and the systems take turns. Loading the model and a first call on a few texts are not timed; tokenising is.
Cosines are those of each text's vector with the one that sentence-transformers gives at its defaults.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from dupmae import console
from dupmae.corpus.beir import read_corpus
from dupmae.corpus.python_docs import documentation
from dupmae.memory import peak_bytes
from dupmae.settings.models import MINILM, model_folder

SYSTEMS = ("dupmae", "sentence_transformers", "sentence_transformers_bf16")
PLAIN = "sentence_transformers"
LENGTH = 256
WARM_UP = 64


def main() -> None:
    """Run every system in child processes, or, in a child, one of them; print the figures."""
    options = _options()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    console.set_up(quiet=True)
    if options.system is not None:
        print(json.dumps(_measure(options.system, options.folder)))
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        texts = _texts(options.passages, options.seed)
        (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
        turns = [{system: _child(system, folder) for system in SYSTEMS} for _ in range(options.repeats)]
        vectors = {system: np.load(folder / f"{system}.npy") for system in SYSTEMS}
    speeds = {system: [len(texts) / turn[system]["seconds"] for turn in turns] for system in SYSTEMS}
    cosines = {system: (vectors[system] * vectors[PLAIN]).sum(1) for system in SYSTEMS}
    result = {
        "passages": len(texts),
        "characters": {"median": median(map(len, texts)), "max": max(map(len, texts))},
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "passages_per_second": {system: median(values) for system, values in speeds.items()},
        "spread": {system: [min(values), max(values)] for system, values in speeds.items()},
        "ratio_to_sentence_transformers": _ratio(speeds, PLAIN),
        "ratio_to_sentence_transformers_bf16": _ratio(speeds, "sentence_transformers_bf16"),
        "cosine_min": float(cosines["dupmae"].min()),
        "cosine_mean": float(cosines["dupmae"].mean()),
        "cosine_min_sentence_transformers_bf16": float(cosines["sentence_transformers_bf16"].min()),
        "peak_memory_bytes": {system: max(turn[system]["peak_memory_bytes"] for turn in turns) for system in SYSTEMS},
    }
    print(json.dumps(result) if options.json else _table(result))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--passages", type=int, default=2000, help="texts encoded")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each system")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of texts")
    parser.add_argument("--threads", type=int, help="threads (torch's own choice when not given)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--system", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _texts(count: int, seed: int) -> list[str]:
    """Docstrings drawn at random from the quickstart's corpus."""
    folder, _ = documentation.build_cached(None, seed=0, documents=10_000, test_share=0.22)
    passages = read_corpus(folder / "training")
    chosen = np.random.default_rng(seed).choice(len(passages), min(count, len(passages)), replace=False)
    return [passages[place].content for place in chosen]


def _child(system: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.encoding", *sys.argv[1:], "--system", system, "--folder", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _measure(system: str, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of one system; its vectors go to a file."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
    encode = _ours() if system == "dupmae" else _theirs(bf16=system.endswith("bf16"))
    encode(texts[:WARM_UP])
    start = time.perf_counter()
    vectors = encode(texts)
    seconds = time.perf_counter() - start
    np.save(folder / f"{system}.npy", vectors)
    return {"seconds": seconds, "peak_memory_bytes": peak_bytes()}


def _ours() -> Callable[[list[str]], np.ndarray]:
    from benchmarks.encoder import as_it_comes

    retriever = as_it_comes(passage_length=LENGTH)
    return lambda texts: retriever.encode_passages(texts).dense


def _theirs(*, bf16: bool) -> Callable[[list[str]], np.ndarray]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(model_folder(MINILM), model_kwargs={"dtype": torch.bfloat16} if bf16 else None)
    return lambda texts: np.asarray(model.encode(texts), dtype=np.float32)


def _ratio(speeds: dict[str, list[float]], other: str) -> float:
    """How much faster ours is than another system, turn by turn."""
    return median(ours / theirs for ours, theirs in zip(speeds["dupmae"], speeds[other], strict=True))


def _table(result: dict[str, Any]) -> str:
    rows = [
        f"{system:<28}{speed:>12,.1f}{result['peak_memory_bytes'][system] / 1e6:>12,.0f}"
        for system, speed in result["passages_per_second"].items()
    ]
    names = ("ratio_to_sentence_transformers", "ratio_to_sentence_transformers_bf16", "cosine_min")
    told = [f"{name:<40}{result[name]:>12.4f}" for name in names]
    return "\n".join([f"{'':<28}{'passages/s':>12}{'peak MB':>12}", *rows, *told])


if __name__ == "__main__":
    main()
