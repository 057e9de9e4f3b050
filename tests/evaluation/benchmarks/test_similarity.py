"""STS: Spearman by hand, the parts of a year as one, and the layouts of the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks import sts as similarity
from dupmae.evaluation.benchmarks.encoded_texts import Texts
from dupmae.evaluation.benchmarks.official_files import Folder
from dupmae.evaluation.benchmarks.sts import YEARS, Pair, evaluate_sts, open_sts, scores, spearman
from tests.evaluation.benchmarks.settings import suite_settings
from tests.paths import DATA
from tests.tiny import tiny_retriever


def by_hand(gold: list[float], said: list[float]) -> float:
    """Pearson's correlation of mean ranks."""

    def ranks(values: list[float]) -> np.ndarray:
        return np.array([(sum(v < x for v in values) + sum(v <= x for v in values) + 1) / 2 for x in values])

    a, b = ranks(gold) - ranks(gold).mean(), ranks(said) - ranks(said).mean()
    return float(100 * (a @ b) / np.sqrt((a @ a) * (b @ b)))


def test_spearman_by_hand() -> None:
    # Squared rank differences 1, 1, 0, 0: 1 - 6 * 2 / (4 * 15) = .8
    assert spearman([1, 2, 3, 4], [0.2, 0.1, 0.3, 0.9]) == pytest.approx(80.0)
    assert spearman([0, 5, 2.5], [-1, 1, 0.99]) == pytest.approx(100.0)
    assert spearman([1, 2, 3], [0.5, 0.5, 0.5]) == spearman([2, 2], [0.1, 0.2]) == 0
    tied = ([1, 1, 2, 3, 3], [0.1, 0.4, 0.4, 0.2, 0.9])
    assert spearman(*tied) == pytest.approx(by_hand(*tied))


def test_the_parts_of_a_year_are_ranked_as_one() -> None:
    pairs = {"STS13": {"FNWN": [Pair("", "", g) for g in (1, 2, 3)], "OnWN": [Pair("", "", g) for g in (3, 4, 5)]}}
    said = {"STS13": {"FNWN": [0.7, 0.8, 0.9], "OnWN": [0.1, 0.2, 0.3]}}
    found = scores(pairs, said)
    assert found["parts"] == {"STS13 FNWN": pytest.approx(100), "STS13 OnWN": pytest.approx(100)}
    assert found["metrics"] == {"STS13": pytest.approx(by_hand([1, 2, 3, 3, 4, 5], [0.7, 0.8, 0.9, 0.1, 0.2, 0.3]))}
    assert found["metrics"]["STS13"] < 0


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_retriever(tmp_path_factory.mktemp("sts") / "retriever")


@pytest.mark.parametrize("part", ["hybrid", "dense", "sparse"])
def test_the_cosine_is_that_of_the_scores_inner_product(retriever: Any, part: Any) -> None:
    retriever.encoder.log_scales.data.copy_(np_log(2.0, 0.5))
    left, right = ["for statement", "if  a is\tb"], ["while statement", "if a is b"]
    found = Texts(retriever, left + right, part).cosines(left, right)
    passages = retriever.encode_passages([" ".join(text.split()) for text in left + right])
    weights = {"hybrid": (2.0, 0.5), "dense": (1.0, 0.0), "sparse": (0.0, 1.0)}[part]
    sparse = passages.sparse.toarray().astype(np.float64)
    vectors = np.concatenate([passages.dense * weights[0] ** 0.5, sparse * weights[1] ** 0.5], axis=1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert found == pytest.approx([vectors[0] @ vectors[2], vectors[1] @ vectors[3]], abs=1e-5)
    assert found[1] == pytest.approx(1, abs=1e-5)


def np_log(*values: float) -> Any:
    import torch

    return torch.tensor(values).log()


def write_year(folder: Path, year: int, table: bool) -> None:
    for part in YEARS[year]:
        rows = [("4.2", "one a", "one b"), ("", "unscored", "pair"), ("0", "two a", "two b")]
        if table:
            place = folder / f"20{year}"
            place.mkdir(exist_ok=True)
            (place / f"{part}.test.tsv").write_bytes("\r\n".join("\t".join(row) for row in rows).encode())
        else:
            place = folder / f"STS{year}-en-test"
            place.mkdir(exist_ok=True)
            (place / f"STS.input.{part}.txt").write_text("".join(f"{a}\t{b}\n" for _, a, b in rows))
            (place / f"STS.gs.{part}.txt").write_text("\n".join(gold for gold, _, _ in rows))


@pytest.mark.parametrize("table", [True, False])
def test_semevals_files_and_tables_of_them(tmp_path: Path, table: bool) -> None:
    write_year(tmp_path, 16, table)
    source = similarity._sources(Folder(tmp_path), "STS16")
    found = similarity._read("STS16", source, official=False)
    assert list(found) == list(YEARS[16])
    expected = [Pair("one a", "one b", 4.2), Pair("two a", "two b", 0.0)]
    assert all(pairs == expected for pairs in found.values())
    with pytest.raises(DupmaeError, match="has 2 scored pairs, officially 254"):
        similarity._read("STS16", source, official=True)


def test_the_other_two_and_msrvid_from_the_benchmark(tmp_path: Path) -> None:
    row = "main-captions\t{}\t{}\t0001\t2.500\tA girl sings.\tA girl hums.\textra\n"
    for part in ("train", "dev", "test"):
        lines = [row.format("MSRvid", "2012test"), row.format("MSRvid", "2012train"), row.format("images", "2014")]
        (tmp_path / f"sts-{part}.csv").write_text("".join(lines))
    header = "pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n"
    (tmp_path / "SICK_test_annotated.txt").write_text(header + "1\tone\ttwo\t3.3\tNEUTRAL\n2\tc\td\t1\tNEUTRAL\n")
    write_year(tmp_path, 12, table=True)
    (tmp_path / "2012" / "MSRvid.test.tsv").unlink()
    folder = Folder(tmp_path)

    def read(task: str) -> dict[str, list[Pair]]:
        return similarity._read(task, similarity._sources(folder, task), official=False)

    pair = Pair("A girl sings.", "A girl hums.", 2.5)
    assert read("STS-B") == {"STS-B": [pair] * 3}
    assert read("SICK-R") == {"SICK-R": [Pair("one", "two", 3.3), Pair("c", "d", 1.0)]}
    assert read("STS12")["MSRvid"] == [pair] * 3


def test_what_is_missing_or_wrong_is_told(tmp_path: Path) -> None:
    def refused(message: str, data: Path | None, **given: Any) -> None:
        with pytest.raises(DupmaeError, match=message):
            similarity.open_sts(suite_settings("sts", data, **given))

    refused(r"sts: data is not given \(.*STS16.*question-question 209.*SICK_test_annotated\.txt: 4,927 pairs", None)
    refused(r"has no STS12-en-test/STS\.input\.MSRpar\.txt, no STS12-en-test/STS\.gs\.MSRpar\.txt", tmp_path)
    refused("sets: no task STS17", tmp_path, sets=["STS17"])
    write_year(tmp_path, 16, table=False)
    gold = tmp_path / "STS16-en-test" / "STS.gs.headlines.txt"
    gold.write_text("4\n")
    refused("has 1 lines for the 3 pairs of STS.input.headlines.txt", tmp_path, sets=["STS16"], official=False)
    for score in ("x", "nan", "-inf"):
        gold.write_text(f"4\n{score}\n1\n")
        refused(f"line 2: the score '{score}' is not a finite number", tmp_path, sets=["STS16"], official=False)


def test_results_are_kept_by_what_decides_them(tmp_path: Path, retriever: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write_year(tmp_path, 15, table=True)
    write_year(tmp_path, 16, table=True)

    def measured(**given: Any) -> dict[str, Any]:
        settings = suite_settings("sts", tmp_path, official=False, **given)
        found: dict[str, Any] = evaluate_sts(settings, open_sts(settings), retriever, tmp_path / "out")
        return found

    both = measured(sets=["STS15", "STS16"])
    assert both["official"] is False
    assert list(both["metrics"]) == ["STS15", "STS16"]
    with monkeypatch.context() as patched:
        patched.setattr(similarity, "Texts", None)
        assert measured(sets=["STS16", "STS15"]) == both
    (tmp_path / "out" / "pairs.json").write_text("{}")
    assert measured(sets=["STS15", "STS16"]) == both
    assert (tmp_path / "out" / "pairs.json").stat().st_size > 100
    assert list(measured(sets=["STS16"])["metrics"]) == ["STS16"]


def test_whole_data_is_official_whatever_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_year(tmp_path, 16, table=True)
    settings = suite_settings("sts", tmp_path, official=False, sets=["STS16"])
    assert not open_sts(settings)["STS16"].official
    monkeypatch.setitem(YEARS, 16, dict.fromkeys(YEARS[16], 2))
    assert open_sts(settings)["STS16"].official


@pytest.mark.skipif(not (DATA / "sts").is_dir(), reason="needs the STS files")
def test_the_official_files_have_the_official_counts() -> None:
    folder = Folder(DATA)
    for task in similarity.TASKS:
        similarity._read(task, similarity._sources(folder, task), official=True)
