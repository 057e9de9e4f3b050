"""The planned time of a suite: what is measured, what is reckoned from it, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dupmae.errors import DupmaeError
from dupmae.settings import PlanSuite
from dupmae.stages import plan_benchmark as module
from dupmae.stages.plan_benchmark import plan_suite
from dupmae.training.flops import Shape, Texts, encoder_forward, vocabulary_forward
from tests.evaluation.benchmarks.folders import msmarco, msmarco_documents
from tests.tiny import tiny_retriever


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    tiny_retriever(folder / "retriever")
    msmarco(folder / "data")
    msmarco_documents(folder / "documents")
    return folder


def settings(folder: Path, **given: Any) -> PlanSuite:
    values = {"suite": "msmarco-passage", "retriever": folder / "retriever", "data": folder / "data", "sample": 40}
    return PlanSuite.model_validate({**values, **given})


def test_the_whole_is_reckoned_from_the_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHED", 100)
    here = plan_suite(settings(folder))
    assert (here.passages, here.queries, here.encoding_source) == (8_841_823, 6_980, "measured")
    assert here.tokenising_hours > 0
    assert here.encoding_hours > 0
    assert 0 < here.searching_hours < 100
    assert here.cost is None
    # Dense and sparse parts, ids and texts: more than the texts alone.
    assert here.bytes / here.passages > 400
    there = plan_suite(settings(folder, gpu="a100", count=2, utilisation=1e-6, price=3))
    assert there.encoding_hours == pytest.approx(there.flops / (2 * 312e12 * 1e-6) / 3600)
    assert there.cost == pytest.approx(3 * 2 * there.encoding_hours)
    assert there.encoding_source == "peak published, 0% of it given"
    # The tokeniser cannot keep up with a GPU at work on so small a model.
    assumed = plan_suite(settings(folder, gpu="h100"))
    assert assumed.encoding_hours == assumed.tokenising_hours
    assert "40% of it assumed" in assumed.encoding_source


def test_work_is_that_of_the_encoder_and_the_vocabulary(folder: Path) -> None:
    from dupmae.retriever.model import Retriever

    shape, texts = Shape(1, 16, 64, Retriever.load(folder / "retriever").vocabulary), Texts.of([7, 20])
    expected = encoder_forward(shape, texts) + vocabulary_forward(shape, 23)
    assert module._flops(Retriever.load(folder / "retriever"), [7, 20]) == pytest.approx(expected)


def test_passages_of_documents_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEARCHED", 100)
    found = plan_suite(
        settings(folder, suite="msmarco-document", data=folder / "documents", sample=20, passage_words=50)
    )
    assert 3_213_835 < found.passages < 10 * 3_213_835


def test_what_cannot_be_planned_is_refused(folder: Path) -> None:
    with pytest.raises(DupmaeError, match="has 40 of 1,000 passages"):
        plan_suite(settings(folder, sample=1000))
    with pytest.raises(ValueError, match="gpu=cpu is measured"):
        settings(folder, utilisation=0.5)
    with pytest.raises(ValueError, match="of which there is one"):
        settings(folder, count=2)
