"""Settings of `dupmae finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings, refuse_own_input
from dupmae.settings.representation import RetrieverSettings


class TuningOptions(Settings):
    """How a retriever is trained on queries with passages, by labels or by a teacher's scores."""

    steps: int | None = Field(None, ge=1, description="optimizer steps; none: as many as fit in minutes")
    epochs: float | None = Field(None, gt=0, description="passes over the queries, when steps are not given")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    batch_size: int = Field(32, ge=2, description="queries per step over all processes")
    chunk_size: int | None = Field(
        None, ge=1, description="gradient caching: texts a process encodes at once, for any batch_size; none: all"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak rate of the encoder")
    new_learning_rate: float = Field(1e-3, gt=0, description="peak rate of projection, part weights and term weights")
    part_loss_weight: float = Field(0.5, ge=0, description="weight of each part's own InfoNCE beside the sum's")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout everywhere; none: the model's own")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, matrices only")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    save_every: int | None = Field(
        None, ge=0, description="steps between checkpoints, 0: no checkpoints; none: ten minutes"
    )
    max_bad_steps: int = Field(10, ge=0, description="steps without finite loss and gradient that may be skipped")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the hardware has it")
    seed: int = Field(0, ge=0, description="of dropout and batches")


class FinetuneOptions(TuningOptions, RetrieverSettings):
    """How to fine-tune, whatever the data and the model."""

    negatives: int = Field(1, ge=0, description="hard negatives per query (BM25 when none are given)")
    negative_depth: int = Field(50, ge=1, description="hard negatives are drawn from this many best ones of a query")


class Finetune(FinetuneOptions):
    """`dupmae finetune`: an encoder and pairs to a retriever."""

    model: str = Field(description="encoder or masked LM, folder or hub name; a retriever folder is trained on")
    data: Path = Field(description="training data: BEIR or MS MARCO folder, DPR json, jsonl, parquet, hub:NAME")
    mined: Path | None = Field(None, description="hard negatives by id, such as negatives.jsonl of mine")
    remine_every: int | None = Field(
        None, ge=1, description="steps after which hard negatives are mined anew with the present weights; none: never"
    )
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    dev: Path | None = Field(
        None,
        description="sentence pairs with scores, STS Benchmark table or jsonl: the weights whose cosines rank them "
        "best are kept; none: the last",
    )
    dev_every: int = Field(125, ge=1, description="steps between measurements on dev")
    out: Path = Field(description="retriever folder; log and checkpoints go to a folder -training beside it")
    resume: bool = Field(False, description="go on from the last checkpoint, if there is one")

    @model_validator(mode="after")
    def _saved(self) -> Finetune:
        if self.resume and self.save_every == 0:
            raise ValueError("resume: there are no checkpoints with save_every: 0")
        return self

    @model_validator(mode="after")
    def _measured(self) -> Finetune:
        if self.dev is not None and self.representation.kind == "bow":
            raise ValueError("dev: there are no dense vectors to take the cosine of with representation.kind: bow")
        return self

    @model_validator(mode="after")
    def _own_folder(self) -> Finetune:
        refuse_own_input(self.out, [self.data, self.model, self.mined, self.dev])
        return self
