"""Settings of `dupmae finetune`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from dupmae.settings.base import refuse_own_input
from dupmae.settings.representation import RetrieverSettings
from dupmae.settings.training import SAME, TrainingOptions


class TuningOptions(TrainingOptions):
    """How a retriever is trained on queries with passages, by labels or by a teacher's scores."""

    batch_size: int = Field(32, ge=2, description="queries per step over all processes", json_schema_extra=SAME)
    chunk_size: int | None = Field(
        None, ge=1, description="gradient caching: texts a process encodes at once, for any batch_size; none: all"
    )
    negatives: int = Field(
        1, ge=0, description="hard negatives per query (BM25 when none are given)", json_schema_extra=SAME
    )
    negative_depth: int = Field(
        50, ge=1, description="hard negatives are drawn from this many best ones of a query", json_schema_extra=SAME
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak rate of the encoder")
    new_learning_rate: float | None = Field(
        1e-3, gt=0, description="peak rate of projection, part weights and term weights; none: learning_rate"
    )
    part_loss_weight: float = Field(
        0.5, ge=0, description="weight of each part's own InfoNCE beside the sum's", json_schema_extra=SAME
    )


class FinetuneOptions(TuningOptions, RetrieverSettings):
    """How to fine-tune, whatever the data and the model."""


class Finetune(FinetuneOptions):
    """`dupmae finetune`: an encoder and pairs to a retriever."""

    model: str = Field(description="encoder or masked LM, folder or hub name; a retriever folder is trained on")
    data: Path = Field(description="training data: BEIR or MS MARCO folder, DPR json, jsonl, parquet, hub:NAME")
    mined: Path | None = Field(None, description="hard negatives by id, such as negatives.jsonl of mine")
    remine_every: int | None = Field(
        None,
        ge=1,
        description="steps after which hard negatives are mined anew with the present weights; none: never",
        json_schema_extra=SAME,
    )
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    steps_of: Path | None = Field(
        None, description="retriever folder of an earlier fine-tuning: as many steps as it took, for a fair comparison"
    )
    dev: Path | None = Field(
        None,
        description="sentence pairs with scores, STS Benchmark table or jsonl: the weights whose cosines rank them "
        "best are kept; none: the last",
    )
    dev_every: int = Field(125, ge=1, description="steps between measurements on dev")
    out: Path = Field(description="retriever folder; log and checkpoints go to a folder -training beside it")

    @model_validator(mode="after")
    def _measured(self) -> Finetune:
        if self.dev is not None and self.representation.kind == "bow":
            raise ValueError("dev: there are no dense vectors to take the cosine of with representation.kind: bow")
        return self

    @model_validator(mode="after")
    def _own_folder(self) -> Finetune:
        refuse_own_input(self.out, [self.data, self.model, self.mined, self.dev])
        return self
