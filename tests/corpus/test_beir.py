from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.corpus.beir import Passage, load_split, read_corpus, read_qrels, read_queries, write_beir
from dupmae.corpus.training_data import open_training
from dupmae.errors import DupmaeError
from tests.paths import DATA

CORPUS = '{"_id": "d1", "title": "Tea", "text": "green"}\n{"_id": "d2", "text": "black tea"}\n'
QUERIES = '{"_id": "q1", "text": "what is tea"}\n{"_id": "q2", "text": "unjudged"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "corpus.jsonl").write_text(CORPUS)
    (tmp_path / "queries.jsonl").write_text(QUERIES)
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS)
    return tmp_path


def refusal(error: pytest.ExceptionInfo[DupmaeError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(")"), "the fix is missing"
    return message


def test_a_split_is_read_with_its_judged_queries_only(folder: Path) -> None:
    passages, queries, qrels = load_split(folder, "test")
    assert passages == [Passage("d1", "Tea", "green"), Passage("d2", "", "black tea")]
    assert queries == {"q1": "what is tea"}
    assert qrels == {"q1": {"d1": 2, "d2": 0}}


def test_content_is_one_line() -> None:
    assert Passage("1", "A title", "two\nlines ").content == "A title two lines"
    assert Passage("1", "", "text").content == "text"


@pytest.mark.parametrize("ending", ["crlf", "no final newline", "byte order mark", "gzip"])
def test_harmless_oddities_are_read_the_same(folder: Path, ending: str) -> None:
    expected = load_split(folder, "test")
    for file in [*folder.glob("*.jsonl"), folder / "qrels" / "test.tsv"]:
        raw = file.read_bytes()
        if ending == "gzip":
            file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(raw))
            file.unlink()
        elif ending == "crlf":
            file.write_bytes(raw.replace(b"\n", b"\r\n"))
        elif ending == "no final newline":
            file.write_bytes(raw.removesuffix(b"\n"))
        else:
            file.write_bytes(b"\xef\xbb\xbf" + raw)
    assert load_split(folder, "test") == expected


def test_a_jsonl_of_passages_may_say_id_and_use_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"id": 7, "text": "seven"}\n\n{"_id": "8", "title": null, "text": "\\ud800"}\n')
    assert read_corpus(file) == [Passage("7", "", "seven"), Passage("8", "", "?")]


def test_blank_passages_stay_and_are_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "corpus.jsonl").write_text(CORPUS + '{"_id": "d3", "title": "", "text": " "}\n')
    with caplog.at_level(logging.WARNING, logger="dupmae"):
        logging.getLogger("dupmae").propagate = True
        assert len(read_corpus(folder)) == 3
    assert "1 of 3 passages are blank" in caplog.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CORPUS + "{oops\n", "line 3: not JSON"),
        (CORPUS + "[1]\n", "line 3: not a JSON object"),
        (CORPUS + "[" * 100_000, "line 3: not JSON"),
        (CORPUS + '{"_id": "d3", "title": "only"}\n', "line 3: record without `text`"),
        (CORPUS + '{"_id": "d3", "text": null}\n', "line 3: record without `text`"),
        (CORPUS + '{"_id": "d3", "text": ["a"]}\n', "line 3: `text` is not text"),
        (CORPUS + '{"text": "no id"}\n', "line 3: record without `_id`"),
        (CORPUS + '{"_id": "d1", "text": "again"}\n', "line 3: duplicate id d1"),
        ("\n \n", "holds no records"),
        ("", "holds no records"),
    ],
)
def test_a_bad_corpus_is_refused_by_file_and_line(folder: Path, text: str, expected: str) -> None:
    (folder / "corpus.jsonl").write_text(text)
    with pytest.raises(DupmaeError) as error:
        read_corpus(folder)
    assert f"{folder / 'corpus.jsonl'}" in refusal(error)
    assert expected in refusal(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QRELS + "q1\td9\t1\n", "line 4: unknown passage d9"),
        (QRELS + "q9\td1\t1\n", "line 4: unknown query q9"),
        (QRELS + "q1 d1 1\n", "line 4: needs 3 tab-separated columns, has 1"),
        (QRELS + "q1\t0\td1\t1\n", "line 4: needs 3 tab-separated columns, has 4"),
        (QRELS + "q1\td1\tyes\n", "line 4: score 'yes' is not an integer"),
        (QRELS + "q1\td1\t1\n", "line 4: a second, different score"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgements"),
    ],
)
def test_bad_qrels_are_refused_by_file_and_line(folder: Path, text: str, expected: str) -> None:
    (folder / "qrels" / "test.tsv").write_text(text)
    with pytest.raises(DupmaeError) as error:
        load_split(folder, "test")
    assert "test.tsv" in refusal(error)
    assert expected in refusal(error)


def test_qrels_without_a_header_lose_no_line(folder: Path) -> None:
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    assert read_qrels(folder, "test") == {"q1": {"d1": 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (QUERIES + '{"_id": "q1", "text": "again"}\n', "line 3: duplicate id q1"),
        (QUERIES + '{"_id": "q3", "text": " "}\n', "line 3: query q3 is blank"),
        (QUERIES + '{"_id": "q3"}\n', "line 3: record without `text`"),
    ],
)
def test_bad_queries_are_refused_by_file_and_line(folder: Path, text: str, expected: str) -> None:
    (folder / "queries.jsonl").write_text(text)
    with pytest.raises(DupmaeError) as error:
        read_queries(folder)
    assert expected in refusal(error)


def test_missing_things_are_named(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(DupmaeError) as error:
        load_split(folder, "dev")
    assert "splits here: test" in refusal(error)
    with pytest.raises(DupmaeError) as error:
        read_corpus(folder / "absent")
    assert "no such file" in refusal(error)
    with pytest.raises(DupmaeError) as error:
        read_corpus(tmp_path_factory.mktemp("empty"))
    assert "empty folder" in refusal(error)
    with pytest.raises(DupmaeError) as error:
        read_queries(folder / "corpus.jsonl")
    assert "not a folder" in refusal(error)


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"_id": "1", "text": "ok"}\n{"_id": "2", "text": "caf\xe9"}\n')
    with pytest.raises(DupmaeError) as error:
        read_corpus(latin)
    assert "line 2: not UTF-8" in refusal(error)
    packed = tmp_path / "cut.jsonl.gz"
    packed.write_bytes(gzip.compress(CORPUS.encode())[:-12])
    with pytest.raises(DupmaeError) as error:
        read_corpus(packed)
    assert "damaged gzip file" in refusal(error)


def test_pairs_take_either_naming(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    records = [
        {"query": "a", "positive": "p", "negatives": ["n1", "n2"]},
        {"query": "b", "pos": ["p1", "p2"], "neg": ["n"]},
        {"query": "c", "positive": "p"},
    ]
    file.write_text("\n".join(map(json.dumps, records)))
    data = open_training(file)
    assert data.queries == {"1": "a", "2": "b", "3": "c"}
    assert data.positives == {"1": ["1"], "2": ["4", "5"], "3": ["1"]}
    assert data.negatives == {"1": ["2", "3"], "2": ["6"]}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"positive": "p"}, "record without `query`"),
        ({"query": " ", "positive": "p"}, "`query` is blank"),
        ({"query": "q"}, "record without a positive"),
        ({"query": "q", "positive": []}, "record without a positive"),
        ({"query": "q", "positive": [""]}, "`positive` has an entry without text"),
        ({"query": "q", "positive": "p", "negatives": [3]}, "`negatives` has an entry without text"),
    ],
)
def test_bad_pairs_are_refused(tmp_path: Path, record: dict[str, object], expected: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"query": "a", "positive": "p"}) + "\n" + json.dumps(record))
    with pytest.raises(DupmaeError) as error:
        open_training(file)
    assert f"line 2: {expected}" in refusal(error)


names = st.text("abcdefgh0123456789-_.", min_size=1, max_size=8)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(names, texts, min_size=1), texts.filter(str.strip), st.integers(-2, 4))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, corpus: dict[str, str], query: str, grade: int
) -> None:
    folder = tmp_path_factory.mktemp("set") / "beir"
    passages = [Passage(name, text[:3], text) for name, text in corpus.items()]
    qrels = {"q": {passages[0].id: grade}}
    write_beir(folder, passages, {"q": query}, {"test": qrels})
    assert load_split(folder, "test") == (passages, {"q": query}, qrels)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real collections are not here")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("scifact", (5183, 300)), ("cranfield", (1400, 225)), ("cacm", (3204, 52)), ("xquad_en", (240, 1190))],
)
def test_official_collections_are_read(name: str, sizes: tuple[int, int]) -> None:
    passages, queries, qrels = load_split(DATA / name / "beir", "test")
    assert (len(passages), len(queries)) == sizes
    assert queries.keys() == qrels.keys()
