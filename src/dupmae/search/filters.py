"""Which passages a filter lets through.

A filter is a mapping; all of its entries must hold:

    {"lang": "en"}                                equal; for a list, one of its values
    {"year": {"gte": 2019, "lt": 2024}}           gt, gte, lt, lte
    {"tag": {"in": ["a", "b"]}}                   one of several
    {"or": [{...}, {...}]}, {"and": [...]}, {"not": {...}}

A passage without the field meets no condition on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dupmae.errors import DupmaeError

Filter = Mapping[str, Any]
Mask = NDArray[np.bool_]

COMBINED = ("and", "or", "not")
_COMPARE: dict[str, Callable[..., Any]] = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}
OPERATORS = (*_COMPARE, "in")
DEEPEST = 32
# Before the names of metadata fields in a segment's table, where id, title and text stand as well.
FIELD = "metadata."
OWN_NAMES = ("id", "title", "text")


def check_filter(given: Any, fields: set[str], depth: int = 0) -> None:
    """Refuse a filter that cannot be understood, before anything is searched.

    Raises:
        DupmaeError: no mapping, an unknown operator, a field that no document has, or nesting beyond `DEEPEST`.
    """
    if not isinstance(given, Mapping) or depth > DEEPEST:
        raise _refused(f"{given!r:.80} is no filter", "give a mapping such as {'year': {'gte': 2020}}")
    for name, condition in given.items():
        if name in ("and", "or"):
            if not isinstance(condition, Sequence) or isinstance(condition, str) or not condition:
                raise _refused(f"`{name}` needs a list of filters", f"give {{'{name}': [{{...}}, {{...}}]}}")
            for part in condition:
                check_filter(part, fields, depth + 1)
        elif name == "not":
            check_filter(condition, fields, depth + 1)
        elif name not in fields:
            known = ", ".join(sorted(fields)) or "none"
            raise _refused(f"no document has the field {name!r}", f"fields: {known}")
        elif isinstance(condition, Mapping):
            for operator, value in condition.items():
                if operator not in OPERATORS:
                    raise _refused(f"unknown operator {operator!r}", f"use one of {', '.join(OPERATORS)}")
                if operator == "in" and (not isinstance(value, Sequence) or isinstance(value, str)):
                    raise _refused("`in` needs a list", f"give {{'{name}': {{'in': [...]}}}}")


def passing(given: Filter, table: pa.Table) -> Mask:
    """Which rows of a segment's table pass a filter that `check_filter` accepts, [N].

    Raises:
        DupmaeError: a value of another type than the field's.
    """
    mask = np.ones(table.num_rows, np.bool_)
    for name, condition in given.items():
        if name == "not":
            mask &= ~passing(condition, table)
        elif name in ("and", "or"):
            parts = [passing(part, table) for part in condition]
            mask &= (np.logical_and if name == "and" else np.logical_or).reduce(parts)
        elif FIELD + name not in table.column_names:
            mask[:] = False
        elif isinstance(condition, Mapping):
            for operator, value in condition.items():
                mask &= _holds(table[FIELD + name], name, operator, value)
        else:
            mask &= _holds(table[FIELD + name], name, "in", [condition])
    return mask


def _holds(column: Any, name: str, operator: str, value: Any) -> Mask:
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        rows = pc.list_parent_indices(values)
        inner = _holds(pc.list_flatten(values), name, operator, value)
        mask = np.zeros(len(values), np.bool_)
        mask[rows.to_numpy()[inner]] = True
        return mask
    given = value if operator == "in" else [value]
    if not all(_comparable(one, values.type) for one in given):
        raise _refused(f"{name!r} holds {values.type}, not {value!r:.60}", "compare it with values of its own type")
    if operator == "in":
        answers = [pc.equal(values, pa.scalar(one)) for one in given]
        found = np.zeros(len(values), np.bool_)
        for answer in answers:
            found |= _plain(answer)
        return found
    return _plain(_COMPARE[operator](values, pa.scalar(value)))


def _comparable(value: Any, kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        # Arrow has no wider integer.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, str)


def _plain(answer: Any) -> Mask:
    mask: Mask = pc.fill_null(answer, False).to_numpy(zero_copy_only=False).astype(np.bool_)
    return mask


def _refused(problem: str, fix: str) -> DupmaeError:
    return DupmaeError(problem, where="filter", fix=fix)
