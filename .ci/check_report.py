"""Fail unless a quickstart report is complete and its hybrid retriever beats BM25."""

import json
import sys
from pathlib import Path

SYSTEMS = ["bm25", "base", "finetuned-dense", "no-pretraining", "dupmae-dense", "dupmae-sparse", "dupmae-hybrid"]
FIGURES = ["ndcg@10", "mrr@10", "recall@100", "queries_per_second", "index_bytes"]

report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
missing = [
    f"{name}.{figure}" for name in SYSTEMS for figure in FIGURES if figure not in report["systems"].get(name, {})
]
missing += [key for key in ("dataset", "p_values", "seconds", "peak_memory_bytes", "settings") if key not in report]
assert not missing, f"report lacks {missing}"
hybrid, bm25 = (report["systems"][name]["ndcg@10"] for name in ("dupmae-hybrid", "bm25"))
assert hybrid > bm25, f"hybrid {hybrid} does not beat BM25 {bm25}"
print(f"report complete: hybrid {hybrid:.3f}, BM25 {bm25:.3f}, {report['seconds']['total']} s")
