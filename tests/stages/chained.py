"""Kill a chain of stages at random moments of every stage, start it again each time, and say what it ended with.

`main` prints one JSON object: what a chain that was never stopped ends with (`whole`), what one ends with that was
killed so many times in each stage (`stopped`), and in which stage each kill found it (`killed`).
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from dupmae.files import sha256
from dupmae.settings import Chain
from dupmae.settings.loading import load
from dupmae.stages import chain as chains
from dupmae.stages.runner import KINDS
from tests.training.killed import in_child, load_rules

REPRESENTATION = {"dimensions": 16, "top_k": 20}
TUNED = {"steps": 6, "batch_size": 6, "save_every": 2, "passage_length": 48, "dtype": "fp32", "learning_rate": 1e-3}
STAGES: dict[str, dict[str, Any]] = {
    "prepare": {"inputs": ["$data"], "text": "passages", "tokenizer": "$model", "max_length": 48},
    "pretrain": {
        "data": ["$prepare"],
        "model": "$model",
        "steps": 6,
        "batch_tokens": 256,
        "save_every": 2,
        "probe_every": 0,
        "dtype": "fp32",
    },
    "mine": {"data": "$data", "depth": 8},
    "first": {
        "stage": "finetune",
        "model": "$pretrain/encoder",
        "data": "$data",
        "mined": "$mine/negatives.jsonl",
        "representation": REPRESENTATION,
        **TUNED,
    },
    "mine-hard": {"stage": "mine", "data": "$data", "retriever": "$first", "depth": 8},
    "reranker": {
        "stage": "train-reranker",
        "data": "$data",
        "mined": "${mine-hard}/negatives.jsonl",
        "model": "$model",
        "length": 64,
        "steps": 6,
        "batch_size": 4,
        "negatives": 3,
        "save_every": 2,
        "dtype": "fp32",
    },
    "distill": {
        "retriever": "$first",
        "data": "$data",
        "mined": "${mine-hard}/negatives.jsonl",
        "scores": "$reranker/scores.jsonl",
        "steps": 6,
        "batch_size": 6,
        "negatives": 3,
        "save_every": 2,
        "dtype": "fp32",
    },
    "index": {"retriever": "$distill", "data": "$data"},
    "evaluate": {"retriever": "$distill", "data": "$data"},
}
RESULTS = ("pretrain/encoder/model", "first/model", "reranker/cross-encoder/model", "distill/model")


def settings(folder: Path, out: Path) -> Chain:
    values = {"data": str(folder / "data"), "model": str(folder / "model")}
    return load(Chain, None, (), out=out, values=values, stages=STAGES)


def run(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    chains.chain(settings(folder, out))


def end(out: Path) -> dict[str, Any]:
    """Everything that must not depend on when the chain was stopped."""
    files = [out / f"{name}.safetensors" for name in RESULTS]
    files += [out / "mine-hard" / "negatives.jsonl", out / "reranker" / "scores.jsonl", out / "evaluate" / "run.trec"]
    metrics = json.loads((out / "evaluate" / "metrics.json").read_text())["metrics"]
    return {"sums": {file.relative_to(out).as_posix(): sha256(file) for file in files}, "metrics": metrics}


def killed_in(folder: Path, out: Path, stage: str, after: float) -> str | None:
    """Run the chain, kill it some seconds after a stage began; where it stood, None when it had ended by itself."""
    record = out / "chain.json"

    def waiting() -> bool:
        return stage not in (json.loads(record.read_text())["stages"] if record.exists() else {})

    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(folder, out)
            code = 0
        finally:
            os._exit(code)
    while waiting():
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            raise RuntimeError(f"ended before {stage}: {status}")
        time.sleep(0.002)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    stages = json.loads(record.read_text())["stages"]
    current = next((name for name in stages if not stages[name]["finished"]), None)
    return current if code == -signal.SIGKILL else None


def main(folder: Path, kills: int) -> None:
    """In a process that has loaded the libraries: `folder` has `data` and `model`."""
    # Once, and not in every child.
    for name, values in STAGES.items():
        import_module(KINDS[values.get("stage", name)].module)
    import_module("sentence_transformers.cross_encoder")
    load_rules()
    assert in_child(lambda: run(folder, folder / "whole")) == 0
    seconds = {
        name: entry["seconds"]
        for name, entry in json.loads((folder / "whole/chain.json").read_text())["stages"].items()
    }
    drawn = random.Random(0)
    found = []
    for stage in STAGES:
        for _ in range(kills):
            found.append([stage, killed_in(folder, folder / "stopped", stage, drawn.uniform(0, 0.9 * seconds[stage]))])
    assert in_child(lambda: run(folder, folder / "stopped")) == 0
    print(json.dumps({"whole": end(folder / "whole"), "stopped": end(folder / "stopped"), "killed": found}))
