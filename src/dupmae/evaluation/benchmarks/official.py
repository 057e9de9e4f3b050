"""Readers of the official files: MS MARCO's and DPR's tables, TREC's topics and judgements.

White space at either end of an id is dropped, a blank passage keeps its place, blank lines are passed over. What is
unlike the format is refused with file and line.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterator
from pathlib import Path

from dupmae.corpus.beir import Passage, Qrels, Queries
from dupmae.corpus.lines import read_lines
from dupmae.errors import DupmaeError

DPR_HEADER = ["id", "text", "title"]


def read_passages(file: Path) -> Iterator[list[Passage]]:
    """MS MARCO's `collection.tsv`: `pid TAB text`."""
    for _, (name, text) in _columns(file, 2):
        yield [Passage(name, "", text)]


def read_documents(file: Path, passage_words: int) -> Iterator[list[Passage]]:
    """MS MARCO's `msmarco-docs.tsv`, `docid TAB url TAB title TAB body`: each document as its passages.

    A passage is `passage_words` words of the body under the document's title; its id is `docid#number`.
    """
    for _, (name, _, title, body) in _columns(file, 4):
        words = body.split()
        starts = range(0, max(1, len(words)), passage_words)
        parts = [" ".join(words[start : start + passage_words]) for start in starts]
        yield [Passage(f"{name}#{number}", title, part) for number, part in enumerate(parts)]


def document_of(passage: str) -> str:
    """The document that a passage of `read_documents` is from."""
    return passage.rpartition("#")[0]


def read_wikipedia(file: Path) -> Iterator[list[Passage]]:
    """DPR's `psgs_w100.tsv`: `id TAB text TAB title` under a header, quoted like CSV."""
    for line, row in _quoted(file):
        if line == 1 and row == DPR_HEADER:
            continue
        if len(row) != len(DPR_HEADER) or not row[0].strip():
            raise _wrong(file, line, f"needs 3 tab-separated columns, has {len(row)}", "write: id TAB text TAB title")
        yield [Passage(row[0].strip(), row[2], row[1])]


def read_topics(file: Path) -> Queries:
    """`qid TAB text` lines: query id -> text.

    Raises:
        DupmaeError: for a line without two columns, a blank text, or an id that comes twice.
    """
    queries: Queries = {}
    for line, (name, text) in _columns(file, 2):
        if not text.strip():
            raise _wrong(file, line, f"query {name} is blank", "remove the line")
        if name in queries:
            raise _wrong(file, line, f"duplicate id {name}", "give each query its own id")
        queries[name] = text
    return queries


def read_judgements(file: Path) -> Qrels:
    """`qid 0 docid grade` lines, tabs or spaces between: query id -> {document id -> grade}.

    Raises:
        DupmaeError: for a line without four columns or with a grade that is no integer, two grades for one pair, and
            a file without a line.
    """
    qrels: Qrels = {}
    for line, text in read_lines(file):
        columns = text.split()
        if not columns:
            continue
        if len(columns) != 4 or not columns[3].lstrip("-").isdecimal():
            raise _wrong(file, line, "not a judgement", "write: query-id 0 passage-id grade")
        query, _, document, grade = columns
        if qrels.setdefault(query, {}).setdefault(document, int(grade)) != int(grade):
            problem = f"a second, different grade for query {query} and {document}"
            raise _wrong(file, line, problem, "keep one of them")
    if not qrels:
        raise DupmaeError("holds no judgements", where=file, fix="write: query-id 0 passage-id grade")
    return qrels


def read_questions(file: Path) -> tuple[Queries, dict[str, list[str]]]:
    """DPR's `question TAB ['answer', ...]` lines, quoted like CSV: number -> question, number -> answers.

    Raises:
        DupmaeError: for a line without a question or a list of answers, and a file without a line.
    """
    questions: Queries = {}
    answers: dict[str, list[str]] = {}
    for line, row in _quoted(file):
        fix = "write: question TAB ['answer', 'another']"
        if len(row) != 2 or not row[0].strip():
            raise _wrong(file, line, f"needs a question and its answers, has {len(row)} columns", fix)
        name = str(len(questions))
        questions[name], answers[name] = row[0], _answers(row[1], file, line, fix)
    if not questions:
        raise DupmaeError("holds no questions", where=file, fix="write: question TAB ['answer', 'another']")
    return questions, answers


def _answers(text: str, file: Path, line: int, fix: str) -> list[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not found or not all(isinstance(answer, str) for answer in found):
        raise _wrong(file, line, "the answers are no list of texts", fix)
    return found


def _columns(file: Path, count: int) -> Iterator[tuple[int, list[str]]]:
    """Tab-separated columns, the first an id; the last may hold tabs of its own."""
    for line, text in read_lines(file):
        if not text.strip():
            continue
        columns = text.split("\t", count - 1)
        columns[0] = columns[0].strip()
        if len(columns) != count or not columns[0]:
            problem = f"needs {count} tab-separated columns, has {len(columns)}"
            raise _wrong(file, line, problem, "fetch the file again")
        yield line, columns


def _quoted(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a tab-separated CSV file, each with the line it ends in."""
    # A passage is a paragraph; the csv module's own limit would do but for damaged quotes.
    rows = csv.reader((text for _, text in read_lines(file)), delimiter="\t")
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise _wrong(file, rows.line_num, f"not a row: {error}", "fetch the file again") from None
        if row:
            yield rows.line_num, row


def _wrong(file: Path, line: int, problem: str, fix: str) -> DupmaeError:
    return DupmaeError(problem, where=file, line=line, fix=fix)
