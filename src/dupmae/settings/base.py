"""The base of all settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all settings: immutable, closed to unknown keys, numbers finite.

    Attributes:
        need_not_exist: settings with paths that are written, or read only under some circumstances; all others have
            to be there when a stage starts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    need_not_exist: ClassVar[frozenset[str]] = frozenset({"out"})


def refuse_own_input(out: Path, inputs: Iterable[Path | str | None]) -> None:
    """A stage's output replaces what stands there: that must not be what it reads."""
    for source in inputs:
        if source is not None and Path(source).resolve() == out.resolve():
            raise ValueError(f"out: {out} is also an input; name another folder")
