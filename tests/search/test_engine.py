from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from dupmae.corpus.beir import read_corpus
from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.search.engine import Searcher, index_passages
from dupmae.search.index import HybridIndex
from dupmae.settings import Index
from dupmae.stages.index import build
from tests.tiny import beir_folder, documents, tiny_retriever

QUERY = "the definition of a class object"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: data, retriever, index."""
    folder = tmp_path_factory.mktemp("run")
    beir_folder(folder / "data")
    tiny_retriever(folder / "retriever")
    build(Index(retriever=folder / "retriever", data=folder / "data", out=folder / "index"))
    return folder


def test_hits_are_the_best_by_the_scores_of_the_vectors(run: Path) -> None:
    retriever, passages = Retriever.load(run / "retriever"), read_corpus(run / "data")
    scores = retriever.score(
        retriever.encode_queries([QUERY]), retriever.encode_passages([passage.content for passage in passages])
    )[0]
    hits = Searcher.open(run / "index").search(QUERY, k=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    by_id = {passage.id: place for place, passage in enumerate(passages)}
    # The index rounds vectors to float16.
    assert [hit.score for hit in hits] == pytest.approx([scores[by_id[hit.id]] for hit in hits], rel=2e-3)
    assert hits[0].score == pytest.approx(scores.max(), rel=2e-3)
    for hit in hits:
        assert (hit.title, hit.text) == (passages[by_id[hit.id]].title, passages[by_id[hit.id]].text)


def test_shares_and_words_add_up(run: Path) -> None:
    searcher = Searcher.open(run)
    for hit in searcher.search(QUERY):
        assert hit.score == pytest.approx(hit.dense + hit.sparse, abs=1e-3)
        assert sum(value for _, value in hit.words) == pytest.approx(hit.sparse, abs=1e-3)
        values = [value for _, value in hit.words]
        assert values == sorted(values, reverse=True)
        assert all(word in searcher.retriever.tokenizer.get_vocab() for word, _ in hit.words)
        json.dumps(hit.as_dict())


def test_the_run_folder_stands_for_its_index(run: Path) -> None:
    assert Searcher.open(run).search(QUERY) == Searcher.open(run / "index").search(QUERY)


def test_a_run_can_be_moved_as_a_whole(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run, tmp_path / "moved")
    assert Searcher.open(tmp_path / "moved").search(QUERY) == Searcher.open(run).search(QUERY)
    monkeypatch.chdir(tmp_path / "moved" / "index")
    assert Searcher.open(".").search(QUERY) == Searcher.open(run).search(QUERY)


def test_more_hits_than_passages(run: Path) -> None:
    assert len(Searcher.open(run).search(QUERY, k=1000)) == len(documents())


@pytest.mark.parametrize("text", ["", "  \n", "​"])
def test_an_empty_query_is_refused(run: Path, text: str) -> None:
    with pytest.raises(DupmaeError, match="the query is empty"):
        Searcher.open(run).search(text)


def test_a_query_of_unknown_words_is_answered_with_a_warning(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="dupmae"):
        assert len(Searcher.open(run).search("漢字 仮名", k=3)) == 3
    assert "knows no word" in caplog.text


def test_a_sparse_retriever_says_that_nothing_matches(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever", kind="bow")
    retriever.encoder.threshold.data.fill_(1e6)
    retriever.save(tmp_path / "retriever")
    index_passages(tmp_path / "index", retriever, documents(5))
    with pytest.raises(DupmaeError, match="no passage shares a word with the query"):
        Searcher.open(tmp_path).search("漢字")


def test_a_dense_retriever_has_no_words(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever", kind="cls")
    index_passages(tmp_path / "index", retriever, documents(5))
    hits = Searcher.open(tmp_path).search(QUERY)
    assert len(hits) == 5
    assert all(not hit.words and hit.sparse == 0 for hit in hits)


@pytest.mark.parametrize("name", ["representation.json", "tokenizer.json", "model.safetensors"])
def test_a_changed_retriever_is_refused(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    other = tiny_retriever(tmp_path / "other", texts=["other words make another vocabulary altogether"] * 9)
    assert other.folder is not None
    if name == "representation.json":
        file = tmp_path / "run" / "retriever" / name
        file.write_text(file.read_text().replace('"query_length": 16', '"query_length": 8'))
    elif name == "tokenizer.json":
        shutil.copy(other.folder / name, tmp_path / "run" / "retriever" / name)
        (tmp_path / "run" / "retriever" / ".dupmae").unlink()
    else:
        shutil.rmtree(tmp_path / "run" / "retriever")
        shutil.copytree(other.folder, tmp_path / "run" / "retriever")
    with pytest.raises(DupmaeError, match=f"has changed since the index was built: .*{name}.*`dupmae index`"):
        Searcher.open(tmp_path / "run")


def test_a_retriever_that_is_gone(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "index")
    with pytest.raises(DupmaeError, match=r"settings\.json: the retriever that built the index is gone: .*retriever"):
        Searcher.open(tmp_path)


def test_an_index_without_a_retriever(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / "index" / "settings.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"retriever": {}}))
    with pytest.raises(DupmaeError, match="does not name the retriever"):
        Searcher.open(tmp_path / "run")


def test_an_index_never_replaces_its_retriever(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "run" / "retriever")
    for out in (tmp_path / "run" / "retriever", tmp_path / "run"):
        with pytest.raises(DupmaeError, match="would replace its own retriever"):
            index_passages(out, retriever, documents(5))
    Retriever.load(tmp_path / "run" / "retriever")


def test_a_jsonl_of_passages_is_indexed(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    file.write_text("".join(json.dumps({"id": n, "text": f"passage number {n}"}) + "\n" for n in range(3)))
    index = build(Index(retriever=run / "retriever", data=file, out=tmp_path / "index"))
    assert isinstance(index, HybridIndex)
    assert [hit.id for hit in Searcher.open(tmp_path / "index").search("number", k=9)]
    assert index.ids == ["0", "1", "2"]
