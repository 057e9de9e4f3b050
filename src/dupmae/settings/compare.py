"""Settings of `dupmae compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from dupmae.settings.base import Settings


class Compare(Settings):
    """`dupmae compare`: several systems on the same queries."""

    inputs: dict[str, Path] | list[Path] = Field(
        min_length=1,
        description="metrics.json files by evaluate, or their folders; as NAME: FOLDER pairs, or as a list, whose "
        "systems are called by what tells the paths apart",
    )
    labels: dict[str, str] = Field({}, description="what people read for a system's name; none: the name")
    out: Path | None = Field(None, description="folder for the report; none: only shown")
    data: Path | None = Field(None, description="folder of the data; none: the one that the results name")
    bm25: bool = Field(False, description="rank with BM25, too, as the first system")
    metric: str | None = Field(
        None, description="metric that is compared; none: the main one of the suite, or the first"
    )
    baseline: str | None = Field(
        None, description="name of the system that all others are compared with; none: every pair is compared"
    )
    test: Literal["randomization", "t-test"] = Field("randomization", description="paired test of the differences")
    movers: int = Field(5, ge=0, description="queries to show of each pair's largest gains, and of its largest losses")
    logs: dict[str, Path] = Field(
        {}, description="log.jsonl files or their folders by the name of the training, whose curves are drawn"
    )
    index: Path | None = Field(None, description="index folder that example searches are made in; none: no examples")
    examples: int = Field(10, ge=0, description="test queries drawn at random for the example searches")
    seed: int = Field(0, ge=0, description="of the drawing of examples")
    chain: Path | None = Field(
        None, description="folder of a chain whose stages' time, memory and settings are shown; none: not shown"
    )
