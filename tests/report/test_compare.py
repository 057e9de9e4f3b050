from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from dupmae.evaluation.significance import mean_interval, paired_t_test
from dupmae.report import differences as module
from dupmae.report.differences import differences, moved, pairs
from tests.reference.metrics import exact_randomization
from tests.report.compared import data_folder, per_query, ranked_at, write_result
from tests.tiny import call

A, B = [1, 1, 2, 4], [1, 2, 2, 1]
"""Ranks of the right answers: reciprocal 1, 1, .5, .25 and 1, .5, .5, 1."""


def values(ranks: list[int]) -> dict[str, float]:
    return {f"q{number}": 1 / rank for number, rank in enumerate(ranks)}


def test_wins_ties_losses_and_the_mean_by_hand() -> None:
    (pair,) = differences({"A": values(A), "B": values(B)})
    assert (pair.system, pair.other) == ("B", "A")
    assert (pair.wins, pair.ties, pair.losses) == (1, 2, 1)
    assert pair.mean == pytest.approx((0 - 0.5 + 0 + 0.75) / 4)
    assert pair.better is None


def test_the_tests_agree_with_other_implementations() -> None:
    a, b = [0.2, 0.9, 0.4, 0.5, 1.0, 0.3, 0.1, 0.6], [0.5, 1.0, 0.4, 0.9, 0.9, 0.8, 0.5, 0.7]
    given = {name: {f"q{n}": value for n, value in enumerate(found)} for name, found in (("A", a), ("B", b))}
    (pair,) = differences(given)
    # Four standard errors of a share estimated from 10,000 draws.
    assert pair.p == pytest.approx(exact_randomization(a, b), abs=0.02)
    (pair,) = differences(given, test="t-test")
    expected = stats.ttest_rel(b, a)
    interval = expected.confidence_interval(0.95)
    assert (pair.p, pair.low, pair.high) == pytest.approx((expected.pvalue, interval.low, interval.high))


def test_the_t_test_of_differences_without_spread() -> None:
    assert paired_t_test([0.5, 1.0], [0.5, 1.0]) == 1.0
    assert paired_t_test([1.0], [0.0]) == 1.0
    assert paired_t_test([1.0, 0.5, 0.75], [0.5, 0.0, 0.25]) == 0.0
    assert mean_interval([0.25]) == (0.25, 0.25)


def test_holm_over_all_pairs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"A": {"q": 0.1, "r": 0.2}, "B": {"q": 0.2, "r": 0.4}, "C": {"q": 0.5, "r": 0.3}}
    # B against A, C against A, C against B, one after another.
    p_values = iter([0.03, 0.01, 0.04])
    monkeypatch.setitem(module.TESTS, "t-test", lambda a, b: next(p_values))
    found = differences(given, test="t-test")
    assert [(d.system, d.other) for d in found] == [("B", "A"), ("C", "A"), ("C", "B")]
    assert [d.corrected for d in found] == pytest.approx([2 * 0.03, 3 * 0.01, 2 * 0.03])
    assert [d.better for d in found] == [None, "C", None]


def test_against_a_baseline_only_its_pairs() -> None:
    assert pairs(["A", "B", "C"], "B") == [("A", "B"), ("C", "B")]
    given = {"A": values(A), "B": values(B), "C": values([4, 4, 4, 4])}
    assert [(d.system, d.other, d.losses) for d in differences(given, baseline="A")] == [("B", "A", 1), ("C", "A", 3)]


def test_the_queries_that_moved() -> None:
    system, other = {"q": 0.5, "r": 1.0, "s": 0.0, "t": 0.3}, {"q": 0.5, "r": 0.2, "s": 0.4, "t": 0.1}
    assert moved(system, other, 1) == [("r", pytest.approx(0.8)), ("s", pytest.approx(-0.4))]
    assert [query for query, _ in moved(system, other, 5)] == ["r", "t", "s"]
    assert moved(system, other, 0) == []


class Page(HTMLParser):
    """The text and the tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(value and value.startswith("http") for name, value in attrs if name in ("href", "src"))

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, with names that every format must escape."""
    folder = tmp_path_factory.mktemp("compare")
    data = data_folder(folder / "data")
    first, second = write_result(folder / "a", data, ranked_at(A)), write_result(folder / "b", data, ranked_at(B))
    inputs = json.dumps({"a_1 & 50%": str(first), "<i>b|c": str(second)})
    assert call("compare", f"inputs={inputs}", "--bm25", "--out", folder / "out", "--quiet") == 0
    return folder / "out"


def test_everything_is_written(out: Path) -> None:
    assert {file.name for file in out.iterdir()} == {"report.html", "report.json", "report.md", "report.png", "bm25"}
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((out / "report.json").read_text())
    assert list(found["systems"]) == ["bm25", "a_1 & 50%", "<i>b|c"]
    assert found["systems"]["bm25"]["label"] == "BM25"
    assert found["systems"]["a_1 & 50%"]["mrr@10"] == pytest.approx((1 + 1 + 0.5 + 0.25) / 4)
    assert found["values"]["<i>b|c"] == values(B)
    assert (found["metric"], found["dataset"]["queries"], found["dataset"]["passages"]) == ("mrr@10", 4, 8)
    pair = next(d for d in found["differences"] if (d["system"], d["other"]) == ("<i>b|c", "a_1 & 50%"))
    assert (pair["wins"], pair["ties"], pair["losses"]) == (1, 2, 1)
    assert found["p_values"]["<i>b|c against a_1 & 50%"] == pair["corrected"]
    assert "passages" not in found


def test_the_queries_that_moved_have_texts_and_ranks(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())
    gain, loss = (move for move in found["moved"] if (move["system"], move["other"]) == ("<i>b|c", "a_1 & 50%"))
    assert (gain["query"], gain["text"], gain["difference"]) == ("q3", "drawing curves", 0.75)
    assert gain["found"]["<i>b|c"] == {"value": 1.0, "rank": 1, "top": "d3"}
    assert gain["found"]["a_1 & 50%"] == {"value": 0.25, "rank": 4, "top": "e0"}
    assert (loss["query"], loss["difference"], loss["relevant"]) == ("q1", -0.5, ["d1"])


def test_bm25_is_a_result_that_can_be_compared_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("compare", out.parent / "a", out / "bm25", "--json", "--quiet") == 0
    found = json.loads(capsys.readouterr().out)
    # Every answer repeats its query, so that BM25 finds them all.
    assert found["values"]["bm25"] == values([1, 1, 1, 1])
    assert list(found["systems"]) == ["a", "bm25"]


def test_the_page_is_whole_and_loads_nothing(out: Path) -> None:
    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "iframe", "i", "b|c"} & (page.tags - {"b"})
    shown = ("a_1 & 50%", "<i>b|c", "<b>matching</b> text", "drawing curves", "right answer at rank 4", "1 / 2 / 1")
    assert all(text in page.text for text in shown)


def test_markdown(out: Path) -> None:
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "| a | BM25 | **1.0000** | **1.0000** |" in text
    assert "| b | a\\_1 & 50% | 0.6875 | 0.7500 |" in text
    assert "| c | \\<i>b\\|c | 0.7500 | **1.0000** |" in text
    line = next(line for line in text.splitlines() if line.startswith("| \\<i>b\\|c against a"))
    assert line.startswith("| \\<i>b\\|c against a\\_1 & 50% | +0.0625 |")
    assert line.endswith("| 1 / 2 / 1 |")
    assert {row.replace("\\|", "").count("|") for row in text.splitlines() if row.startswith("| a |")} == {5}


def test_the_terminal_shows_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More queries, so that a difference can be significant."""
    queries = [f"q{n}" for n in range(300)]
    written: dict[str, Any] = {
        "suite": "scifact",
        "main": "mrr@10",
        "counts": {"queries": 300, "documents": 5183},
        "settings": {"data": str(tmp_path / "gone"), "split": "test", "suite": "beir"},
    }
    for name, rank in (("good", 1), ("bad", 2)):
        by_query = per_query(dict.fromkeys(queries, 1 / rank) | {"q0": 0.5})
        means = {metric: sum(found.values()) / 300 for metric, found in by_query.items()}
        run = {query: {"d": 1.0} for query in queries}
        write_result(tmp_path / name, tmp_path, run, **written, metrics=means)
        (tmp_path / name / "per_query.json").write_text(json.dumps(by_query))
    monkeypatch.chdir(tmp_path)
    assert call("compare", "good", "bad") == 0
    done = capsys.readouterr()
    assert re.search(r"^ a +good +0\.9983\* b ", done.out, re.MULTILINE)
    assert "bad is worse than good on MRR@10: -0.4983, corrected p < 0.001; better on 0 queries" in done.out
    assert "gone is not there, so texts are left out" in done.err
    assert done.out.endswith("next: dupmae compare good bad --out OUT\n")
    assert call("compare", "good", "bad", "--baseline", "good", "labels={bad: Bad}") == 0
    done = capsys.readouterr()
    assert re.search(r"^ Bad +0\.5000 .* < 0\.001$", done.out, re.MULTILINE)
    assert "Worse by MRR@10: Bad (0.500, p < 0.001).\n" in done.out
    assert "Highest MRR@10 of all systems: good, 0.998." in done.out
