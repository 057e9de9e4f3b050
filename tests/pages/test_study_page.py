"""The page on the study: its recipe has the cells that the page says, and its commands are understood."""

from __future__ import annotations

import re
from pathlib import Path

from dupmae.files import read_json, write_text
from dupmae.settings import Study
from dupmae.settings.loading import find_recipe, load
from dupmae.study.grid import check, expand
from dupmae.study.pages import README, write_results
from tests.paths import ROOT

PAGE = (ROOT / "docs/study.md").read_text(encoding="utf-8")


def test_the_recipe_of_the_page(tmp_path: Path) -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    file = write_text(tmp_path / "study.yaml", text)
    study = load(Study, file)
    check(study, file)
    assert len(expand(study)) == 5


def test_the_kept_results_are_written_from_their_runs(tmp_path: Path) -> None:
    files = sorted((ROOT / "results").rglob("study.json"))
    assert files
    for file in files:
        record = read_json(file)
        assert any(cell["current"] for cell in record["cells"])
        kept = (file.parent / README).read_text(encoding="utf-8")
        assert write_results(record, tmp_path, plots=False).read_text(encoding="utf-8") == kept
        pictures = re.findall(r"\]\((\S+\.png)\)", kept)
        assert pictures
        assert all((file.parent / name).is_file() for name in pictures)


def test_the_settings_of_the_page() -> None:
    given = [word for word in re.findall(r"`(\w+=[^`]*)`", PAGE) if not word.startswith("steps")]
    assert len(given) >= 6
    for word in given:
        load(Study, find_recipe(None, "study"), [word])


def test_the_data_of_the_page() -> None:
    study = load(Study, find_recipe(None, "study"))
    named = {str(found.path) for found in (*study.pairs.values(), *study.tests.values())}
    named |= {path for corpus in study.corpora.values() for path in corpus["inputs"]}
    assert all(f"`{path}`" in PAGE for path in named)
