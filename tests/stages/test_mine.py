"""Mining: the best passages of the whole corpus, whatever the blocks; positives and their copies never."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from dupmae.corpus.beir import Passage, write_beir
from dupmae.corpus.negatives import MinedQuery, read_mined, write_scores
from dupmae.corpus.training_data import TrainingData, open_training
from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.search.bm25 import BM25
from dupmae.settings import Mine
from dupmae.stages.mine import mine
from dupmae.training.candidates import Found, best_negatives
from tests.reference.tiny import sentences
from tests.tiny import call, tiny_retriever

TEXTS = sentences(60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder with copies of positives, of others, and blank passages; and a retriever."""
    folder = tmp_path_factory.mktemp("mining")
    passages = [Passage(f"d{n}", "", text) for n, text in enumerate(TEXTS)]
    passages += [Passage(f"copy{n}", "", f" {TEXTS[n]}  ") for n in range(0, 60, 3)] + [Passage("blank", "", " ")]
    queries = {f"q{n}": " ".join(TEXTS[n].split()[:5]) for n in range(20)}
    qrels = {f"q{n}": {f"d{n}": 1, **({f"d{n + 1}": 1} if n % 4 == 0 else {})} for n in range(20)}
    write_beir(folder / "data", passages, queries, {"train": qrels})
    tiny_retriever(folder / "retriever", texts=TEXTS)
    tiny_retriever(folder / "words", "bow", texts=TEXTS)
    return folder


def mined(folder: Path, out: Path, **changes: Any) -> list[MinedQuery]:
    done = mine(Mine.model_validate({"data": folder / "data", "out": out, "depth": 10, **changes}))
    found = list(read_mined(done.file))
    counts = [len(item.negatives) for item in found]
    assert (done.queries, done.negatives, done.without) == (len(found), sum(counts), counts.count(0))
    return found


def contents(folder: Path) -> dict[str, str]:
    return {passage.id: passage.content for _, passage in open_training(folder / "data").passages()}


@pytest.mark.parametrize("retriever", [None, "retriever", "words"])
def test_positives_and_copies_are_never_mined(retriever: str | None, folder: Path, tmp_path: Path) -> None:
    texts = contents(folder)
    found = mined(folder, tmp_path / "out", retriever=retriever and folder / retriever, depth=79)
    assert [item.query for item in found] == [f"q{n}" for n in range(20)]
    for item in found:
        answers = {texts[name] for name in item.positives}
        mined_texts = [texts[name] for name in item.negatives]
        assert not answers & set(mined_texts)
        assert len(set(mined_texts)) == len(mined_texts)
        assert "blank" not in item.negatives
        assert item.scores == sorted(item.scores, reverse=True)
        if retriever == "retriever":
            assert set(mined_texts) == set(TEXTS) - answers


@pytest.mark.parametrize("retriever", [None, "retriever"])
def test_blocks_do_not_matter(retriever: str | None, folder: Path, tmp_path: Path) -> None:
    whole, *others = (
        mined(folder, tmp_path / str(block), retriever=retriever and folder / retriever, block=block)
        for block in (1000, 1, 7, 40)
    )
    assert all(len(item.negatives) == 10 for item in whole)
    for other in others:
        assert [item.negatives for item in other] == [item.negatives for item in whole]
        np.testing.assert_allclose([item.scores for item in other], [item.scores for item in whole], rtol=1e-5)


def test_bm25_mines_what_bm25_finds(folder: Path, tmp_path: Path) -> None:
    data = open_training(folder / "data")
    passages = [passage for _, passage in data.passages()]
    texts = {passage.id: passage.content for passage in passages}
    positions, scores = BM25(list(texts.values())).search(list(data.queries.values()), len(passages))
    for row, item in enumerate(mined(folder, tmp_path / "out")):
        answers = {texts[name] for name in item.positives}
        ranked: dict[str, tuple[str, float]] = {}
        for place, score in zip(positions[row], scores[row], strict=True):
            passage = passages[place]
            if place >= 0 and passage.content not in answers:
                ranked.setdefault(passage.content, (passage.id, float(score)))
        expected = list(ranked.values())[:10]
        assert item.negatives == [name for name, _ in expected]
        np.testing.assert_allclose(item.scores, [score for _, score in expected], rtol=1e-5)


class FixedRanker:
    """Ranks by given scores, one row a query and one column a text."""

    def __init__(self, texts: list[str], scores: np.ndarray) -> None:
        self._column, self._scores = {text: place for place, text in enumerate(texts)}, scores

    def count(self, passages: Any) -> None:
        pass

    def rank(self, passages: Any, k: int) -> Found:
        scores = self._scores[:, [self._column[passage.content] for passage in passages]]
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return order.astype(np.int64), np.take_along_axis(scores, order, 1).astype(np.float32)


@examples(max_examples=80, deadline=None)
@given(st.data())
def test_any_corpus_any_block(data: st.DataObject) -> None:
    texts = ["a", "b", "c", "d", "e", "f", "g"]
    chosen = data.draw(st.lists(st.sampled_from(texts), min_size=1, max_size=14))
    passages = [Passage(str(place), "", text) for place, text in enumerate(chosen)]
    place = st.integers(0, len(chosen) - 1)
    positives = [data.draw(st.lists(place, min_size=1, max_size=3, unique=True)) for _ in range(3)]
    scores = np.array([data.draw(st.permutations(range(7))) for _ in range(3)], dtype=np.float32)
    depth, block = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 15))
    training = TrainingData(
        {str(query): "?" for query in range(3)},
        {str(query): [str(place) for place in found] for query, found in enumerate(positives)},
        {},
        lambda: enumerate(passages, 1),
        Path("corpus"),
    )
    found = best_negatives(training, FixedRanker(texts, scores), depth, block=block)
    for query in range(3):
        answers = {chosen[place] for place in positives[query]}
        first = {text: str(chosen.index(text)) for text in set(chosen) - answers}
        expected = sorted(first, key=lambda text: -scores[query][texts.index(text)])[:depth]
        names, values = found.of(query)
        assert names == [first[text] for text in expected]
        assert values == [scores[query][texts.index(text)] for text in expected]


def test_a_margin_leaves_what_the_teacher_finds_far_worse(folder: Path, tmp_path: Path) -> None:
    before = mined(folder, tmp_path / "before")
    scores = {
        item.query: dict.fromkeys(item.positives, 5.0) | {name: 5.0 - rank for rank, name in enumerate(item.negatives)}
        for item in before
    }
    scores["q4"]["d5"] = 3.0
    write_scores(tmp_path / "scores.jsonl", scores.items())
    after = mined(folder, tmp_path / "after", scores=tmp_path / "scores.jsonl", margin=3.0)
    for old, new in zip(before, after, strict=True):
        first = 5 if old.query == "q4" else 3
        assert new.negatives == old.negatives[first:]
        assert new.scores == old.scores[first:]
    assert len(mined(folder, tmp_path / "none", scores=tmp_path / "scores.jsonl", margin=50)[0].negatives) == 0


def test_a_pair_without_a_score_is_named(folder: Path, tmp_path: Path) -> None:
    before = mined(folder, tmp_path / "before")
    scores = {item.query: dict.fromkeys([*item.positives, *item.negatives], 1.0) for item in before}
    missing = before[7].negatives[2]
    del scores["q7"][missing]
    write_scores(tmp_path / "scores.jsonl", scores.items())
    with pytest.raises(DupmaeError, match=rf"scores\.jsonl: no score of query q7 and passage {missing}"):
        mined(folder, tmp_path / "after", scores=tmp_path / "scores.jsonl")
    assert not (tmp_path / "after" / "negatives.jsonl").exists()


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", folder / "data", "--retriever", folder / "retriever", "--out", tmp_path / "out", "depth=3"]
    assert call("mine", *words, "--json", "--quiet") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["queries"] == 20
    assert told["negatives"] == 60
    assert Path(told["file"]).is_file()


def spoilt(folder: Path, tmp_path: Path, name: str, change: Any) -> str:
    """The one line of a command on a data set one of whose files was changed."""
    for file in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv"):
        text = (folder / "data" / file).read_text()
        write_text(tmp_path / "data" / file, change(text) if file == name else text)
    assert call("mine", "--data", tmp_path / "data", "--out", tmp_path / "out", "--quiet") == 2
    assert not (tmp_path / "out").exists()
    return str(tmp_path / "data" / name)


FAULTS = [
    ("qrels/train.tsv", lambda text: text + "q1\tnowhere\t1\n", ", line 27: unknown passage nowhere"),
    ("qrels/train.tsv", lambda text: text + "nobody\td1\t1\n", ", line 27: unknown query nobody"),
    ("corpus.jsonl", lambda text: text.replace(TEXTS[3], " ", 1), ", line 4: passage d3 is blank"),
    ("corpus.jsonl", lambda text: text.replace('"copy9"', '"copy6"'), ", line 64: duplicate id copy6"),
]


@pytest.mark.parametrize(("name", "change", "told"), FAULTS)
def test_faults_have_file_and_line(
    name: str, change: Any, told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = spoilt(folder, tmp_path, name, change)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"dupmae: {file}{told}")
