"""Docstrings as retrieval records: the summary sentence asks, the name and the rest answer.

Sources are parsed with `ast`; nothing is imported or run.
`records_of`, `summary_and_body`, `name_in_words`.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dupmae.corpus.lines import encodable
from dupmae.corpus.python_docs.sources import Source

FEWEST_SUMMARY_WORDS, MOST_SUMMARY_WORDS = 4, 50
FEWEST_BODY_WORDS = 8
Problem = Literal["unparsable", "undecodable", "unreadable"]
Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

WORD = re.compile(r"[^\W\d_][\w'-]*")
ROLE = re.compile(r":[\w:+.-]+:`[~!.]?([^`<]*?)(?:\s*<[^`>]*>)?`")
RULER = re.compile(r"([-=~^*#_+.\"])\1{3,}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SIGNATURE = re.compile(r"^[\w.]+\(.*\)(\s*(->|:|=).*)?$")
FIELD = re.compile(
    r"^(:|@|>>>|[-*+•] |\.\. |(args?|arguments|parameters|params|returns?|raises|yields)\s*:|\*{0,2}\w+ \(.*\)\s*:)",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.!?]['\")\]]*(?=\s+[^a-z\s])|[.!?]['\")\]]*$|:$")
ABBREVIATION = re.compile(r"\b(e\.?g|i\.?e|etc|cf|vs|al|fig|eq|ref|no|dr|mr|st|resp|approx|incl)\.$", re.I)
BOILERPLATE = re.compile(r"copyright|licen[sc]ed?\b|all rights reserved|auto-?generated|do not edit", re.I)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Docstring:
    """One record: the dotted name, the summary sentence, and the rest of the docstring on one line."""

    name: str
    summary: str
    body: str


def records_of(source: Source) -> list[Docstring] | Problem:
    """The records of one source file, or the reason why it has none to give."""
    try:
        raw = Path(source.path).read_bytes()
    except OSError:
        return "unreadable"
    try:
        text = raw.decode(tokenize.detect_encoding(io.BytesIO(raw).readline)[0])
    except (UnicodeDecodeError, SyntaxError, LookupError):
        return "undecodable"
    try:
        with warnings.catch_warnings():
            # Invalid escapes in other people's strings are theirs to mend.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "unparsable"
    return list(_records(tree, source.module))


def _records(tree: ast.Module, module: str) -> Iterator[Docstring]:
    for name, docstring in _docstrings(tree, module):
        parts = summary_and_body(docstring)
        if parts is not None:
            yield Docstring("_".join(encodable(name).split()), *parts)


def _docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Every (dotted name, docstring) in source order; a stack, since `elif` chains nest thousands deep."""
    waiting: list[tuple[ast.AST, str]] = [(tree, module)]
    while waiting:
        node, name = waiting.pop()
        if isinstance(node, Definition):
            name = name if isinstance(node, ast.Module) else f"{name}.{node.name}"
            docstring = ast.get_docstring(node, clean=False)
            if docstring:
                yield name, docstring
        waiting.extend((child, name) for child in reversed(list(_blocks(node))))


def _blocks(node: ast.AST) -> Iterator[ast.AST]:
    """The statements, handlers and cases directly below a node; expressions hold no definitions."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        children = getattr(node, field, None)
        if isinstance(children, list):
            yield from (child for child in children if hasattr(child, "body") or isinstance(child, ast.Match))


def summary_and_body(docstring: str) -> tuple[str, str] | None:
    """Split a docstring in its first sentence and everything else, both as plain one-line text.

    The body has no verbatim copy of the summary, which would answer the query by itself.

    Returns:
        None where there is no summary of 4 to 50 words, no body of 8 words, or only boilerplate.
    """
    lines = inspect.cleandoc(docstring).splitlines()
    first, rest = _first_paragraph(lines)
    paragraph = plain(" ".join(first))
    end = _sentence_end(paragraph)
    summary = paragraph[:end]
    words = len(WORD.findall(summary))
    if not FEWEST_SUMMARY_WORDS <= words <= MOST_SUMMARY_WORDS or BOILERPLATE.search(summary):
        return None
    body = _without(f"{paragraph[end:]} {plain(' '.join(rest))}".strip(), summary)
    return (summary, body) if len(WORD.findall(body)) >= FEWEST_BODY_WORDS else None


def _first_paragraph(lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines of prose up to a blank line or a field list, and the other lines in order.

    Signatures and blank lines above the prose go with the other lines; rulers under a title go nowhere.
    """
    start = 0
    while start < len(lines) and (not lines[start].strip() or SIGNATURE.match(lines[start].strip())):
        start += 1
    end = start
    while end < len(lines) and lines[end].strip() and not FIELD.match(lines[end].strip()):
        end += 1
        if end < len(lines) and RULER.fullmatch(lines[end].strip()):
            break
    return lines[start:end], lines[:start] + lines[end:]


def _sentence_end(paragraph: str) -> int:
    for match in SENTENCE_END.finditer(paragraph):
        if not ABBREVIATION.search(paragraph[: match.end()]) or match.end() == len(paragraph):
            return match.end()
    return len(paragraph)


def _without(body: str, summary: str) -> str:
    """The body less every verbatim copy of the summary (in any case of letters)."""
    copy = summary.rstrip(".!?: ")
    if copy.casefold() not in body.casefold():
        return body
    pattern = re.compile(re.escape(copy) + r"[.!?:]*", re.IGNORECASE)
    # What stood around a copy may form another one once it is gone.
    while pattern.search(body):
        body = " ".join(pattern.sub(" ", body).split())
    return body


def plain(text: str) -> str:
    """Text on one line without reStructuredText roles, backticks, rulers and control characters."""
    text = CONTROL.sub(" ", encodable(text))
    text = RULER.sub(" ", ROLE.sub(r"\1", text)).replace("`", "")
    return " ".join(text.split())


def name_in_words(name: str) -> str:
    """A dotted name as lower-case words: `pandas.io.readCSV_file` -> `pandas io read csv file`."""
    return " ".join(CAMEL.sub(" ", re.sub(r"[\W_]+", " ", name)).lower().split())
