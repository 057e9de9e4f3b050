"""Texts of a data set on the Hugging Face hub, streamed through `datasets` and never stored.

`hub_address` reads what follows `hub:`; `open_hub` reaches the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dupmae.corpus.lines import encodable
from dupmae.errors import DupmaeError

PREFIX = "hub:"


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A data set of the hub: its name, configuration (none: its only one) and split."""

    name: str
    config: str | None
    split: str

    def __str__(self) -> str:
        return PREFIX + ":".join(part for part in (self.name, self.config, self.split) if part)


def hub_address(text: str) -> HubAddress | None:
    """Read `hub:NAME[:CONFIG[:SPLIT]]`; None for anything that does not begin with `hub:`.

    The split is `train` when none is given; an empty configuration stands for the only one.

    Raises:
        DupmaeError: when it begins so but goes on otherwise.
    """
    if not text.startswith(PREFIX):
        return None
    name, *rest = text.removeprefix(PREFIX).split(":")
    if not name or len(rest) > 2:
        raise DupmaeError("not an address of a data set", where=text, fix="write hub:NAME, hub:NAME:CONFIG:SPLIT")
    config, split = [*rest, "", ""][:2]
    return HubAddress(name, config or None, split or "train")


def open_hub(address: HubAddress) -> Callable[[], Iterator[tuple[str, str]]]:
    """Reach a data set; what comes back gives (title, text) of its rows, the title empty where there is none.

    Raises:
        DupmaeError: when `datasets` is not installed, or the data set cannot be reached or has no such part.
    """
    try:
        from datasets import load_dataset  # type: ignore[import-untyped]
    except ImportError:
        raise DupmaeError("needs the package datasets", where=str(address), fix='pip install "dupmae[hub]"') from None
    try:
        rows = load_dataset(address.name, address.config, split=address.split, streaming=True)
    except Exception as error:
        # The library raises a dozen kinds for a name, a split or a network that is not there.
        fix = "check name, configuration, split and network, or give files"
        raise DupmaeError(f"cannot open the data set: {_reason(error)}", where=str(address), fix=fix) from error
    return lambda: _documents(address, iter(rows))


def _documents(address: HubAddress, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    number = 0
    while True:
        try:
            row = next(rows, None)
        except Exception as error:
            problem = f"broke off after {number:,} rows: {_reason(error)}"
            raise DupmaeError(problem, where=str(address), fix="check the network and run it again") from error
        if row is None:
            return
        number += 1
        title, text = row.get("title") or "", row.get("text") or ""
        if "text" not in row or not isinstance(text, str) or not isinstance(title, str):
            problem = f"row {number} has no column `text` with text (has {', '.join(row)})"
            raise DupmaeError(problem, where=str(address), fix="choose a data set with a column `text`")
        yield encodable(title), encodable(text)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
