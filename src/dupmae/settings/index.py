"""Settings of `dupmae index`, `search` and `evaluate`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dupmae.settings.base import Settings


class Index(Settings):
    """`dupmae index`: a retriever and a corpus to a searchable folder."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(
        description="BEIR or MS MARCO folder, or text as for prepare (files, globs, hub:NAME); ids are kept"
    )
    out: Path = Field(description="index folder")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )


class Search(Settings):
    """`dupmae search`: ask an index."""

    index: Path = Field(description="index folder, or a run's folder with index/ in it")
    query: str = Field(description="what to look for")
    k: int = Field(10, ge=1, description="passages to show")


class Evaluate(Settings):
    """`dupmae evaluate`: metrics of a retriever on a folder in the BEIR or MS MARCO layout."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(description="BEIR or MS MARCO folder")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="passages kept per query")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )
