"""Official layouts at a small size, written by hand from the topics of the language reference."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from dupmae.corpus.beir import Passage
from tests.tiny import documents


def lines(path: Path, rows: list[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(row + end for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def query(passage: Passage) -> str:
    return " ".join(passage.text.split()[:6])


def msmarco(folder: Path, count: int = 40) -> Path:
    """Passages, dev queries and the judged queries of two TREC tracks, of which some have several grades."""
    passages = documents(count)
    lines(folder / "collection.tsv", [f"{number}\t{passage.content}" for number, passage in enumerate(passages)])
    asked = [f"{1000 + number}\t{query(passage)}" for number, passage in enumerate(passages)]
    lines(folder / "queries.dev.small.tsv", asked)
    lines(folder / "qrels.dev.small.tsv", [f"{1000 + number}\t0\t{number}\t1" for number in range(0, count, 2)])
    lines(folder / "msmarco-test2019-queries.tsv", asked)
    graded = [f"{1000 + number} Q0 {(number + step) % count} {3 - step}" for number in range(3) for step in range(4)]
    lines(folder / "2019qrels-pass.txt", graded)
    return folder


def msmarco_documents(folder: Path, count: int = 20) -> Path:
    passages = documents(count)
    rows = [f"D{n}\thttps://example.org/{n}\t{p.title}\t{p.text}" for n, p in enumerate(passages)]
    lines(folder / "msmarco-docs.tsv.gz", rows)
    lines(folder / "msmarco-docdev-queries.tsv", [f"{n}\t{query(p)}" for n, p in enumerate(passages)])
    lines(folder / "msmarco-docdev-qrels.tsv", [f"{n} 0 D{n} 1" for n in range(count)])
    return folder


def dpr(folder: Path, count: int = 40) -> Path:
    passages = documents(count)
    quoted = [json.dumps(p.text.replace('"', "'"), ensure_ascii=False) for p in passages]
    rows = [
        "id\ttext\ttitle",
        *(f"{n}\t{text}\t{p.title}" for n, (p, text) in enumerate(zip(passages, quoted, strict=True), 1)),
    ]
    lines(folder / "psgs_w100.tsv", rows, "\r\n")
    asked = [f"{query(p)}\t{[p.text.split()[7].strip('.,()')]!r}" for p in passages[:10]]
    lines(folder / "nq-test.qa.csv", asked)
    return folder
