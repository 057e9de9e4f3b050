from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dupmae.errors import DupmaeError
from dupmae.evaluation.significance import holm
from dupmae.report.run_page import page
from dupmae.report.run_report import format_markdown, format_table, write_picture, write_report
from dupmae.report.summary import bytes_text, outcome, seconds_text

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
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name.split(":")[-1] in ("href", "src", "srcset")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.remove(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def made_hostile(value: Any) -> Any:
    """The same structure with hostile text in place of every string."""
    if isinstance(value, dict):
        return {key: made_hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [made_hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_files_are_written(tmp_path: Path) -> None:
    write_report(tmp_path / "run", REPORT, LOGS, EXAMPLES)
    assert json.loads((tmp_path / "run/report.json").read_text()) == REPORT
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]
    text = Reader((tmp_path / "run/report.html").read_text(encoding="utf-8")).text
    for shown in ("0.718", "34,483", "15.8 MB", "41.2 s", "8 min 00 s", "2.9 GB", "pretrain", "2.13.0"):
        assert shown in text
    assert "objective.kind" in text


def test_page_asks_for_nothing_from_elsewhere() -> None:
    reader = Reader(page(REPORT, LOGS, EXAMPLES))
    assert all(link.startswith("#") or link == "data:," for link in reader.links)
    assert not {"script", "img", "iframe", "object", "embed"} & set(reader.tags)
    assert "http:" not in page(REPORT, LOGS, EXAMPLES)
    assert "@import" not in page(REPORT, LOGS, EXAMPLES)


@pytest.mark.filterwarnings("ignore:constrained_layout not applied")
def test_hostile_text_stays_text() -> None:
    report = made_hostile(REPORT)
    report["settings"][HOSTILE] = HOSTILE
    report["versions"][HOSTILE] = "1"
    report["seconds"][HOSTILE] = 1.0
    logs = {HOSTILE: [{"step": 1, HOSTILE: 1.0}]}
    examples = made_hostile(EXAMPLES)
    # A docstring can hold what UTF-8 cannot.
    examples[0]["results"][0]["text"] = "\ud800" + HOSTILE
    text = page(report, logs, examples)
    reader = Reader(text)
    assert not {"script", "img"} & set(reader.tags)
    assert all(link.startswith("#") or link == "data:," for link in reader.links)
    assert reader.text.count("<script>alert(1)</script>") > 20
    text.encode("utf-8")


def test_a_curve_for_every_term_of_every_stage_and_for_nothing_else() -> None:
    text = page(REPORT, LOGS, EXAMPLES)
    for term in ("loss", "MLM", "decoder", "BoW", "MLM accuracy", "hybrid", "dense", "sparse"):
        assert f'aria-label="{term} over the training steps"' in text
    assert text.count("over the training steps") == 5 + 4
    assert text.index('"BoW over') < text.index('"MLM accuracy over')
    assert text.count("of every system") == 3


def test_gaps_in_a_log_are_left_out() -> None:
    lines: list[dict[str, Any]] = [{"step": 1, "loss": math.nan, "flops": None}, {"step": 2, "loss": 3.0}]
    text = page(REPORT, {"stage": lines}, [])
    assert text.count("over the training steps") == 1
    assert "3 → 3" in text
    assert "nan" not in text.lower()


def test_examples_show_shares_words_and_the_right_answer() -> None:
    text = page(REPORT, {}, EXAMPLES)
    plain = Reader(text).text
    for shown in ("rank 2", "not found", "9.00 = dense 10.00 + sparse -1.00", "chunks 2.50", "right answer", "…"):
        assert shown in plain
    assert 'class="sparse" style="width:0.0%"' in text
    assert plain.count("word word") < 100


def test_outcome_tells_good_and_bad() -> None:
    first, second, third = outcome(REPORT)
    assert first == (
        "DupMAE hybrid reaches nDCG@10 0.718, MRR@10 0.667, Recall@100 0.968 on 2,000 test queries "
        "among 30,000 documents."
    )
    assert second == (
        "By nDCG@10 it is better than BM25 (0.601, p < 0.001), Encoder as it comes (0.630, p < 0.001) "
        "and Hybrid, no pre-training (0.694, p = 0.004)."
    )
    assert third.startswith("By nDCG@10 it is not distinguishable from Fine-tuned dense (0.712, p = 0.210).")
    worse = copy.deepcopy(REPORT)
    worse["systems"]["finetuned-dense"]["ndcg@10"] = 0.75
    worse["p_values"]["hybrid_vs_finetuned_dense"] = 0.0001
    third = outcome(worse)[2]
    assert "worse than Fine-tuned dense (0.750, p < 0.001)" in third
    assert "Highest nDCG@10 of all rows: Fine-tuned dense, 0.750." in third


def test_plain_table() -> None:
    lines = format_table(REPORT).splitlines()
    assert len({line.rindex("0.001") for line in lines[2:9] if "0.001" in line}) == 1
    assert lines[8].split() == ["DupMAE", "hybrid", "0.718*", "0.667*", "0.968*", "15.8", "MB", "1,234", "–"]
    assert lines[2].split() == ["BM25", "0.601", "0.560", "0.890", "15.8", "MB", "1,234", "<", "0.001"]
    dot = {line.index(f"{s['ndcg@10']:.3f}") for line, s in zip(lines[2:9], REPORT["systems"].values(), strict=True)}
    assert len(dot) == 1
    assert "400 steps of 32 queries" in format_table(REPORT)
    corrected = holm(REPORT["p_values"])["hybrid_vs_no_pretraining"]
    assert f"{corrected:.3f}" == "0.004"
    assert lines[5].endswith("0.004")


def test_markdown_table() -> None:
    lines = format_markdown(REPORT).splitlines()
    assert lines[0] == "| System | nDCG@10 | MRR@10 | Recall@100 | Index | Queries/s | p |"
    assert lines[8] == "| DupMAE hybrid | **0.718** | **0.667** | **0.968** | 15.8 MB | 1,234 | – |"
    assert {line.count("|") for line in lines[:9]} == {8}


def test_picture(tmp_path: Path) -> None:
    write_picture(tmp_path / "systems.png", REPORT)
    with Image.open(tmp_path / "systems.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 1600
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(255, 255, 255), (0, 0x72, 0xB2), (0x7F, 0xB8, 0xDC), (0xB4, 0xBA, 0xC2)} <= colors


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


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (250e6, "250 MB"), (5.4e12, "5400 GB")]
)
def test_bytes_text(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (63.4, "1 min 03 s")])
def test_seconds_text(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
