from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dupmae.errors import DupmaeError
from dupmae.report.run_report import format_table, write_picture, write_report

HOSTILE = "</script><script>alert(1)</script><img src=\"http://x.test/a.png\" onerror='x'> & $x_1$"
VOID = {"meta", "link", "img", "br"}


def system(label: str, ndcg: float, mrr: float, recall: float) -> dict[str, Any]:
    return {
        "label": label,
        "ndcg@10": ndcg,
        "mrr@10": mrr,
        "recall@100": recall,
        "queries_per_second": 1234.5,
        "index_bytes": 15_763_424,
    }


REPORT: dict[str, Any] = {
    "dataset": {
        "documents": 34483,
        "corpus_documents": 30000,
        "train_queries": 27011,
        "dev_queries": 1720,
        "test_queries": 2000,
    },
    "systems": {
        "bm25": system("BM25", 0.601, 0.560, 0.890),
        "base": system("Encoder as it comes", 0.630, 0.578, 0.946),
        "finetuned-dense": system("Fine-tuned dense", 0.712, 0.660, 0.966),
        "no-pretraining": system("Hybrid, no pre-training", 0.694, 0.641, 0.958),
        "dupmae-dense": system("Dense part", 0.660, 0.610, 0.950),
        "dupmae-sparse": system("Sparse part", 0.641, 0.600, 0.930),
        "dupmae-hybrid": system("DupMAE hybrid", 0.718, 0.667, 0.968),
    },
    "p_values": {
        "hybrid_vs_no_pretraining": 0.002,
        "hybrid_vs_bm25": 0.0001,
        "hybrid_vs_base": 0.0001,
        "hybrid_vs_finetuned_dense": 0.21,
        "hybrid_vs_dupmae_dense": 0.0001,
        "hybrid_vs_dupmae_sparse": 0.0001,
    },
    "seconds": {"documentation": 41.2, "pretraining": 480.5},
    "peak_memory_bytes": 2_913_000_000,
    "peak_memory_bytes_after": {"documentation": 1_000_000_000, "pretraining": 2_913_000_000},
    "settings": {"seed": 0, "pretrain": {"learning_rate": 5e-5, "objective": {"kind": "dupmae"}}},
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "fine_tuning": {"steps": 400, "batch_size": 32},
}
PRETRAINING = [
    {"step": step, "loss": 9 / step, "mlm": 3 / step, "decoder": 4 / step, "bow": 2 / step, "mlm_accuracy": 0.5}
    | {"learning_rate": 1e-4, "tokens_per_second": 5e3, "seconds": 1.0, "new_learning_rate": 1e-3, "epoch": 1.0}
    for step in (1, 2, 3)
]
LOGS = {
    "pretraining": PRETRAINING,
    "finetuning dupmae-hybrid": [{"step": 10, "loss": 1.0, "hybrid": 0.5, "dense": 0.3, "sparse": 0.2}],
}
EXAMPLES: list[dict[str, Any]] = [
    {
        "query": "read a csv file in chunks",
        "expected": {"id": "d2", "title": "read csv"},
        "rank": 2,
        "results": [
            {"id": "d1", "title": "first", "text": "word " * 500, "score": 9.0, "dense": 10.0, "sparse": -1.0,
             "words": [["chunks", 2.5], ["csv", 1.25]]},
            {"id": "d2", "title": "second", "text": "", "score": 4.0, "dense": 3.0, "sparse": 1.0, "words": []},
        ],
    },
    {"query": "zebra", "expected": {"id": "d3", "title": "third"}, "rank": None, "results": []},
]  # fmt: skip


class Reader(HTMLParser):
    """The text of a page and the titles of its charts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.charts = "", list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.charts.append(dict(attrs)["alt"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_files_are_written(tmp_path: Path) -> None:
    write_report(tmp_path / "run", REPORT, LOGS, EXAMPLES)
    assert json.loads((tmp_path / "run/report.json").read_text()) == REPORT
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    out = tmp_path_factory.mktemp("run")
    write_report(out, REPORT, LOGS, EXAMPLES)
    return Reader((out / "report.html").read_text(encoding="utf-8"))


def test_the_page_has_every_figure(shown: Reader) -> None:
    for text in ("0.718", "34,483", "15.8 MB", "41.2 s", "8 min 00 s", "2.9 GB", "pretrain", "2.13.0"):
        assert text in shown.text
    assert "objective.kind" in shown.text


def test_a_curve_for_every_term_of_every_stage_and_for_nothing_else(shown: Reader) -> None:
    terms = ["loss", "MLM", "decoder", "BoW", "MLM accuracy", "loss", "hybrid", "dense", "sparse"]
    drawn = [title for title in shown.charts if title.endswith("over the training steps")]
    assert drawn == [f"{term} over the training steps" for term in terms]
    assert sum(title.endswith("of every system") for title in shown.charts) == 3


def test_examples_show_shares_words_and_the_right_answer(shown: Reader) -> None:
    for text in ("rank 2", "not found", "9.00 = dense 10.00 + sparse -1.00", "chunks 2.50", "right answer", "…"):
        assert text in shown.text
    assert shown.text.count("word word") < 100


def test_outcome_tells_good_and_bad(shown: Reader) -> None:
    for text in (
        "DupMAE hybrid reaches nDCG@10 0.718, MRR@10 0.667, Recall@100 0.968 on 2,000 queries among 30,000 passages.",
        "Worse by nDCG@10: BM25 (0.601, p < 0.001); Encoder as it comes (0.630, p < 0.001); Hybrid, no pre-training "
        "(0.694, p = 0.004)",
        "Not to be told apart from it by nDCG@10: Fine-tuned dense (0.712, p = 0.210).",
        "Highest nDCG@10 of all systems: DupMAE hybrid, 0.718.",
    ):
        assert text in shown.text


def test_plain_table() -> None:
    text = format_table(REPORT)
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    assert ["DupMAE hybrid", "0.7180*", "0.6670*", "0.9680*", "15.8 MB", "1,234", "–"] in rows
    assert ["BM25", "0.6010", "0.5600", "0.8900", "15.8 MB", "1,234", "< 0.001"] in rows
    assert ["Hybrid, no pre-training", "0.6940", "0.6410", "0.9580", "15.8 MB", "1,234", "0.004"] in rows
    assert "400 steps of 32 queries" in text


def test_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "systems.png", REPORT)
    with Image.open(tmp_path / "systems.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1600
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 255, 255), (0, 0x72, 0xB2), (0xB4, 0xBA, 0xC2)} <= colors


def test_without_matplotlib_the_numbers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DupmaeError, match=r'pip install "dupmae\[plots\]"'):
        write_report(tmp_path, REPORT, LOGS, EXAMPLES)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    with pytest.raises(DupmaeError, match="matplotlib"):
        write_picture(tmp_path / "p.png", REPORT)


def test_matplotlib_is_imported_late() -> None:
    code = "import sys, dupmae.report.run_report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
