"""The base of all settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

# Largest whole numbers by the names of settings, far above any use: beyond them memory runs out before an error comes.
LARGEST = {
    **dict.fromkeys(("workers", "layers", "heads", "folds"), 1_024),
    **dict.fromkeys(("dimensions", "aggregated_dimensions", "hidden", "intermediate"), 65_536),
    **dict.fromkeys(("length", "query_length", "passage_length", "max_length", "passage_words"), 100_000),
    **dict.fromkeys(("k", "depth", "negative_depth", "negatives", "top_k", "movers", "examples"), 1_000_000),
    **dict.fromkeys(("batch_size", "chunk_size"), 1_000_000),
    **dict.fromkeys(("vocabulary", "count"), 10_000_000),
    "seed": 2**32 - 1,
    "": 10**15,
}


class Settings(BaseModel):
    """Base of all settings: immutable, closed to unknown keys, numbers finite.

    Attributes:
        need_not_exist: settings with paths that are written, or read only under some circumstances; all others have
            to be there when a stage starts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
    need_not_exist: ClassVar[frozenset[str]] = frozenset({"out"})

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any, info: ValidationInfo) -> Any:
        largest = LARGEST.get(info.field_name or "", LARGEST[""])
        if isinstance(value, int) and value > largest:
            raise ValueError(f"{info.field_name}: at most {largest:,}")
        return value

    @field_validator("out", mode="after", check_fields=False)
    @classmethod
    def _named(cls, out: Path | None) -> Path | None:
        # `.` and `..` have no name that others could be formed from, such as that of the folder beside it.
        return out.resolve() if out is not None and out.name in ("", "..") else out


def refuse_own_input(out: Path, inputs: Iterable[Path | str | None]) -> None:
    """A stage's output replaces what stands there: that must not be what it reads."""
    for source in inputs:
        if source is not None and Path(source).resolve() == out.resolve():
            raise ValueError(f"out: {out} is also an input; name another folder")
