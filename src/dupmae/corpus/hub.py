"""Data sets of the Hugging Face hub, streamed through `datasets` and never stored.

`hub_address` reads what follows `hub:`; `open_hub` reaches the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae.corpus.lines import Record, cleaned
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


def needs_datasets(where: str | Path) -> Any:
    """The package `datasets`.

    Raises:
        DupmaeError: when it is not installed.
    """
    try:
        import datasets  # type: ignore[import-untyped]
    except ImportError:
        raise DupmaeError("needs the package datasets", where=where, fix='pip install "dupmae[hub]"') from None
    return datasets


def open_hub(address: HubAddress) -> Callable[[], Iterator[tuple[int, Record]]]:
    """Reach a data set; what comes back gives its rows, counted from 1.

    Raises:
        DupmaeError: when `datasets` is not installed, or the data set cannot be reached or has no such part.
    """
    datasets = needs_datasets(str(address))
    try:
        rows = datasets.load_dataset(address.name, address.config, split=address.split, streaming=True)
    except Exception as error:
        # The library raises a dozen kinds for a name, a split or a network that is not there.
        fix = "check name, configuration, split and network, or give files"
        raise DupmaeError(f"cannot open the data set: {_reason(error)}", where=str(address), fix=fix) from error
    return lambda: _rows(address, iter(rows))


def _rows(address: HubAddress, rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, Record]]:
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
        yield number, cleaned(row)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
