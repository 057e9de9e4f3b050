"""Settings of the contrastive part of pre-training."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings
from dupmae.settings.training import SAME


class ContrastiveOptions(Settings):
    """How pairs are learnt beside the unlabelled text (the second stage of the unified framework)."""

    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="weight of the contrastive term", json_schema_extra=SAME
    )
    ratio: float = Field(
        1.0,
        ge=0.001,
        le=1000,
        description="batches of pairs for each batch of text, to a thousandth; 1: both in every step, below 1: some "
        "steps without pairs, above 1: some without text",
        json_schema_extra=SAME,
    )
    batch_size: int = Field(
        32, ge=2, description="queries in a batch of pairs, over all processes", json_schema_extra=SAME
    )
    chunk_size: int | None = Field(
        None, ge=1, description="gradient caching: texts a process encodes at once, for any batch_size; none: all"
    )
    negatives: int = Field(
        1, ge=0, description="hard negatives per query (BM25 when none are given)", json_schema_extra=SAME
    )
    negative_depth: int = Field(
        50, ge=1, description="hard negatives are drawn from this many best ones of a query", json_schema_extra=SAME
    )
    query_length: int = Field(32, ge=4, description="tokens of a query, specials included", json_schema_extra=SAME)
    passage_length: int = Field(128, ge=4, description="tokens of a passage, specials included", json_schema_extra=SAME)
    query_prefix: str = Field("", description="put in front of every query", json_schema_extra=SAME)
    passage_prefix: str = Field("", description="put in front of every passage and its title", json_schema_extra=SAME)
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto",
        description="the encoder's state that is a text's vector; auto: as the start was tuned, else [CLS]",
        json_schema_extra=SAME,
    )
    similarity: Literal["cosine", "dot"] = Field(
        "cosine", description="score of two vectors, over the temperature", json_schema_extra=SAME
    )
    temperature: float = Field(
        0.05, gt=0, allow_inf_nan=False, description="divides the scores; 1 suits dot", json_schema_extra=SAME
    )


class Contrastive(ContrastiveOptions):
    """Pairs beside the unlabelled text."""

    data: Path = Field(description="training data: BEIR or MS MARCO folder, DPR json, jsonl, csv, parquet, hub:NAME")
    mined: Path | None = Field(None, description="hard negatives by id, such as negatives.jsonl of mine")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")

    @model_validator(mode="after")
    def _drawn(self) -> Contrastive:
        if self.mined is not None and not self.negatives:
            raise ValueError("contrastive.mined: nothing is drawn from it with contrastive.negatives: 0")
        return self
