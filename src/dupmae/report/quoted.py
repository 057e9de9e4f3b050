"""What papers report on a data set, read from quoted.json: numbers of others, never measured here."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Quoted:
    """One line of a paper's table.

    Attributes:
        system: the name the paper gives it.
        note: how it was trained, where that is to be told.
        metrics: metric -> value as printed in the paper.
        paper: authors, year, title, place, arXiv number.
        table: which of its tables, in words.
    """

    system: str
    note: str
    metrics: dict[str, float]
    paper: str
    table: str

    @property
    def label(self) -> str:
        """The name with the note behind it."""
        return f"{self.system}, {self.note}" if self.note else self.system

    @property
    def source(self) -> str:
        """Paper and table in one line."""
        return f"{self.paper}, table of {self.table}"


def quoted(names: Collection[str], queries: int, passages: int) -> tuple[str, list[Quoted]]:
    """The numbers that papers report on a data set.

    Args:
        names: what the data set may be called; a name before a slash may be left out, as in scifact.
        queries: how many judged queries it has; passages: how many passages or documents. Both must be those of
            the whole, official set, or the numbers would not be comparable.

    Returns:
        The data set's name and the papers' lines; "" and none when no paper is known for it.
    """
    file = resources.files("dupmae.report").joinpath("quoted.json")
    known = json.loads(file.read_text(encoding="utf-8"))
    for data in known["datasets"]:
        called = {data["name"], data["name"].rpartition("/")[2]}
        if called & set(names) and (data["queries"], data["passages"]) == (queries, passages):
            lines = [
                Quoted(line["system"], line["note"], line["metrics"], **known["sources"][line["source"]])
                for line in data["systems"]
            ]
            return data["name"], lines
    return "", []


def folder_names(data: Path) -> list[str]:
    """What a data folder may be called: its own name, unless that is `beir`, and that of the folder around it."""
    names = [name.lower() for name in reversed(data.resolve().parts[-2:])]
    return [name for name in names if name != "beir"] or names
