"""Settings of `dupmae mine`, `train-reranker`, `distill` and `rerank`: hard negatives, and teachers that score them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings, refuse_own_input
from dupmae.settings.finetune import TuningOptions
from dupmae.settings.training import SAME, AnyTraining


class Mine(Settings):
    """`dupmae mine`: hard negatives of training queries, by BM25 or a retriever."""

    data: Path = Field(description="training data: BEIR or MS MARCO folder, DPR json, jsonl, parquet, hub:NAME")
    out: Path = Field(description="folder for negatives.jsonl")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    retriever: Path | None = Field(None, description="retriever folder; none: BM25")
    depth: int = Field(200, ge=1, description="negatives kept per query: the best that are no positives")
    scores: Path | None = Field(None, description="teacher's scores of these negatives; those near a positive go")
    margin: float = Field(3.0, description="a negative stays when its score is this much below the lowest positive's")
    block: int = Field(100_000, ge=1, description="passages held in memory at a time")

    @model_validator(mode="after")
    def _own_folder(self) -> Mine:
        refuse_own_input(self.out, [self.data, self.retriever, self.scores])
        return self


class TrainReranker(AnyTraining):
    """`dupmae train-reranker`: a cross-encoder trained on hard negatives, and its scores of them."""

    data: Path = Field(description="training data, as for mine")
    mined: Path = Field(description="negatives.jsonl of mine: its pairs are trained on and scored")
    out: Path = Field(description="folder for cross-encoder/ and scores.jsonl")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    model: str | None = Field(None, description="encoder to start from, folder or hub name")
    teacher: Path | None = Field(None, description="cross-encoder that only scores, nothing is trained")
    length: int | None = Field(
        None, ge=8, description="tokens of query and passage together; none: 200 to train, else what the teacher says"
    )
    epochs: float = Field(1.0, gt=0, description="passes over all positives, when steps are not given")
    batch_size: int = Field(
        8, ge=1, description="groups of a positive and its negatives per step", json_schema_extra=SAME
    )
    negatives: int = Field(7, ge=1, description="negatives in a group", json_schema_extra=SAME)
    negative_depth: int = Field(
        200, ge=1, description="negatives are drawn from this many best ones of a query", json_schema_extra=SAME
    )
    learning_rate: float = Field(1e-5, gt=0, description="peak rate")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")

    @model_validator(mode="after")
    def _possible(self) -> TrainReranker:
        if (self.model is None) == (self.teacher is None):
            raise ValueError("model: give either model, to train from, or teacher, to score with")
        refuse_own_input(self.out, [self.data, self.mined, self.model, self.teacher])
        return self


class Distill(TuningOptions):
    """`dupmae distill`: a retriever trained towards a teacher's scores."""

    retriever: Path = Field(description="retriever folder to start from; its representation is kept")
    data: Path = Field(description="training data, as for mine")
    mined: Path = Field(description="negatives.jsonl of mine")
    scores: Path = Field(description="scores.jsonl of train-reranker, for every pair of mined")
    out: Path = Field(description="retriever folder; log and checkpoints go to a folder -training beside it")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    loss: Literal["kl", "margin_mse"] = Field(
        "kl",
        description="divergence of the softmax over a query's passages, or squared error of the margins",
        json_schema_extra=SAME,
    )
    contrastive_weight: float | None = Field(
        None,
        ge=0,
        description="weight of InfoNCE beside it; none: 1e-4 times the passages of a group",
        json_schema_extra=SAME,
    )
    batch_size: int = Field(16, ge=2, description="queries per step over all processes", json_schema_extra=SAME)
    negatives: int = Field(15, ge=1, description="negatives in a query's group", json_schema_extra=SAME)
    negative_depth: int = Field(
        200, ge=1, description="negatives are drawn from this many best ones of a query", json_schema_extra=SAME
    )

    @model_validator(mode="after")
    def _own_folder(self) -> Distill:
        refuse_own_input(self.out, [self.retriever, self.data])
        return self


class Rerank(Settings):
    """`dupmae rerank`: a TREC run in a cross-encoder's order."""

    teacher: Path = Field(description="cross-encoder folder")
    data: Path = Field(description="BEIR or MS MARCO folder of the run")
    run: Path = Field(description="TREC run file")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="best passages of each query that are put in a new order")
    length: int | None = Field(
        None, ge=8, description="tokens of query and passage together; none: what the teacher says"
    )

    @model_validator(mode="after")
    def _own_folder(self) -> Rerank:
        refuse_own_input(self.out, [self.data, self.teacher])
        return self
