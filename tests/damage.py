"""Damage for files of JSON: every field with another type, and every field left out."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dupmae.errors import DupmaeError

OTHERS: list[Any] = [
    None,
    True,
    -1,
    3,
    10**400,
    float("inf"),
    float("nan"),
    "x",
    "../x",
    "\ud800",
    [],
    [[]],
    {},
    {"x": 1},
]


def wrong_types(value: Any) -> Iterator[tuple[str, Any]]:
    """What was changed, and a copy with that one change; long lists are changed in their first two entries."""
    for other in OTHERS:
        yield f"all={str(other)[:9]}", other
    for way in _ways(value):
        name = "/".join(map(str, way))
        for other in OTHERS:
            changed = copy.deepcopy(value)
            _at(changed, way[:-1])[way[-1]] = other
            yield f"{name}={str(other)[:9]}", changed
        changed = copy.deepcopy(value)
        del _at(changed, way[:-1])[way[-1]]
        yield f"{name} left out", changed


def _ways(value: Any) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        entries: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value[:2]))
    else:
        return
    for key, inner in entries:
        yield (key,)
        for way in _ways(inner):
            yield (key, *way)


def _at(value: Any, way: tuple[str | int, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


def refused_or_read(file: Path, read: Callable[[], object]) -> dict[str, str]:
    """Read a JSON file with every damage: what was neither read nor refused in one line, and how it failed."""
    whole = file.read_text(encoding="utf-8")
    failures = {}
    for name, changed in wrong_types(json.loads(whole)):
        file.write_text(json.dumps(changed), encoding="utf-8")
        try:
            read()
        except DupmaeError as error:
            if "\n" in str(error):
                failures[name] = str(error)
        except BaseException as error:
            failures[name] = f"{type(error).__name__}: {error}"[:200]
    file.write_text(whole, encoding="utf-8")
    return failures
