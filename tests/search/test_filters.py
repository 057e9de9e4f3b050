"""A filter lets through what the same condition in Python does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.search.index import Index
from tests.search.vectors import WordEncoder

ROWS: list[dict[str, Any]] = [
    {"year": 2019, "lang": "en", "tags": ["a", "b"], "open": True, "price": 1.5},
    {"year": 2020, "lang": "de", "tags": [], "open": False},
    {"year": 2021, "lang": "en", "price": 3},
    {"lang": "fr", "tags": ["b"]},
    {},
]
INDEX = Index.build(WordEncoder(), [{"id": n, "text": "word", **row} for n, row in enumerate(ROWS)])


def found(given: Any) -> list[int]:
    return sorted(int(hit.id) for hit in INDEX.search("word", k=9, filter=given))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"lang": "en"}, [0, 2]),
        ({"year": 2020}, [1]),
        ({"year": {"gte": 2020}}, [1, 2]),
        ({"year": {"gt": 2019, "lt": 2021}}, [1]),
        ({"price": {"lte": 2}}, [0]),
        ({"price": 3}, [2]),
        ({"open": True}, [0]),
        ({"tags": "b"}, [0, 3]),
        ({"tags": {"in": ["a", "x"]}}, [0]),
        ({"lang": {"in": ["de", "fr"]}}, [1, 3]),
        ({"lang": {"in": []}}, []),
        ({"not": {"lang": "en"}}, [1, 3, 4]),
        ({"or": [{"lang": "fr"}, {"year": {"lt": 2020}}]}, [0, 3]),
        ({"and": [{"lang": "en"}, {"not": {"year": 2019}}]}, [2]),
        ({"lang": "en", "year": 2021}, [2]),
    ],
)
def test_conditions(given: Any, expected: list[int]) -> None:
    assert found(given) == expected


CONDITIONS = st.recursive(
    st.one_of(
        st.fixed_dictionaries({"year": st.integers(2018, 2022)}),
        st.fixed_dictionaries({"lang": st.sampled_from(["en", "de"])}),
        st.fixed_dictionaries({"year": st.fixed_dictionaries({"lte": st.integers(2018, 2022)})}),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=6,
)


def holds(condition: dict[str, Any], row: dict[str, Any]) -> bool:
    ((name, value),) = condition.items()
    if name == "not":
        return not holds(value, row)
    if name in ("or", "and"):
        return (any if name == "or" else all)(holds(inner, row) for inner in value)
    if isinstance(value, dict):
        return name in row and row[name] <= value["lte"]
    return name in row and row[name] == value


@settings(max_examples=60, deadline=None)
@given(CONDITIONS)
def test_nested_conditions_equal_python(condition: dict[str, Any]) -> None:
    assert found(condition) == [n for n, row in enumerate(ROWS) if holds(condition, row)]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "is no filter"),
        ({"nowhere": 1}, "no document has the field 'nowhere' .fields: lang, open, price, tags, year"),
        ({"year": {"near": 1}}, "unknown operator 'near'"),
        ({"year": {"in": "ab"}}, "`in` needs a list"),
        ({"or": []}, "`or` needs a list of filters"),
        ({"year": "2020"}, "'year' holds int64"),
        ({"lang": 3}, "'lang' holds string"),
        ({"open": 1}, "'open' holds bool"),
        ({"year": {"gt": None}}, "'year' holds int64"),
        ({"year": 10**400}, "'year' holds int64"),
    ],
)
def test_filters_that_cannot_be_used(given: Any, problem: str) -> None:
    with pytest.raises(DupmaeError, match=rf"filter: .*{problem}"):
        found(given)


def test_nesting_is_bounded() -> None:
    deep: dict[str, Any] = {"lang": "en"}
    for _ in range(100):
        deep = {"not": deep}
    with pytest.raises(DupmaeError, match="is no filter"):
        found(deep)


def test_metadata_comes_back_with_a_hit() -> None:
    hits = {hit.id: hit.metadata for hit in INDEX.search("word", k=9)}
    assert hits == {str(n): row for n, row in enumerate(ROWS)}
