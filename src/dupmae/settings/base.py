"""The base of all settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all settings: immutable, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def refuse_own_input(out: Path, inputs: Iterable[Path | str | None]) -> None:
    """A stage's output replaces what stands there: that must not be what it reads."""
    for source in inputs:
        if source is not None and Path(source).resolve() == out.resolve():
            raise ValueError(f"out: {out} is also an input; name another folder")
