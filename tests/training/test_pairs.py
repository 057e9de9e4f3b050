"""What never is a negative: other positives, copies of them, answers to the same question; and parts of a batch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dupmae.errors import DupmaeError
from dupmae.files import write_text
from dupmae.shards.tokenizers import load_tokenizer
from dupmae.training.pairs import FinetuningSteps, HardNegatives, PairData, read_pair_data
from tests.reference.tiny import sentences, tiny_folder

TEXTS = sentences(30)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("pairs") / "model")


def copies() -> PairData:
    """Passages 0 to 9 are there twice, the second time with other white space; queries 0 and 1 are the same."""
    passages = [*TEXTS[:10], *(f" {text.replace(' ', '  ')}" for text in TEXTS[:10]), *TEXTS[10:]]
    queries = ["who reads", "who  reads ", *(text[:20] for text in TEXTS[2:10])]
    return PairData(passages, queries, [[n] for n in range(10)], [[n + 10, 20, 21, 22] for n in range(10)])


def test_copies_and_answers_to_the_same_question() -> None:
    answers = copies().answers
    assert answers.among(0, range(30)).nonzero()[0].tolist() == [0, 1, 10, 11]
    assert answers.among(1, range(30)).nonzero()[0].tolist() == [0, 1, 10, 11]
    assert answers.among(5, range(30)).nonzero()[0].tolist() == [5, 15]
    assert answers.removed(5, [15, 4, 5, 20]) == [4, 20]


@pytest.mark.parametrize("given", [True, False])
def test_no_hard_negative_answers_its_query(given: bool) -> None:
    data = copies()
    if not given:
        data = PairData(data.passages, data.queries, data.positives, [[] for _ in data.queries])
    found = HardNegatives(data, 6).of(range(10), range(10))
    for query, candidates in enumerate(found):
        assert 0 < len(candidates) <= 6
        assert not data.answers.among(query, candidates).any()
        if given:
            assert candidates == [20, 21, 22]


def steps_of(data: PairData, model: Path, prefixes: tuple[str, str] = ("", "")) -> FinetuningSteps:
    return FinetuningSteps(
        data,
        HardNegatives(data, 3),
        load_tokenizer(model),
        steps=20,
        batch_size=7,
        per_query=2,
        lengths=(24, 48),
        seed=0,
        prefixes=prefixes,
    )


def texts(item: dict[str, torch.Tensor], side: str, model: Path) -> list[str]:
    return [
        str(load_tokenizer(model).decode(ids[ok], skip_special_tokens=True))
        for ids, ok in zip(item[f"{side}_ids"], item[f"{side}_valid"], strict=True)
    ]


def test_copies_in_a_batch_are_ignored(model: Path) -> None:
    data = copies()
    steps = steps_of(data, model)
    item = steps[0]
    shown = texts(item, "passage", model)
    for row, query in enumerate(steps._queries(0)):
        answers = {" ".join(data.passages[place].split()) for place in ((0, 1) if query < 2 else (query,))}
        expected = [text in answers and column != row for column, text in enumerate(shown)]
        assert item["ignored"][row].tolist() == expected


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_have_the_rows_of_the_whole(model: Path, parts: int) -> None:
    steps = steps_of(copies(), model)
    whole, dealt = steps[3], [steps.part(3, part, parts) for part in range(parts)]
    items = [item for item in dealt if item is not None]
    assert len(items) == parts
    assert [text for item in items for text in texts(item, "query", model)] == texts(whole, "query", model)
    columns = [text for item in items for text in texts(item, "passage", model)]
    wanted = texts(whole, "passage", model)
    assert sorted(columns) == sorted(wanted)
    row = 0
    for item in items:
        assert columns[int(item["start"]) :][: len(item["passage_ids"])] == texts(item, "passage", model)
        for target, ignored in zip(item["targets"], item["ignored"], strict=True):
            assert columns[target] == wanted[whole["targets"][row]]
            left = sorted(text for text, out in zip(columns, ignored, strict=True) if not out)
            assert left == sorted(text for text, out in zip(wanted, whole["ignored"][row], strict=True) if not out)
            row += 1


def test_more_parts_than_queries(model: Path) -> None:
    steps = steps_of(copies(), model)
    dealt = [steps.part(0, part, 9) for part in range(9)]
    assert [item is None for item in dealt] == [False] * 7 + [True] * 2


def test_negatives_are_drawn_anew_each_epoch(model: Path) -> None:
    steps = steps_of(copies(), model)
    drawn = {}
    for step in range(20):
        for query, passages in zip(steps._queries(step), steps._passages(step, steps._queries(step)), strict=True):
            drawn.setdefault(query, []).append(tuple(passages[1:]))
    assert all(len(set(found)) > 1 for found in drawn.values())
    assert {place for found in drawn.values() for pair in found for place in pair} == {20, 21, 22}


def test_prefixes_stand_in_front(model: Path) -> None:
    plain, prefixed = (steps_of(copies(), model, prefixes)[0] for prefixes in (("", ""), ("the file ", "a table ")))
    for side, prefix in (("query", "the file "), ("passage", "a table ")):
        longer = [prefix + text for text in texts(plain, side, model)]
        assert [a.startswith(b[:30]) for a, b in zip(texts(prefixed, side, model), longer, strict=True)] == [
            True
        ] * len(longer)


def test_given_negatives_by_id(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for name, found in (("corpus", TEXTS), ("queries", TEXTS[:3])):
        lines = (json.dumps({"_id": f"{name[0]}{n}", "text": text}) + "\n" for n, text in enumerate(found))
        write_text(folder / f"{name}.jsonl", "".join(lines))
    write_text(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore\nq0\tc0\t1\nq1\tc1\t1\n")
    write_text(tmp_path / "triples.tsv", "q0\tc0\tc7\nq1\tc1\tc8\nq0\tc0\tc9\n")
    data = read_pair_data(folder, tmp_path / "triples.tsv")
    assert data.passages == [TEXTS[place] for place in (0, 1, 7, 8, 9)]
    assert data.negatives == [[2, 4], [3]]
    assert len(read_pair_data(folder).passages) == 30
    write_text(tmp_path / "triples.tsv", "q0\tc0\tc99\n")
    with pytest.raises(DupmaeError, match="unknown passage c99"):
        read_pair_data(folder, tmp_path / "triples.tsv")


def test_bm25_without_a_word_in_common_says_so(caplog: pytest.LogCaptureFixture) -> None:
    data = PairData(["😀", "😀😀", "ok ok"], ["👍", "👍👍"], [[0], [1]], [[], []])
    with caplog.at_level("WARNING", "dupmae"):
        assert HardNegatives(data, 2).of([0, 1], [0, 1]) == [[], []]
    assert "BM25 finds no passage for 2 of 2 queries" in caplog.text
