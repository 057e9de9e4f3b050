"""SentEval's transfer tasks: the protocol against plain loops, figures by hand, and the layouts of the files."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks import transfer
from dupmae.evaluation.benchmarks.encoded_texts import Texts
from dupmae.evaluation.benchmarks.senteval import LAYOUTS, Example, Task, open_tasks
from dupmae.evaluation.benchmarks.transfer import (
    chosen,
    evaluate_transfer,
    features,
    fit_count,
    nested,
    open_transfer,
    split,
    train_test,
)
from dupmae.files import read_json
from tests.evaluation.benchmarks.settings import suite_settings
from tests.paths import DATA
from tests.tiny import tiny_retriever

linear_model = pytest.importorskip("sklearn.linear_model")
model_selection = pytest.importorskip("sklearn.model_selection")
FOLDS = 3
# SentEval's regs of InnerKFoldClassifier and SplitClassifier, and of KFoldClassifier.
STRENGTHS = (0.25, 0.5, 1, 2, 4, 8)
TRAIN_TEST_STRENGTHS = (0.5, 1, 2, 4, 8, 16, 32)


def made_up(seed: int, count: int = 60, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = draw.integers(classes, size=count)
    return (draw.normal(size=(count, 4)) + 1.2 * labels[:, None]).astype(np.float32), labels


def fit(x: Any, y: Any, strength: float) -> Any:
    return linear_model.LogisticRegression(C=strength, max_iter=1000).fit(x, y)


def cut(y: Any) -> Any:
    folds = model_selection.StratifiedKFold(FOLDS, shuffle=True, random_state=1111)
    return folds.split(np.zeros((len(y), 1)), y)


def best_strength(x: Any, y: Any, strengths: tuple[float, ...]) -> tuple[float, float]:
    """SentEval's choice: mean accuracy over the folds, rounded to hundredths of a per cent, the first of the best."""
    best = (-1.0, 0.0)
    for strength in strengths:
        accuracies = [100 * fit(x[a], y[a], strength).score(x[b], y[b]) for a, b in cut(y)]
        mean = round(sum(accuracies) / len(accuracies), 2)
        if mean > best[0]:
            best = (mean, strength)
    return best


def test_cross_validation_inside_cross_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STRENGTHS", [0.25, 8.0])
    x, y = made_up(0)
    tests, developments = [], []
    for train, held in cut(y):
        best, strength = best_strength(x[train], y[train], (0.25, 8.0))
        developments.append(best)
        tests.append(100 * fit(x[train], y[train], strength).score(x[held], y[held]))
    found = nested(x, y, FOLDS)
    assert found.test == pytest.approx(sum(tests) / FOLDS)
    assert found.development == pytest.approx(sum(developments) / FOLDS)
    assert 60 < found.test < 100


def test_a_training_and_a_test_part() -> None:
    (x, y), (tx, ty) = made_up(3), made_up(2, 30)
    best, strength = best_strength(x, y, TRAIN_TEST_STRENGTHS)
    # Where the other grid does not reach.
    assert strength > max(STRENGTHS)
    said = fit(x, y, strength).predict(tx)
    found = train_test({"train": csr_array(x), "test": csr_array(tx)}, {"train": y, "test": ty}, FOLDS, f1=True)
    assert (found.test, found.development) == (pytest.approx(100 * np.mean(said == ty)), best)
    right, wrong = int(((said == 1) & (ty == 1)).sum()), int((said != ty).sum())
    assert found.f1 == pytest.approx(100 * 2 * right / (2 * right + wrong))


def test_a_development_part_chooses() -> None:
    (x, y), (dx, dy), (tx, ty) = made_up(3, classes=3), made_up(4, 30, 3), made_up(5, 30, 3)
    accuracies = {c: round(100 * fit(x, y, c).score(dx, dy), 2) for c in STRENGTHS}
    strength = max(accuracies, key=lambda c: (accuracies[c], -c))
    found = split({"train": x, "dev": dx, "test": tx}, {"train": y, "dev": dy, "test": ty})
    assert found.test == pytest.approx(100 * fit(x, y, strength).score(tx, ty))
    assert found.development == accuracies[strength]


def test_of_equal_accuracies_the_first_strength_wins() -> None:
    table = {0.25: 70.0, 0.5: 80.001, 1.0: 80.004, 2.0: 79.0, 4.0: 80.0, 8.0: 60.0}
    assert chosen(table.__getitem__, list(table)) == (80.0, 0.5)


def test_each_protocol_has_sentevals_own_strengths() -> None:
    assert tuple(transfer.STRENGTHS) == STRENGTHS
    assert tuple(transfer.TRAIN_TEST_STRENGTHS) == TRAIN_TEST_STRENGTHS
    parts: dict[str, list[Example]] = {"train": [], "test": []}
    assert fit_count(Task("TREC", parts, (), True), 10) == 7 * 10 + 1
    assert fit_count(Task("MR", {"train": []}, (), True), 10) == 10 * (6 * 10 + 1)
    assert fit_count(Task("SST2", {**parts, "dev": []}, (), True), 10) == 6 + 1


def test_f1_by_hand() -> None:
    # One hit, one false alarm, two misses: 2 / (2 + 1 + 2)
    assert transfer._f1(np.array([1, 1, 1, 0, 0]), np.array([1, 0, 0, 1, 0])) == pytest.approx(40.0)
    assert transfer._f1(np.array([0, 0]), np.array([0, 0])) == 0


@pytest.mark.parametrize("part", ["hybrid", "dense", "sparse"])
def test_a_pair_is_its_difference_and_product(tmp_path: Path, part: Any) -> None:
    texts = ["for statement", "while statement", "if clause"]
    encoded = Texts(tiny_retriever(tmp_path / "retriever"), texts, part)
    pairs = [Example((texts[0], texts[1]), 0), Example((texts[2], texts[2]), 1)]

    def plain(values: Any) -> np.ndarray:
        return values.toarray() if part != "dense" else values

    one, two, three = plain(encoded.features(texts))
    expected = [[*np.abs(one - two), *(one * two)], [*np.zeros_like(three), *(three * three)]]
    np.testing.assert_allclose(plain(features(encoded, pairs)), np.array(expected), rtol=1e-6)


SENTENCES = ["good caf\xe9", "bad", "", "very good thing", "dull and slow"]


def write_senteval(folder: Path) -> None:
    """SentEval's own layout: Latin-1 files by class, tables for the others."""
    for positive, negative in (
        ("rt-polarity.pos", "rt-polarity.neg"),
        ("custrev.pos", "custrev.neg"),
        ("subj.objective", "subj.subjective"),
        ("mpqa.pos", "mpqa.neg"),
    ):
        (folder / positive).write_bytes("\n".join(SENTENCES).encode("latin-1") + b"\n")
        (folder / f"{negative}.gz").write_bytes(gzip.compress("\r\n".join(SENTENCES[:4]).encode("latin-1")))
    (folder / "SST" / "binary").mkdir(parents=True)
    for part in ("train", "dev", "test"):
        rows = [f"{text or 'x'} {n}\t{n % 2}" for n, text in enumerate(SENTENCES * 2)]
        (folder / "SST" / "binary" / f"sentiment-{part}").write_text("\n".join(rows), encoding="utf-8")
    questions = [f"{name}:sub What is {name} {n} ?" for n in range(4) for name in ("DESC", "HUM", "NUM")]
    (folder / "train_5500.label").write_bytes("\n".join([*questions, "LOC:city Where is \xd6 ?"] * 3).encode("latin-1"))
    (folder / "TREC_10.label").write_text("\n".join(questions) + "\n")
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    for part in ("train", "test"):
        rows = [f'{n % 2}\t1\t2\tA "quoted {n}\tB {n}' for n in range(12)]
        text = "\r\n".join([header, *rows])
        (folder / f"msr_paraphrase_{part}.txt").write_bytes(text.encode())


def test_sentevals_own_files(tmp_path: Path) -> None:
    write_senteval(tmp_path)
    settings = suite_settings("senteval-transfer", tmp_path, official=False, folds=2)
    tasks = {task.name: task for task in open_tasks(settings)}
    assert not any(task.official for task in tasks.values())
    assert list(tasks) == list(LAYOUTS)
    counts = {name: {part: len(found) for part, found in task.parts.items()} for name, task in tasks.items()}
    assert counts["MR"] == counts["CR"] == counts["SUBJ"] == counts["MPQA"] == {"train": 9}
    assert counts["SST2"] == {"train": 10, "dev": 10, "test": 10}
    assert counts["TREC"] == {"train": 39, "test": 12}
    assert counts["MRPC"] == {"train": 12, "test": 12}
    # By the number of words, then by class.
    assert [(e.texts[0], e.label) for e in tasks["MR"].parts["train"]][:4] == [("", 0), ("", 1), ("bad", 0), ("bad", 1)]
    assert Example(("good caf\xe9",), 1) in tasks["MR"].parts["train"]
    assert Example(('A "quoted 3', "B 3"), 1) in tasks["MRPC"].parts["train"]
    assert Example(("Where is \xd6 ?",), 4) in tasks["TREC"].parts["train"]


def test_pairs_are_in_the_order_of_both_lengths_then_of_class(tmp_path: Path) -> None:
    pairs = [("1", "a b", "c d e"), ("0", "f g", "h i j"), ("1", "k l", "m"), ("0", "n", "o p q r")]
    rows = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String", *(f"{c}\t1\t2\t{a}\t{b}" for c, a, b in pairs)]
    for part in ("train", "test"):
        (tmp_path / f"msr_paraphrase_{part}.txt").write_text("\n".join(rows))
    settings = suite_settings("senteval-transfer", tmp_path, official=False, folds=2, sets=["MRPC"])
    (task,) = open_tasks(settings)
    assert [example.texts[0] for example in task.parts["train"]] == ["n", "k l", "f g", "a b"]


def test_tables_with_the_label_in_front(tmp_path: Path) -> None:
    (tmp_path / "custrev.all").write_text("1 i like it\n0 \n0 no\n" + "0 not at all good\n1 this is really fine\n" * 3)
    (tmp_path / "TREC.train.all").write_bytes(b"0 who ?\n5 how many ?\n" * 2)
    (tmp_path / "TREC.test.all").write_bytes(b"0 who ?\n5 how much ?")
    settings = suite_settings("senteval-transfer", tmp_path, official=False, sets=["CR", "TREC"], folds=2)
    review, question = open_tasks(settings)
    assert review.parts["train"][:3] == [Example(("",), 0), Example(("no",), 0), Example(("i like it",), 1)]
    assert question.parts["test"] == [Example(("who ?",), 0), Example(("how much ?",), 5)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("custrev.all", "good\n", "line 1: needs a sentence and the number of its class"),
        ("custrev.all", "1 good\n", "CR has fewer than two classes"),
        ("custrev.all", "1 good\n0 bad\n", r"custrev\.all: CR has 2 examples to train, officially 3,775"),
        ("none", "", r"has no custrev\.pos, no custrev\.neg \(CR reads"),
    ],
)
def test_damaged_and_partial_files_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    settings = suite_settings("senteval-transfer", tmp_path, sets=["CR"], official="officially" in message)
    with pytest.raises(DupmaeError, match=message):
        open_tasks(settings)


@pytest.mark.parametrize(("folds", "least"), [(10, 12), (3, 5), (2, 4)])
def test_a_class_too_small_for_the_folds_is_refused(tmp_path: Path, folds: int, least: int) -> None:
    """As many as are needed go through every fold of every fold."""
    settings = suite_settings("senteval-transfer", tmp_path, sets=["MR"], official=False, folds=folds)
    labels = np.array([0] * least + [1] * (least + 1))
    for count in (least - 1, least):
        (tmp_path / "rt-polarity.neg").write_text("bad\n" * count)
        (tmp_path / "rt-polarity.pos").write_text("good\n" * (least + 1))
        if count == least:
            assert len(open_tasks(settings)) == 1
            continue
        message = f"folds: {folds} folds need {least} training examples of each class, MR has {count} of class 0"
        with pytest.raises(DupmaeError, match=message):
            open_tasks(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nested(labels[:, None].astype(np.float32), labels, folds).test == 100


def test_whole_data_is_official_whatever_was_asked_for(tmp_path: Path) -> None:
    (tmp_path / "TREC.train.all").write_text("0 who ?\n5 how many ?\n" * 2726)
    (tmp_path / "TREC.test.all").write_text("0 who ?\n5 how much ?\n" * 250)
    (task,) = open_tasks(suite_settings("senteval-transfer", tmp_path, sets=["TREC"], official=False))
    assert task.official


def test_all_seven_tasks_from_files_to_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STRENGTHS", "TRAIN_TEST_STRENGTHS"):
        monkeypatch.setattr(transfer, name, [0.25, 8.0])
    (tmp_path / "data").mkdir()
    write_senteval(tmp_path / "data")
    retriever = tiny_retriever(tmp_path / "retriever")
    settings = suite_settings("senteval-transfer", tmp_path / "data", official=False, folds=2)
    result = evaluate_transfer(settings, open_transfer(settings), retriever, tmp_path / "out")
    assert list(result["metrics"]) == [*LAYOUTS, "mean of 7"]
    assert result["metrics"]["mean of 7"] == pytest.approx(sum(result["metrics"][name] for name in LAYOUTS) / 7)
    assert "f1" in result["tasks"]["MRPC"]
    assert result["notes"] == ["SST2: trained on phrases and sentences, as SentEval does"]
    assert read_json(tmp_path / "out" / "metrics.json") == result
    monkeypatch.setattr(transfer, "_measured", None)
    assert evaluate_transfer(settings, open_transfer(settings), retriever, tmp_path / "out") == result


@pytest.mark.skipif(not (DATA / "senteval").is_dir(), reason="needs the SentEval files")
def test_the_official_files_have_the_official_counts() -> None:
    assert len(open_tasks(suite_settings("senteval-transfer", DATA))) == 7
