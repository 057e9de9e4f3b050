"""Curves of a run's log: what is drawn, the page, the picture, and logs that cannot be drawn."""

from __future__ import annotations

import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.report.curves import write_curves
from dupmae.training.log import curves, group, in_words, is_quality, read_log
from tests.tiny import call

LINES: list[dict[str, Any]] = [
    {"step": step, "loss": 9 / step, "mlm": 3 / step, "mlm_accuracy": step / 10, "learning_rate": 1e-4}
    | {"tokens_per_second": 2700.0, "utilisation": 0.4, "padding_share": 0.01, "seconds_left": 30.0 - step}
    | ({"probe_cls_mrr@10": 0.1 * step, "probe_bow_ndcg@10": 0.5 - 0.1 * step} if step % 2 else {})
    for step in range(1, 6)
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write(tmp_path / "run", LINES)
    return tmp_path / "run"


def write(folder: Path, lines: list[dict[str, Any]], tail: str = "") -> None:
    folder.mkdir()
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)


@pytest.mark.parametrize(
    ("name", "where"),
    [("loss", "loss"), ("bow", "loss"), ("decoder_accuracy", "accuracy"), ("probe_bow_mrr@10", "probe")]
    + [(name, "speed") for name in ("learning_rate", "tokens_per_second", "utilisation", "skipped_steps", "epoch")],
)
def test_each_name_has_its_group(name: str, where: str) -> None:
    assert group(name) == where
    assert is_quality(name) == (where != "speed")


def test_names_in_words() -> None:
    assert [in_words(name) for name in ("mlm_accuracy", "probe_cls_ndcg@10", "bow")] == [
        "MLM accuracy",
        "[CLS] nDCG@10",
        "BoW",
    ]


def test_curves_have_their_own_steps_and_their_best() -> None:
    found = {curve.name: curve for curve in curves([*LINES, {"step": 6, "loss": math.nan, "note": "text"}])}
    assert list(found)[:3] == ["loss", "mlm", "mlm_accuracy"]
    assert "note" not in found
    assert found["loss"].steps == (1, 2, 3, 4, 5)
    assert found["probe_cls_mrr@10"].steps == (1, 3, 5)
    assert found["loss"].best == (5, 9 / 5)
    assert found["probe_bow_ndcg@10"].best == (1, 0.4)


class Reader(HTMLParser):
    """Text, titles of the charts, and everything a page would fetch."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.charts, self.fetched = "", [], []
        self.feed(page)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            assert (given["src"] or "").startswith("data:image/svg+xml;base64,")
            self.charts.append(given["alt"])
        if tag in ("script", "iframe") or (tag == "link" and given.get("href") != "data:,"):
            self.fetched.append(tag)


def test_the_page_stands_alone_and_has_every_curve(run: Path) -> None:
    told = write_curves(run)
    page = Reader((run / "report.html").read_text(encoding="utf-8"))
    assert page.fetched == []
    names = ["loss", "MLM", "MLM accuracy", "[CLS] MRR@10", "BoW nDCG@10", "learning rate", "tokens per second"]
    names += ["utilisation", "padding share", "seconds left"]
    assert page.charts == [f"{name} over the training steps" for name in names]
    for part in ("Loss: 9 at step 1, 1.8 at step 5.", "2,700", "40.0%", "25.0 s", "0.4 (step 1)", "probe_bow_ndcg@10"):
        assert part in page.text
    assert told["steps"] == 5
    assert told["figures"]["probe_cls_mrr@10"] == {"first": 0.1, "last": 0.5, "best": 0.5, "best_step": 5}
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_command_says_what_it_wrote(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"wrote {run / 'report.html'}: 10 curves over 5 steps"
    assert lines[1].startswith(f"wrote {run / 'curves.png'}")
    assert lines[2] == f"next: dupmae pretrain --recipe RECIPE --out {run} --resume"
    (run / "encoder").mkdir()
    assert call("report", run, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["next"].startswith(f"dupmae finetune --model {run / 'encoder'} ")
    assert result["figures"]["loss"]["last"] == 9 / 5


def test_after_a_fine_tuning_comes_the_index(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = run.rename(run.with_name("mine-training"))
    (training.parent / "mine").mkdir()
    assert call("report", training, "--json") == 0
    index = f"dupmae index --retriever {training.parent / 'mine'} --data CORPUS --out {training.parent / 'index'}"
    assert json.loads(capsys.readouterr().out)["next"] == index


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    write(tmp_path / "run", LINES, '{"step": 6, "lo')
    assert read_log(tmp_path / "run") == LINES


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 1}\n[]\n{"step": 2}\n', r"log\.jsonl, line 2: not a log line with a step \(remove the line\)"),
        ('{"loss": 1}\n{"step": 2}\n', r"line 1: not a log line"),
        ("", r"log\.jsonl: holds no log lines yet"),
    ],
)
def test_a_log_that_cannot_be_read_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(DupmaeError, match=message):
        read_log(tmp_path)


def test_a_folder_without_a_log_names_the_one_with(run: Path) -> None:
    with pytest.raises(DupmaeError, match=rf"has no log.jsonl \(name {run}\)"):
        read_log(run.parent)
    with pytest.raises(DupmaeError, match="no such folder"):
        read_log(run / "nowhere")


def test_a_log_without_figures_is_told(tmp_path: Path) -> None:
    write(tmp_path / "run", [{"step": 1}])
    with pytest.raises(DupmaeError, match="no figures"):
        write_curves(tmp_path / "run")
