"""Pairs and settings for tests of fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dupmae.files import write_text
from dupmae.settings import Finetune
from tests.reference.tiny import sentences

TEXTS = sentences(60)


def query_of(text: str) -> str:
    """A few words of a text."""
    return " ".join(text.split()[:2] + text.split()[-7:-3])


def write_pairs(file: Path) -> Path:
    """JSON lines: a third with negatives of their own, a third with two positives."""
    records = [
        {"query": query_of(text), "positive": [text, TEXTS[n - 1]] if n % 3 == 1 else text}
        | ({"negatives": [TEXTS[n - 6], TEXTS[n - 12]]} if n % 3 == 0 else {})
        for n, text in enumerate(TEXTS)
    ]
    return write_text(file, "".join(json.dumps(record) + "\n" for record in records))


def write_beir(folder: Path) -> Path:
    """A BEIR folder with 40 judged queries of 60, one of them with two positives."""
    corpus = [{"_id": f"d{n}", "title": text.split()[1], "text": text} for n, text in enumerate(TEXTS)]
    queries = [{"_id": f"q{n}", "text": query_of(text)} for n, text in enumerate(TEXTS)]
    for name, records in (("corpus", corpus), ("queries", queries)):
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    rows = [f"q{n}\td{n}\t1" for n in range(40)] + ["q3\td4\t1", "q3\td5\t0", "q50\td50\t0"]
    write_text(folder / "qrels" / "train.tsv", "\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    return folder


def settings(model: Path, data: Path, out: Path, **changes: Any) -> Finetune:
    """Three small steps, with what is changed."""
    values = {
        "model": str(model),
        "data": data,
        "out": out,
        "representation": {"dimensions": 16, "top_k": 20},
        "batch_size": 8,
        "log_every": 1,
        "steps": 3,
        "dtype": "fp32",
    }
    return Finetune.model_validate({**values, **changes})
