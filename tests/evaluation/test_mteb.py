"""mteb evaluates a retriever on a local task, with the ranking that the index gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mteb
import pytest
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata

from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import evaluate
from dupmae.evaluation.mteb import MtebRetriever
from dupmae.search.index import Index
from tests.tiny import documents, tiny_retriever

PASSAGES = documents(30)
QUERIES = {f"q-{passage.id}": " ".join(passage.text.split()[:6]) for passage in PASSAGES}
QRELS = {f"q-{passage.id}": {passage.id: 1} for passage in PASSAGES}


class Topics(AbsTaskRetrieval):
    """The language reference of the interpreter: a topic's first words should find it."""

    metadata = TaskMetadata(
        name="Topics",
        description="first words of a topic of the language reference",
        dataset={"path": "local", "revision": "1"},
        type="Retrieval",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
    )

    def load_data(self, *given: Any, **named: Any) -> None:
        rows = [{"id": passage.id, "title": passage.title, "text": passage.text} for passage in PASSAGES]
        queries = [{"id": name, "text": text} for name, text in QUERIES.items()]
        split = {
            "corpus": Dataset.from_list(rows),
            "queries": Dataset.from_list(queries),
            "relevant_docs": QRELS,
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def test_a_local_task_gives_our_own_figures(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever")
    result = mteb.evaluate(MtebRetriever(retriever), Topics(), cache=None)
    (scores,) = result.task_results[0].scores["test"]
    run = Index.build(retriever, PASSAGES).run(QUERIES, 100)
    expected = evaluate(QRELS, run, ["ndcg@10", "recall@100"])
    assert scores["ndcg_at_10"] == pytest.approx(expected["ndcg@10"], abs=1e-4)
    assert scores["recall_at_100"] == pytest.approx(expected["recall@100"], abs=1e-4)
    assert result.model_name == "dupmae/retriever"


def test_reranking_looks_at_the_given_passages_alone(tmp_path: Path) -> None:
    wrapped = MtebRetriever(tiny_retriever(tmp_path / "retriever"))
    rows = [{"id": passage.id, "text": passage.text} for passage in PASSAGES]
    with pytest.raises(ValueError, match="index a corpus"):
        wrapped.search([], top_k=3)
    wrapped.index(rows)
    asked = [{"id": "q", "text": "how are objects compared"}]
    (everything,) = wrapped.search(asked, top_k=30).values()
    allowed = [passage.id for passage in PASSAGES[5:15]]
    (some,) = wrapped.search(asked, top_k=3, top_ranked={"q": allowed}).values()
    assert list(some.items()) == [item for item in everything.items() if item[0] in allowed][:3]


def test_other_weights_have_another_revision(tmp_path: Path) -> None:
    left = MtebRetriever(tiny_retriever(tmp_path / "a" / "retriever")).mteb_model_meta
    right = MtebRetriever(tiny_retriever(tmp_path / "b" / "retriever", texts=["other text"] * 3)).mteb_model_meta
    assert (left.name, left.revision != right.revision) == (right.name, True)


def test_an_unsaved_retriever_is_refused(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever")
    retriever.folder = None
    with pytest.raises(DupmaeError, match="call save first"):
        MtebRetriever(retriever)
