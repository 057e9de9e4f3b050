"""Settings of `dupmae evaluate --suite`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from dupmae.settings.base import Settings

SuiteName = Literal[
    "msmarco-passage",
    "msmarco-document",
    "trec-dl-2019",
    "trec-dl-2020",
    "nq",
    "triviaqa",
    "beir",
    "sts",
    "senteval-transfer",
]


RANKING = tuple(name for name in get_args(SuiteName) if name not in ("sts", "senteval-transfer"))
# What only some suites read.
READ_BY = {
    "sets": ("beir", "sts", "senteval-transfer"),
    "split": ("beir",),
    "passage_words": ("msmarco-document",),
    "folds": ("senteval-transfer",),
    **dict.fromkeys(("depth", "shard", "shards", "keep_shards"), RANKING),
}


class SuiteOptions(Settings):
    """How a suite is measured, whatever the retriever and the data."""

    part: Literal["hybrid", "dense", "sparse"] = Field(
        "hybrid", description="hybrid: all of the vectors; dense, sparse: one part of them"
    )
    official: bool = Field(
        True, description="refuse data that has not the official counts; false: take it, and say so in the results"
    )
    sets: list[str] = Field([], description="of beir: these data sets; of sts and senteval-transfer: these tasks")
    split: str = Field("test", description="of beir: name of the qrels file")
    depth: int | None = Field(
        None, ge=1, description="passages kept per query; none: as deep as the suite's metrics look"
    )
    passage_words: int = Field(
        100, ge=1, description="of msmarco-document: words of a passage; a document scores what its best passage does"
    )
    folds: int = Field(10, ge=2, description="of senteval-transfer: folds of the cross-validation")
    shard: int = Field(100_000, ge=1, description="passages encoded, kept and searched together")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )


class EvaluateSuite(SuiteOptions):
    """`dupmae evaluate --suite`: one of the papers' benchmarks."""

    need_not_exist = frozenset({"out", "shards"})

    suite: SuiteName = Field(description="a public benchmark, such as msmarco-passage or beir; all names are below")
    retriever: Path = Field(description="retriever folder")
    data: Path | None = Field(None, description="folder with the official files; none: tells which they are")
    out: Path | None = Field(
        None, description="folder for the results; none: SUITE in a folder RETRIEVER-evaluation beside the retriever"
    )
    shards: Path | None = Field(
        None, description="folder for the encoded passages; none: a folder RETRIEVER-shards beside the retriever"
    )
    keep_shards: bool = Field(True, description="leave the encoded passages for other suites of the same corpus")

    @model_validator(mode="after")
    def _read_by_the_suite(self) -> EvaluateSuite:
        for name, suites in READ_BY.items():
            if self.suite not in suites and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{self.suite} does not read {name}")
        return self
