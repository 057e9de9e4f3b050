"""DPR's training files: one JSON array of questions with their contexts, read object by object.

Each object has `question`, `positive_ctxs`, `hard_negative_ctxs` and `negative_ctxs`; a context has `text`, `title` and
`passage_id` (or `psg_id`). The official files unpack to gigabytes, so the array is never held.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TextIO, cast

from dupmae.corpus.beir import Passage
from dupmae.corpus.lines import encodable, text_field
from dupmae.errors import DupmaeError

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its contexts."""

    query: str
    positives: list[Passage]
    negatives: list[Passage]


def read_dpr(path: Path) -> Iterator[tuple[int, Example]]:
    """Give (line, example) for each question; the given hard negatives, or else the other negatives.

    Raises:
        DupmaeError: for a file that is no JSON array of objects, a question that is blank or has no positive
            context, and a context without text.
    """
    for line, record in _objects(path):
        query = text_field(record, ("question",), path, line)
        if not query.strip():
            raise DupmaeError("`question` is blank", where=path, line=line, fix="remove the record")
        positives = _contexts(record, "positive_ctxs", path, line)
        if not positives:
            fix = "remove the record"
            raise DupmaeError(f"query without a positive: {query!r}", where=path, line=line, fix=fix)
        hard = _contexts(record, "hard_negative_ctxs", path, line)
        yield line, Example(query, positives, hard or _contexts(record, "negative_ctxs", path, line))


def _contexts(record: dict[str, Any], name: str, path: Path, line: int) -> list[Passage]:
    found = record.get(name) or []
    if not isinstance(found, list) or not all(isinstance(context, dict) for context in found):
        raise DupmaeError(f"`{name}` is no list of objects", where=path, line=line, fix="mend the record")
    return [_passage(context, name, path, line) for context in found]


def _passage(context: dict[str, Any], name: str, path: Path, line: int) -> Passage:
    text = text_field(context, ("text",), path, line)
    title = "" if context.get("title") is None else text_field(context, ("title",), path, line)
    if not text.strip():
        raise DupmaeError(f"`{name}` has an entry without text", where=path, line=line, fix="remove it")
    known = any(context.get(key) is not None for key in ("passage_id", "psg_id"))
    own = text_field(context, ("passage_id", "psg_id"), path, line) if known else _name(f"{title}\n{text}")
    return Passage(own, title, text)


def _name(text: str) -> str:
    """An id for a context that has none: the same for the same text."""
    return blake2b(encodable(text).encode(), digest_size=8).hexdigest()


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON array, each with the line it begins in."""
    try:
        with _open(path) as handle:
            yield from _decoded(handle, path)
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except UnicodeDecodeError:
        raise DupmaeError("not UTF-8", where=path, fix="convert it to UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DupmaeError(f"damaged gzip file: {error}", where=path, fix="fetch it again") from None


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8")


def _decoded(handle: TextIO, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    decoder, line = json.JSONDecoder(), 1
    buffer = handle.read(CHUNK)
    start = len(buffer) - len(buffer.lstrip())
    if buffer[start : start + 1] != "[":
        raise DupmaeError("not a JSON array", where=path, line=1, fix="DPR's files are one array of objects")
    buffer, line = buffer[start + 1 :], line + buffer.count("\n", 0, start)
    while True:
        rest = buffer.lstrip(" \t\r\n,")
        line += buffer.count("\n", 0, len(buffer) - len(rest))
        buffer = rest
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            # An object that is cut off by the end of the buffer fails too: more of it settles which it is.
            more = handle.read(max(CHUNK, len(buffer)))
            if not more:
                at = line + error.lineno - 1
                raise DupmaeError(f"not JSON: {error.msg}", where=path, line=at, fix="mend the file") from None
            buffer += more
            continue
        if not isinstance(value, dict):
            raise DupmaeError("not a JSON object", where=path, line=line, fix="DPR's files are one array of objects")
        yield line, value
        line += buffer.count("\n", 0, end)
        buffer = buffer[end:]
