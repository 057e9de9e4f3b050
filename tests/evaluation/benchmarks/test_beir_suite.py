"""BEIR's folders, names, counts and averages."""

from __future__ import annotations

from pathlib import Path

import pytest

from dupmae.corpus.beir import Passage, write_beir
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.beir import averages
from dupmae.evaluation.benchmarks.beir_sets import AVERAGES, FORUMS, PUBLIC, SETS, find_sets, open_set
from tests.evaluation.benchmarks.settings import suite_settings
from tests.paths import DATA


def table(names: list[str]) -> dict[str, dict[str, float]]:
    return {name: {"ndcg@10": 0.1 * (n % 7), "recall@100": 0.5} for n, name in enumerate(names)}


def test_the_published_data_sets() -> None:
    assert (len(SETS), len(PUBLIC), len(AVERAGES["the 13 public without cqadupstack"])) == (18, 14, 13)
    assert sum(forum.queries for forum in FORUMS.values()) == SETS["cqadupstack"].queries
    assert sum(forum.documents for forum in FORUMS.values()) == SETS["cqadupstack"].documents


def test_averages_by_hand() -> None:
    forums = [f"cqadupstack/{name}" for name in FORUMS]
    whole = table([*(name for name in SETS if name != "cqadupstack"), *forums])
    means = averages(whole, whole)
    single = {name: values["ndcg@10"] for name, values in whole.items() if "/" not in name}
    single["cqadupstack"] = sum(whole[name]["ndcg@10"] for name in forums) / 12
    assert means["ndcg@10, mean of all 18"] == pytest.approx(sum(single.values()) / 18)
    assert means["ndcg@10, mean of the 14 public"] == pytest.approx(sum(single[name] for name in PUBLIC) / 14)
    thirteen = [single[name] for name in PUBLIC if name != "cqadupstack"]
    assert means["ndcg@10, mean of the 13 public without cqadupstack"] == pytest.approx(sum(thirteen) / 13)


def test_no_published_average_without_all_of_its_sets() -> None:
    thirteen = table([name for name in PUBLIC if name != "cqadupstack"])
    assert list(averages(thirteen, thirteen)) == [
        "ndcg@10, mean of 13 of 18",
        "recall@100, mean of 13 of 18",
        "ndcg@10, mean of the 13 public without cqadupstack",
        "recall@100, mean of the 13 public without cqadupstack",
    ]
    assert list(averages(thirteen, set(thirteen) - {"quora"})) == [
        "ndcg@10, mean of 13 of 18",
        "recall@100, mean of 13 of 18",
    ]
    forum = table(["cqadupstack/android"])
    assert averages(forum, forum)["recall@100, mean of all here"] == 0.5
    mixed = table(["mine", "quora"])
    assert averages(mixed, {"quora"})["recall@100, mean of all here"] == 0.5


def beir_set(folder: Path, queries: int = 2) -> Path:
    asked = {f"q{n}": f"query {n}" for n in range(queries)}
    write_beir(folder, [Passage("d", "", "text")], asked, {"test": {name: {"d": 1} for name in asked}})
    return folder


def test_folders_are_named_as_beir_names_them(tmp_path: Path) -> None:
    for name in ("scifact/beir", "nfcorpus", "cqadupstack/android", "mine"):
        beir_set(tmp_path / name)
    assert sorted(find_sets(tmp_path)) == ["cqadupstack/android", "mine", "nfcorpus", "scifact"]
    assert list(find_sets(tmp_path / "scifact" / "beir")) == ["scifact"]
    assert list(find_sets(tmp_path / "scifact")) == ["scifact"]
    assert list(find_sets(tmp_path / "nfcorpus")) == ["nfcorpus"]
    assert list(find_sets(tmp_path / "cqadupstack")) == ["cqadupstack/android"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DupmaeError, match="holds no data set"):
        find_sets(tmp_path / "empty")


def test_counts_are_checked_for_test_splits_of_known_sets(tmp_path: Path) -> None:
    folder = beir_set(tmp_path / "scifact")
    with pytest.raises(DupmaeError, match=r"test\.tsv: has 2 judged queries, officially 300"):
        open_set("scifact", folder, suite_settings("beir", tmp_path))
    assert open_set("scifact", folder, suite_settings("beir", tmp_path, official=False)).documents == 5_183
    mine = open_set("mine", folder, suite_settings("beir", tmp_path))
    assert (mine.documents, mine.notes) == (None, ("mine, test: not one of BEIR's test splits",))


@pytest.mark.skipif(not (DATA / "scifact").is_dir(), reason="needs the scifact collection")
def test_the_official_scifact_has_the_official_counts() -> None:
    collection = open_set("scifact", DATA / "scifact" / "beir", suite_settings("beir", DATA))
    assert sum(1 for _ in collection.stream()) == SETS["scifact"].documents
