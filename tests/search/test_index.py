"""`Index` with a real retriever: hits, shares and words, files and their retriever, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from dupmae.corpus.beir import read_corpus
from dupmae.errors import DupmaeError
from dupmae.retriever.model import Retriever
from dupmae.search.index import Index
from dupmae.settings import Index as Settings
from dupmae.stages.index import build
from tests.search.vectors import WordEncoder
from tests.tiny import beir_folder, call, documents, tiny_retriever

QUERY = "the definition of a class object"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder: data, retriever, index."""
    folder = tmp_path_factory.mktemp("run")
    beir_folder(folder / "data")
    tiny_retriever(folder / "retriever")
    build(Settings(retriever=folder / "retriever", data=folder / "data", out=folder / "index"))
    return folder


def test_hits_are_the_best_by_the_scores_of_the_vectors(run: Path) -> None:
    retriever, passages = Retriever.load(run / "retriever"), read_corpus(run / "data")
    scores = retriever.score(
        retriever.encode_queries([QUERY]), retriever.encode_passages([passage.content for passage in passages])
    )[0]
    hits = Index.open(run / "index").search(QUERY, k=5)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
    by_id = {passage.id: place for place, passage in enumerate(passages)}
    # The index rounds vectors to float16.
    assert [hit.score for hit in hits] == pytest.approx([scores[by_id[hit.id]] for hit in hits], rel=2e-3)
    assert hits[0].score == pytest.approx(scores.max(), rel=2e-3)
    for hit in hits:
        assert (hit.title, hit.text) == (passages[by_id[hit.id]].title, passages[by_id[hit.id]].text)


def test_shares_and_words_add_up(run: Path) -> None:
    index = Index.open(run)
    for hit in index.search(QUERY, weights=(0.5, 2)):
        assert hit.score == pytest.approx(hit.dense + hit.sparse, abs=1e-3)
        assert sum(word.weight for word in hit.words) == pytest.approx(hit.sparse, abs=1e-3)
        weights = [word.weight for word in hit.words]
        assert weights == sorted(weights, reverse=True)
        assert all(word.token in index.retriever.tokenizer.get_vocab() for word in hit.words)
        explained = index.explain(QUERY, hit.id, weights=(0.5, 2))
        assert (explained.dense, explained.sparse, explained.words) == (hit.dense, hit.sparse, hit.words)
        json.dumps(hit.as_dict())


def test_one_query_or_many(run: Path) -> None:
    index = Index.open(run)
    one, other = (index.search(query, k=3) for query in (QUERY, "lambda"))
    assert index.search([QUERY, "lambda"], k=3) == [one, other]
    assert index.search([], k=3) == []
    ranked = index.run({"a": QUERY}, k=3)
    assert list(ranked["a"].items()) == [(hit.id, hit.score) for hit in one]
    assert len(index.search(QUERY, k=1000)) == len(documents()) == len(index)


def test_the_run_folder_stands_for_its_index_and_can_be_moved(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Index.open(run / "index").search(QUERY)
    assert Index.open(run).search(QUERY) == expected
    shutil.copytree(run, tmp_path / "moved")
    assert Index.open(tmp_path / "moved").search(QUERY) == expected
    monkeypatch.chdir(tmp_path / "moved" / "index")
    assert Index.open(".").search(QUERY) == expected


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_found_is_an_empty_list(run: Path, text: str) -> None:
    index = Index.open(run)
    assert index.search(text) == []
    assert index.search([text, text]) == [[], []]
    assert index.search(QUERY, threshold=1e9) == []


def test_a_query_of_unknown_words_is_answered_with_a_warning(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("search", run, "漢字 仮名", "--k", 3, "--json") == 0
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["hits"]) == 3
    assert "knows no word" in printed.err


def test_a_sparse_retriever_leaves_out_what_shares_no_word(tmp_path: Path) -> None:
    encoder = WordEncoder(dimensions=0)
    index = Index.build(encoder, ["one two", "three", "two two"])
    assert [hit.id for hit in index.search("two")] == ["2", "0"]
    assert index.search("nothing") == []


def test_a_dense_retriever_has_no_words(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever", kind="cls")
    hits = Index.build(retriever, documents(5)).search(QUERY)
    assert len(hits) == 5
    assert all(not hit.words and hit.sparse == 0 for hit in hits)


def test_a_threshold_applies_to_the_total(run: Path) -> None:
    index = Index.open(run)
    hits = index.search(QUERY, k=10)
    assert index.search(QUERY, k=10, threshold=hits[3].score) == hits[:4]


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
        Index.open(tmp_path / "run").search(QUERY)
    with pytest.raises(DupmaeError, match="has changed since the index was built"):
        Index.open(run / "index", other)


def test_a_retriever_that_is_gone_or_was_never_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "index", tmp_path / "index")
    with pytest.raises(DupmaeError, match=r"the retriever that built the index is gone: .*retriever"):
        Index.open(tmp_path).search(QUERY)
    assert Index.open(tmp_path, Retriever.load(run / "retriever")).search(QUERY) == Index.open(run).search(QUERY)
    with pytest.raises(DupmaeError, match="does not name its retriever"):
        Index.from_vectors(["a"], [WordEncoder().encode_queries(["a"])], dimensions=4, vocabulary=50).search("a")


def test_an_index_never_replaces_its_retriever(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "run" / "retriever")
    for out in (tmp_path / "run" / "retriever", tmp_path / "run"):
        with pytest.raises(DupmaeError, match="would replace its own retriever"):
            Index.build(retriever, documents(5), path=out)
    Retriever.load(tmp_path / "run" / "retriever")


def test_an_unsaved_retriever_indexes_in_memory_alone(tmp_path: Path) -> None:
    retriever = tiny_retriever(tmp_path / "retriever")
    retriever.folder = None
    assert len(Index.build(retriever, ["a text"])) == 1
    with pytest.raises(DupmaeError, match="call save first"):
        Index.build(retriever, ["a text"], path=tmp_path / "index")


def test_a_jsonl_of_passages_is_indexed(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    file.write_text("".join(json.dumps({"id": n, "text": f"passage number {n}"}) + "\n" for n in range(3)))
    index = build(Settings(retriever=run / "retriever", data=file, out=tmp_path / "index"))
    assert sorted(hit.id for hit in index.search("number", k=9)) == ["0", "1", "2"]
    assert repr(index) == f"Index({tmp_path / 'index'}, 3 passages, 1 segments, version 1)"
