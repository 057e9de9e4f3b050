"""Settings of `dupmae index`, `search`, `evaluate`, and of what else is measured beside retrievers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings
from dupmae.settings.representation import Representation, RetrieverSettings


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
    """`dupmae evaluate`: metrics of a system on a folder in the BEIR or MS MARCO layout."""

    retriever: Path | None = Field(None, description="retriever folder; its passages are encoded for the measure")
    index: Path | None = Field(None, description="index of the folder's passages, instead of a retriever")
    bm25: bool = Field(False, description="rank with BM25, instead of a retriever")
    part: Literal["hybrid", "dense", "sparse"] = Field(
        "hybrid", description="hybrid: all of the vectors; dense, sparse: one part of them"
    )
    data: Path = Field(description="BEIR or MS MARCO folder")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="passages kept per query")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )

    @model_validator(mode="after")
    def _one_system(self) -> Evaluate:
        if (self.retriever is not None) + (self.index is not None) + self.bm25 != 1:
            raise ValueError("retriever is not given, or more than one of retriever, index and bm25")
        if self.bm25 and self.part != "hybrid":
            raise ValueError("part: bm25 has no parts")
        return self


class FromEncoder(RetrieverSettings):
    """`from-encoder`: an encoder as it comes, saved as a retriever: the baseline that needs no training."""

    model: str = Field(description="encoder or masked LM, folder or hub name")
    representation: Representation = Field(
        Representation(kind="cls"), description="its vectors, at its own width unless dimensions are given"
    )
    out: Path = Field(description="retriever folder")


class Merge(Settings):
    """`merge`: one ranking of two or more, by reciprocal ranks or by a weighted sum of scores."""

    runs: list[Path] = Field(min_length=2, max_length=4, description="folders by evaluate, of the same split")
    dev_runs: list[Path] = Field(
        [],
        description="folders of the same systems on the dev split, whose queries choose the weights of the scores; "
        "none: reciprocal ranks",
    )
    data: Path = Field(description="BEIR or MS MARCO folder")
    split: str = Field("test", description="name of the qrels file")
    dev_split: str = Field("dev", description="name of the qrels file of dev_runs")
    depth: int = Field(100, ge=1, description="passages kept per query")
    out: Path = Field(description="folder for metrics.json and run.trec")

    @model_validator(mode="after")
    def _paired(self) -> Merge:
        if self.dev_runs and len(self.dev_runs) != len(self.runs):
            raise ValueError(f"dev_runs: {len(self.dev_runs)} given for {len(self.runs)} runs")
        return self
