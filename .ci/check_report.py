"""Fail unless a quickstart report is complete and its hybrid retriever is above BM25 and the encoder as it comes.

How it stands to the best merged row is printed: one minute of training need not reach that.
"""

import json
import sys
from pathlib import Path

MERGED = ["bm25-encoder-ranks", "bm25-encoder", "bm25-dense"]
SYSTEMS = ["bm25", "encoder", *MERGED[:2], "dense", MERGED[2], "hybrid", "dupmae-dense", "dupmae-sparse", "dupmae"]
FIGURES = ["ndcg@10", "mrr@10", "recall@100", "queries_per_second", "index_bytes"]

report = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
systems = report["systems"]
assert list(systems) == SYSTEMS, f"rows are {list(systems)}"
missing = [f"{name}.{figure}" for name in SYSTEMS for figure in FIGURES if systems[name].get(figure) is None]
missing += [key for key in ("dataset", "p_values", "seconds", "peak_memory_bytes", "settings") if key not in report]
assert not missing, f"report lacks {missing}"
value = {name: systems[name]["ndcg@10"] for name in SYSTEMS}
for other in ("bm25", "encoder"):
    assert value["dupmae"] > value[other], f"hybrid {value['dupmae']:.3f} does not beat {other} {value[other]:.3f}"
best = max(MERGED, key=lambda name: value[name])
p = next(p for pair, p in report["p_values"].items() if best in pair.split(" against "))
print(f"report complete: hybrid {value['dupmae']:.3f}, encoder {value['encoder']:.3f}, BM25 {value['bm25']:.3f}")
print(f"best merged row, {best}: {value[best]:.3f}, p = {p:.4f}; {report['seconds']['total']} s")
