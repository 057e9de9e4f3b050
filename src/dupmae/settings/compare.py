"""Settings of `dupmae compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dupmae.settings.base import Settings


class Compare(Settings):
    """`dupmae compare`: several systems on the same queries."""

    inputs: list[Path] = Field(min_length=1, description="metrics.json files by evaluate, or their folders")
    out: Path | None = Field(None, description="folder for report.html, tables and pictures; none: only shown")
    data: Path | None = Field(None, description="folder of the data; none: the one that the results name")
    bm25: bool = Field(False, description="rank with BM25, too, as the first system")
    names: list[str] = Field([], description="what to call the systems; none: what tells their paths apart")
    metric: str | None = Field(
        None, description="metric that is compared; none: the main one of the suite, or the first"
    )
    baseline: str | None = Field(
        None, description="name of the system that all others are compared with; none: every pair is compared"
    )
    test: Literal["randomization", "t-test"] = Field("randomization", description="paired test of the differences")
    movers: int = Field(5, ge=0, description="queries to show of each pair's largest gains, and of its largest losses")
