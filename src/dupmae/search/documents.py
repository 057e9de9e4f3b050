"""What an index holds of a document, and what comes back for a query: `Document`, `Hit`, `Word`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dupmae.corpus.beir import Passage
from dupmae.errors import DupmaeError

Value = str | int | float | bool | list[str] | None
OWN_FIELDS = ("id", "_id", "title", "text", "metadata")


@dataclass(frozen=True, slots=True)
class Document:
    """A passage with an id of its own and fields to filter by."""

    id: str
    title: str
    text: str
    metadata: Mapping[str, Value] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """What is encoded: title and text on one line."""
        return Passage(self.id, self.title, self.text).content


def as_documents(
    items: Iterable[str | Passage | Document | Mapping[str, Any]], ids: Sequence[str] | None = None
) -> Iterator[Document]:
    """Documents from texts, passages, or mappings of `text`, `id`, `title` and metadata.

    Args:
        items: what a mapping has besides these is metadata; so is what it has under `metadata`.
        ids: one for each item; None: their own, and "0", "1", ... for texts.

    Raises:
        DupmaeError: an item without a text or an id, or another number of ids than of items.
    """
    names = None if ids is None else iter(ids)
    number = -1
    for number, item in enumerate(items):
        name = None if names is None else next(names, None)
        if names is not None and name is None:
            raise DupmaeError(f"{number} ids for more documents", where="ids", fix="give one for each document")
        yield _document(item, name, number)
    if names is not None and next(names, None) is not None:
        raise DupmaeError(f"more ids than the {number + 1} documents", where="ids", fix="give one for each document")


def _document(item: str | Passage | Document | Mapping[str, Any], name: str | None, number: int) -> Document:
    if isinstance(item, str):
        return Document(str(number) if name is None else str(name), "", item)
    if isinstance(item, Passage | Document):
        metadata = item.metadata if isinstance(item, Document) else {}
        return Document(item.id if name is None else str(name), item.title, item.text, metadata)
    where = f"document {number}"
    if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
        raise DupmaeError("has no text", where=where, fix="give texts, or mappings with `text` and `id`")
    own = name if name is not None else item.get("id", item.get("_id"))
    if not isinstance(own, str | int):
        raise DupmaeError("has no id", where=where, fix="give each document an `id`, or all of them with ids=")
    metadata = {key: value for key, value in item.items() if key not in OWN_FIELDS} | dict(item.get("metadata") or {})
    return Document(str(own), str(item.get("title") or ""), item["text"], metadata)


@dataclass(frozen=True, slots=True)
class Word:
    """A token that query and passage share.

    Attributes:
        token: an entry of the retriever's vocabulary; continuations of a word keep their `##`.
        weight: what it adds to the score.
        counted: the share of `weight` that comes from counting words; None where nothing is counted.
    """

    token: str
    weight: float
    counted: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a passage has its score for a query: score = dense + sparse (DupMAE, equation 12).

    Attributes:
        words: what adds up to `sparse`, the largest weight first.
    """

    score: float
    dense: float
    sparse: float
    words: list[Word]


@dataclass(frozen=True, slots=True)
class Hit:
    """One found passage with its score explained.

    Attributes:
        rank: 1 for the best.
        score: dense + sparse, but for rounding.
        words: what adds up to `sparse`, the largest weight first.
    """

    rank: int
    id: str
    title: str
    text: str
    score: float
    dense: float
    sparse: float
    words: list[Word]
    metadata: dict[str, Value]

    def as_dict(self) -> dict[str, Any]:
        """The hit as plain values, for JSON."""
        return asdict(self)
