"""The readers of official files, on small files of every format, and what they refuse."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks import official
from dupmae.evaluation.benchmarks.collections import open_collection
from dupmae.evaluation.benchmarks.official_files import File, Folder
from tests.evaluation.benchmarks.settings import suite_settings


def written(path: Path, text: str, *, crlf: bool = False, zipped: bool = False) -> Path:
    data = (text.replace("\n", "\r\n") if crlf else text).encode()
    path = path.with_name(f"{path.name}.gz") if zipped else path
    path.write_bytes(gzip.compress(data) if zipped else data)
    return path


FORMS: list[dict[str, Any]] = [{}, {"crlf": True}, {"zipped": True}, {"crlf": True, "zipped": True}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["", "\n"])
def test_every_format_with_other_line_ends_gz_and_no_final_newline(tmp_path: Path, form: Any, end: str) -> None:
    def file(name: str, text: str) -> Path:
        return written(tmp_path / name, text + end, **form)

    passages = official.read_passages(file("collection.tsv", "0\tfirst one\n1\t\n 2 \tthird\twith a tab"))
    assert list(passages) == [
        [Passage("0", "", "first one")],
        [Passage("1", "", "")],
        [Passage("2", "", "third\twith a tab")],
    ]
    documents = official.read_documents(file("msmarco-docs.tsv", "D1\turl\tTitle\ta b c d e\nD2\turl\t\t"), 2)
    assert list(documents) == [
        [Passage("D1#0", "Title", "a b"), Passage("D1#1", "Title", "c d"), Passage("D1#2", "Title", "e")],
        [Passage("D2#0", "", "")],
    ]
    assert official.document_of("D1#2") == "D1"
    wikipedia = official.read_wikipedia(file("psgs.tsv", 'id\ttext\ttitle\n1\t"says ""hi"" there"\tAaron\n2\t\tEmpty'))
    assert list(wikipedia) == [[Passage("1", "Aaron", 'says "hi" there')], [Passage("2", "Empty", "")]]
    topics = official.read_topics(file("queries.tsv", "2\tdefine androgen\n\n1048585\twho is it"))
    assert topics == {"2": "define androgen", "1048585": "who is it"}
    judgements = official.read_judgements(file("qrels.tsv", "1\t0\t7\t1\n1 Q0 8 -1\n\n2 0 7 3"))
    assert judgements == {"1": {"7": 1, "8": -1}, "2": {"7": 3}}
    asked = 'who\t[\'Röntgen\', "Destiny \'s Child"]\nwhat\t"[\'1930’s\', ""\'30s""]"'
    questions, answers = official.read_questions(file("nq.csv", asked))
    assert questions == {"0": "who", "1": "what"}
    assert answers == {"0": ["Röntgen", "Destiny 's Child"], "1": ["1930’s", "'30s"]}


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (official.read_passages, "0 no tab\n", "line 1: needs 2 tab-separated columns, has 1"),
        (official.read_passages, "0\ta\n\tb\n", "line 2: needs 2 tab-separated columns"),
        (lambda path: official.read_documents(path, 5), "D1\turl\ttitle\n", "line 1: needs 4 tab-separated columns"),
        (official.read_wikipedia, "id\ttext\ttitle\n1\tonly\n", "line 2: needs 3 tab-separated columns, has 2"),
        (official.read_topics, "1\ta\n1\tb\n", "line 2: duplicate id 1"),
        (official.read_topics, "1\t \n", "line 1: query 1 is blank"),
        (official.read_judgements, "1 0 7\n", "line 1: not a judgement"),
        (official.read_judgements, "1 0 7 x\n", "line 1: not a judgement"),
        (official.read_judgements, "1 0 7 1\n1 0 7 2\n", "line 2: a second, different grade"),
        (official.read_judgements, "\n", "holds no judgements"),
        (official.read_questions, "who\t['a'\n", "line 1: the answers are no list of texts"),
        (official.read_questions, "who\t[]\n", "line 1: the answers are no list of texts"),
        (official.read_questions, "who\t[__import__('os')]\n", "line 1: the answers are no list of texts"),
        (official.read_questions, "who\n", "line 1: needs a question and its answers, has 1 columns"),
        (official.read_questions, "", "holds no questions"),
    ],
)
def test_what_is_unlike_the_format_is_refused(
    tmp_path: Path, read: Callable[[Path], Any], text: str, message: str
) -> None:
    path = written(tmp_path / "file", text)
    with pytest.raises(DupmaeError, match=message) as caught:
        list(read(path))
    assert str(path) in str(caught.value)


def test_missing_files_are_named_with_their_counts(tmp_path: Path) -> None:
    written(tmp_path / "collection.tsv", "0\ta\n")
    with pytest.raises(DupmaeError) as caught:
        open_collection(suite_settings("msmarco-passage", tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: has no queries.dev.small.tsv, no qrels.dev.small.tsv (msmarco-passage reads, plain or with .gz: "
        "collection.tsv: 8,841,823 passages; queries.dev.small.tsv: 6,980 queries; "
        "qrels.dev.small.tsv: 7,437 judgements)"
    )
    with pytest.raises(DupmaeError, match=r"triviaqa: data is not given \(.*psgs_w100.tsv: 21,015,324 passages"):
        open_collection(suite_settings("triviaqa", None))


def test_files_are_found_in_folders_under_their_other_names(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "qrels.dl20-passage.txt.gz").touch()
    (tmp_path / "a" / "images.txt").touch()
    (deep / "images.txt").touch()
    folder = Folder(tmp_path)
    assert folder.find(File(("2020qrels-pass.txt", "qrels.dl20-passage.txt"), "")) == deep / "qrels.dl20-passage.txt.gz"
    assert folder.find(File(("b/images.txt",), "")) == deep / "images.txt"
    assert folder.find(File(("images.txt",), "")) == tmp_path / "a" / "images.txt"
    assert folder.find(File(("c/images.txt",), "")) is None
    with pytest.raises(DupmaeError, match="no such folder"):
        Folder(tmp_path / "none")


def test_partial_data_is_refused_unless_it_is_wanted(tmp_path: Path) -> None:
    written(tmp_path / "collection.tsv", "0\ta\n")
    written(tmp_path / "queries.dev.small.tsv", "1\tx\n2\ty\n")
    qrels = written(tmp_path / "qrels.dev.small.tsv", "1 0 0 1\n")
    with pytest.raises(DupmaeError, match=r"queries\.dev\.small\.tsv: has 1 judged queries, officially 6,980"):
        open_collection(suite_settings("msmarco-passage", tmp_path))
    collection = open_collection(suite_settings("msmarco-passage", tmp_path, official=False))
    assert collection.queries == {"1": "x"}
    qrels.write_text("1 0 0 1\n3 0 0 1\n")
    with pytest.raises(DupmaeError, match="lacks the judged query 3"):
        open_collection(suite_settings("msmarco-passage", tmp_path, official=False))
