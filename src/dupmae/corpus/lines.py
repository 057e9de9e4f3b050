"""Lines of text files, plain or gzipped, and JSON, with every fault named by file and line.

`read_lines`, `opened`, `parse_json`, and the field getters `text_field`, `filled_field`, `texts_field`,
`id_field` and `title_of`.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

from dupmae.errors import DupmaeError

Record = dict[str, Any]


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file, plain or gzipped, without its byte order mark; lines may end in CRLF.

    Raises:
        DupmaeError: when the file is missing, not readable, damaged or not UTF-8.
    """
    try:
        with _bytes(path) as handle:
            yield io.TextIOWrapper(handle, encoding="utf-8-sig", newline="\n")
    except FileNotFoundError:
        raise DupmaeError("no such file", where=path, fix="check the path") from None
    except IsADirectoryError:
        raise DupmaeError("is a folder, not a file", where=path, fix="name a file inside it") from None
    except UnicodeDecodeError:
        raise DupmaeError("not UTF-8", where=path, line=_undecodable(path), fix="convert it to UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DupmaeError(f"damaged gzip file: {error}", where=path, fix="fetch it again") from None
    except OSError as error:
        raise DupmaeError(f"cannot read: {error.strerror}", where=path, fix="check its permissions") from None


def _bytes(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _undecodable(path: Path) -> int:
    """The first line that is not UTF-8: text is decoded in blocks, which do not tell."""
    with _bytes(path) as handle:
        for number, line in enumerate(handle, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Give (line number from 1, line without its end) of a UTF-8 file. Errors as `opened`."""
    with opened(path) as handle:
        for number, line in enumerate(handle, start=1):
            yield number, line.rstrip("\r\n")


def parse_json(text: str, path: Path, line: int) -> Any:
    """A JSON value; half of a surrogate pair, which JSON can spell and UTF-8 cannot hold, becomes `?`.

    Raises:
        DupmaeError: for what is no JSON, a number of thousands of digits, or a value nested too deep.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise not_json(error, path, line) from None
    return cleaned(value) if "\\u" in text else value


def not_json(error: ValueError | RecursionError, path: Path, line: int) -> DupmaeError:
    """The error for JSON that the library cannot read."""
    reason = "a number has too many digits"
    if isinstance(error, json.JSONDecodeError):
        reason = error.msg
    elif isinstance(error, RecursionError):
        reason = "nested too deep"
    return DupmaeError(f"not JSON: {reason}", where=path, line=line, fix="mend or remove it")


def cleaned(value: Any) -> Any:
    """The value with all its texts made encodable."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [cleaned(entry) for entry in value]
    if isinstance(value, dict):
        return {encodable(name): cleaned(entry) for name, entry in value.items()}
    return value


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def text_field(record: Record, names: tuple[str, ...], path: Path, line: int) -> str:
    """The first of the fields `names` that the record has, a text.

    Raises:
        DupmaeError: when the record has none of them, or it is no text.
    """
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise DupmaeError(f"`{name}` is not text", where=path, line=line, fix="write it as text")
    raise DupmaeError(f"record without `{names[0]}`", where=path, line=line, fix=f"add a `{names[0]}` field")


def id_field(record: Record, names: tuple[str, ...], path: Path, line: int) -> str:
    """As `text_field`, for an id, which may be written as an integer.

    Raises:
        DupmaeError: as `text_field`, and for a blank id.
    """
    value = next((record[name] for name in names if record.get(name) is not None), None)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    found = text_field(record, names, path, line)
    if not found.strip():
        raise DupmaeError("the id is blank", where=path, line=line, fix="give the record an id")
    return found


def filled_field(record: Record, names: tuple[str, ...], path: Path, line: int) -> str:
    """As `text_field`, for a text that must not be blank."""
    text = text_field(record, names, path, line)
    if not text.strip():
        raise DupmaeError(f"`{names[0]}` is blank", where=path, line=line, fix="remove the record")
    return text


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
        return entries
    return []


def title_of(record: Record, path: Path, line: int) -> str:
    """The field `title`, empty where there is none."""
    return "" if record.get("title") is None else text_field(record, ("title",), path, line)
