"""Settings of `dupmae prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings, refuse_own_input


class Prepare(Settings):
    """`dupmae prepare`: raw text to tokenised shards."""

    inputs: list[Path] = Field(
        description="jsonl, txt, tsv, parquet files, globs, folders (BEIR, MS MARCO, of files), hub:NAME:CONFIG:SPLIT"
    )
    out: Path = Field(description="folder for the shards")
    text: Literal["articles", "passages"] = Field(
        "articles", description="articles: whole sentences of one article joined; passages: each kept whole"
    )
    language: str = Field("en", description="ISO 639 code of the articles, for the splitting into sentences")
    tokenizer: str | None = Field(
        None, description="folder or hub name of a fast tokenizer; none: train a WordPiece one"
    )
    vocabulary: int = Field(8000, ge=100, description="vocabulary size when the tokenizer is trained")
    max_length: int = Field(
        512, ge=8, description="tokens per record, specials included; what is longer is cut at words"
    )
    shard_records: int = Field(500_000, ge=1, description="records per shard")
    workers: int | None = Field(None, ge=1, description="processes that tokenise; none: one a core")

    @model_validator(mode="after")
    def _own_folder(self) -> Prepare:
        refuse_own_input(self.out, self.inputs)
        return self
