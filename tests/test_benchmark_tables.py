"""The page of the benchmarks shows what was kept of them, and says truly which goals are met."""

from __future__ import annotations

import re

import pytest

from benchmarks.record import PAGE, RESULTS, RUNS, with_tables
from benchmarks.tables import TABLES, verdict
from dupmae.files import read_json

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_are_made_of_the_kept_results() -> None:
    kept = read_json(RESULTS)
    assert set(kept) <= set(RUNS) == set(TABLES)
    assert with_tables(TEXT, kept) == TEXT
    for name, measured in kept.items():
        assert f"<!-- {name} -->\n\nMeasured {measured['date']}" in TEXT
        commands = [run["command"] for run in measured["runs"]]
        assert commands == [f"python -m benchmarks.{line} --json" for line in RUNS[name]]


def test_every_benchmark_has_a_place_and_its_first_command() -> None:
    for name, lines in RUNS.items():
        assert len(re.findall(rf"<!-- {name} -->\n.*?<!-- end -->", TEXT, re.DOTALL)) == 1
        if name not in ("pretraining-fp32", "same-allocator", "profile"):
            assert f"    python -m benchmarks.{lines[0].replace('DATA', 'DIR')} --json\n" in TEXT


def test_another_figure_makes_another_page() -> None:
    kept = {"masking": {"date": "2000-01-01", "hardware": "h", "runs": [{"result": result(0.6)}]}}
    made = with_tables("a\n<!-- masking -->\nold\n<!-- end -->\nb", kept)
    assert "old" not in made
    assert "| 512 | 0.600 (0.500, 0.700) | 9 | goal 0.3: missed by 100% |" in made
    assert made.startswith("a\n<!-- masking -->\n\nMeasured 2000-01-01 on h.")
    assert made.endswith("\n\n<!-- end -->\nb")


def result(median: float) -> dict[str, object]:
    spread = {"min": 0.5, "median": median, "max": 0.7}
    return {"ms_per_example": {"512": median}, "spread": {"512": spread}, "ratio_to_reference": {"512": 9.1}}


@pytest.mark.parametrize(
    ("value", "goal", "at_least", "told"),
    [
        (2.0, 2.0, True, "goal 2: reached"),
        (1.5, 2.0, True, "goal 2: missed by 25%"),
        (0.95, 0.95, False, "goal 0.95: reached"),
        (0.5, 1 / 3, False, "goal 0.333: missed by 50%"),
        (3000, 2700, True, "goal 2,700: reached"),
    ],
)
def test_goals(value: float, goal: float, at_least: bool, told: str) -> None:
    assert verdict(value, goal, at_least=at_least) == told
