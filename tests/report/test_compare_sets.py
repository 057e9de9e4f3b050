"""Comparisons over several data sets, as of BEIR."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dupmae.evaluation.significance import holm
from dupmae.files import write_json
from dupmae.report.overview import average, compare_sets
from dupmae.settings import Compare
from tests.report.compared import data_folder, ranked_at, write_result
from tests.tiny import call

RANKS = {"one": ([1, 1, 2, 4], [1, 2, 2, 1]), "cqadupstack/two": ([2, 2, 2, 2], [1, 1, 1, 1])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name, both in RANKS.items():
        data = data_folder(folder / "data" / name)
        for system, ranks in zip("ab", both, strict=True):
            write_result(folder / system / name, data, ranked_at(ranks))
    for system in "ab":
        write_json(
            folder / system / "metrics.json", {"suite": "beir", "metrics": {}, "sets": {name: {} for name in RANKS}}
        )
    return folder


def test_forums_count_as_one_set() -> None:
    values = {"scifact": 0.6, "cqadupstack/gis": 0.1, "cqadupstack/tex": 0.3, "nq": 0.4}
    assert average(values) == pytest.approx((0.6 + 0.2 + 0.4) / 3)


def test_holm_is_over_all_pairs_of_all_sets(folder: Path) -> None:
    found = compare_sets(Compare(inputs=[folder / "a", folder / "b"], bm25=True))
    pairs = [pair for one in found.sets.values() for pair in one.differences]
    assert len(pairs) == 6
    corrected = holm({str(place): pair.p for place, pair in enumerate(pairs)})
    assert [pair.corrected for pair in pairs] == list(corrected.values())
    assert {one.tests for one in found.sets.values()} == {6}
    assert found.values("b") == {"one": 0.75, "cqadupstack/two": 1.0}


def test_every_format(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    assert call("compare", folder / "a", folder / "b", "--out", out, "--quiet") == 0
    told = capsys.readouterr().out
    assert "b against a: +0.2812 on average; significantly better on 0 of 2 sets, worse on 0" in told
    assert {path.name for path in out.iterdir()} == {
        "report.html", "report.json", "report.md", "report.png", "one", "cqadupstack",
    }  # fmt: skip
    assert (out / "cqadupstack" / "two" / "report.html").is_file()
    assert json.loads((out / "report.json").read_text())["average"] == {"a": 0.59375, "b": 0.875}
    markdown, page = ((out / f"{name}").read_text() for name in ("report.md", "report.html"))
    assert "| cqadupstack/two | 0.5000 | **1.0000** |" in markdown
    assert "| Average | 0.5938 | **0.8750** |" in markdown
    assert '<a href="cqadupstack/two/report.html">cqadupstack/two</a>' in page


def test_what_does_not_fit_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def line(*words: object) -> str:
        assert call("compare", *words, "--quiet") == 2
        return capsys.readouterr().err

    assert "a/one/metrics.json: is of one data set, others are of several" in line(folder / "b", folder / "a" / "one")
    assert "data: one folder for several data sets" in line(folder / "a", folder / "b", "--data", folder / "data")
    for name in ("c", "e"):
        write_json(folder / name / "metrics.json", {"sets": {"../one": {}}})
    assert "c/metrics.json: a data set called '../one'" in line(folder / "c", folder / "e")
    write_json(folder / "c" / "metrics.json", {"sets": {"three": {}}})
    assert "the results share no data set" in line(folder / "a", folder / "c")


def test_sets_that_not_all_have_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((folder / "a" / "metrics.json").read_text())
    found["sets"]["more"] = {}
    data = data_folder(folder / "data" / "one")
    write_result(folder / "d" / "one", data, ranked_at([1, 1, 1, 1]))
    write_json(folder / "d" / "metrics.json", found)
    assert call("compare", folder / "b", folder / "d", "--json") == 2
    assert "cqadupstack/two: no such file" in capsys.readouterr().err
    del found["sets"]["cqadupstack/two"]
    write_json(folder / "d" / "metrics.json", found)
    assert call("compare", folder / "b", folder / "d", "--json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["left_out"] == ["cqadupstack/two", "more"]
    assert "not every result has them: cqadupstack/two, more" in told.err
