"""Lines and JSON records of text files, plain or gzipped, with every fault named by file and line.

`read_lines`, `read_records` and the field getters `text_field` and `texts_field`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from dupmae.errors import DupmaeError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
Record = dict[str, Any]


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give (line number from 1, line without its end) of a UTF-8 file; `.gz` is unpacked on the way.

    A byte order mark, CRLF line ends and a missing final newline are all accepted.

    Raises:
        DupmaeError: when the file is missing, not readable, damaged or not UTF-8 (with the line).
    """
    number = 0
    try:
        with _open(path) as handle:
            for number, raw in enumerate(handle, start=1):
                line = raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw
                yield number, line.decode("utf-8").rstrip("\r\n")
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except IsADirectoryError:
        raise DupmaeError("is a folder, not a file", where=path, fix="name a file inside it") from None
    except UnicodeDecodeError:
        raise DupmaeError("not UTF-8", where=path, line=number, fix="convert it to UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DupmaeError(f"damaged gzip file: {error}", where=path, fix="fetch it again") from None
    except OSError as error:
        raise DupmaeError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def read_records(path: Path) -> Iterator[tuple[int, Record]]:
    """Give (line number, object) for each non-blank line of a JSON-lines file.

    Raises:
        DupmaeError: as `read_lines`, for a line that is not a JSON object, and for a file without any.
    """
    empty = True
    for number, line in read_lines(path):
        if not line or line.isspace():
            continue
        empty = False
        yield number, _record(path, number, line)
    if empty:
        raise DupmaeError("holds no records", where=path, fix="put one JSON object on each line")


def _record(path: Path, number: int, line: str) -> Record:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deep"
        raise DupmaeError(f"not JSON: {reason}", where=path, line=number, fix="mend or remove it") from None
    if not isinstance(value, dict):
        raise DupmaeError("not a JSON object", where=path, line=number, fix='write {"key": value, ...}')
    return value


def text_field(record: Record, names: tuple[str, ...], path: Path, line: int) -> str:
    """The first of the fields `names` that the record has, as text (ids may be written as integers).

    Raises:
        DupmaeError: when the record has none of them, or it is neither text nor an integer.
    """
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return encodable(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            raise DupmaeError(f"`{name}` is not text", where=path, line=line, fix="put it in quotes")
    raise DupmaeError(f"record without `{names[0]}`", where=path, line=line, fix=f"add a `{names[0]}` field")


def texts_field(record: Record, names: tuple[str, ...], path: Path, line: int) -> list[str]:
    """The first of the fields `names` that the record has, a text or a list of texts; [] when it has none.

    Raises:
        DupmaeError: when an entry is not text or blank.
    """
    for name in names:
        value = record.get(name)
        if value is None:
            continue
        entries = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) and entry.strip() for entry in entries):
            raise DupmaeError(f"`{name}` has an entry without text", where=path, line=line, fix="remove it")
        return [encodable(entry) for entry in entries]
    return []


def encodable(text: str) -> str:
    """The text with lone surrogates, which JSON can spell but UTF-8 cannot hold, replaced by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")
