"""A tiny study: two collections, a start, and a recipe of few cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from dupmae.files import write_text
from dupmae.settings import Study
from dupmae.settings.loading import load
from tests.reference.tiny import sentences, tiny_folder

TEXTS = sentences(60)


def collection(folder: Path, start: int, count: int) -> None:
    """A BEIR folder whose queries are words of a text each; half of them train, half test."""
    names = range(start, start + count)
    records = [{"_id": f"d{n}", "title": "", "text": TEXTS[n]} for n in names]
    queries = [{"_id": f"q{n}", "text": " ".join(TEXTS[n].split()[-7:-3])} for n in names]
    for name, rows in (("corpus", records), ("queries", queries)):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    for split, chosen in (("train", [n for n in names if n % 2]), ("test", [n for n in names if not n % 2])):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in chosen)]
        write_text(folder / "qrels" / f"{split}.tsv", "\n".join(lines) + "\n")


def data_folder(folder: Path) -> Path:
    """Collections `first` and `second`, and a tiny encoder without a vocabulary head."""
    collection(folder / "first", 0, 40)
    collection(folder / "second", 40, 20)
    tiny_folder(folder / "model", head=False)
    return folder


def recipe(folder: Path, **changes: Any) -> Path:
    """A recipe of four pre-trainings and two representations."""
    content = {
        "out": str(folder / "results"),
        "work": str(folder / "work"),
        "data": str(folder),
        "seeds": [0],
        "flops": 2e8,
        "start": {"model": str(folder / "model")},
        "corpora": {"own": {"inputs": ["first", "second"], "text": "passages", "max_length": 32, "workers": 1}},
        "pairs": {"first": {"path": "first"}},
        "tests": {"first": {"path": "first"}, "second": {"path": "second"}},
        "pretrain": {
            "data": ["own"],
            "objective": {"kind": "dupmae", "bow": "author"},
            "batch_tokens": 256,
            "probe_every": 0,
            "save_every": 2,
            "dtype": "fp32",
        },
        "finetune": {
            "representation": {"dimensions": 8, "top_k": 8},
            "steps": 2,
            "batch_size": 4,
            "passage_length": 32,
            "save_every": 0,
            "dtype": "fp32",
        },
        "as_it_comes": {"representation": {"kind": "cls", "pooling": "mean", "dimensions": 32}},
        "baseline": {"pre-training": "none"},
        "axes": {
            "pre-training": {
                "DupMAE": {},
                "none": {"pretrain": None},
                "MLM": {"pretrain": {"objective": {"kind": "mlm"}}},
                "OT only": {"pretrain": {"objective": {"decoder_weight": 0}}},
            },
            "representation": {
                "hybrid": {},
                "CLS": {"finetune": {"representation": {"kind": "cls", "dimensions": 16}}},
            },
        },
        "findings": [
            {
                "claim": "It helps",
                "better": {"pre-training": "DupMAE"},
                "worse": {"pre-training": "none"},
                "quoted": ".41 / .39",
                "note": "So short.",
            },
            {"claim": "Both are better", "better": {}, "worse": {"representation": "CLS"}},
        ],
    }
    return write_text(folder / "study.yaml", yaml.safe_dump(content | changes, sort_keys=False, width=200))


def settings(file: Path, *overrides: str) -> Study:
    return load(Study, file, overrides)
