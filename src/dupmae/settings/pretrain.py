"""Settings of `dupmae pretrain`, `plan` and `report`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dupmae.settings.base import Settings, refuse_own_input
from dupmae.settings.contrastive import Contrastive
from dupmae.settings.objectives import Masking, Objective
from dupmae.settings.training import SAME, TrainingOptions


class FromScratch(Settings):
    """A small BERT trained from nothing."""

    layers: int = Field(4, ge=1, description="transformer layers")
    hidden: int = Field(256, ge=8, description="hidden size; a multiple of heads")
    heads: int = Field(4, ge=1, description="attention heads")

    @model_validator(mode="after")
    def _divisible(self) -> FromScratch:
        if self.hidden % self.heads:
            raise ValueError("from_scratch.hidden must be a multiple of from_scratch.heads")
        return self


class PretrainOptions(TrainingOptions):
    """How to pre-train, whatever the data and the model."""

    objective: Objective = Field(Objective(), json_schema_extra=SAME)
    masking: Masking = Field(Masking(), json_schema_extra=SAME)
    batch_tokens: int = Field(
        4096, ge=16, description="tokens per step over all processes, padding included", json_schema_extra=SAME
    )
    flops: float | None = Field(
        None, gt=0, description="operations to spend, counted as `dupmae plan` does; turned into steps"
    )
    learning_rate: float = Field(1e-4, gt=0, description="peak rate of the encoder")
    new_learning_rate: float | None = Field(
        None, gt=0, description="peak rate of freshly started parts (decoder, head); none: the encoder's"
    )
    head_start: Literal["auto", "ridge", "keep"] = Field(
        "auto",
        description="vocabulary head: ridge: started in closed form; keep: as loaded; auto: ridge if none was loaded",
    )
    accumulate: int = Field(1, ge=1, description="passes that each process deals its share of batch_tokens out to")
    sharding: Literal["none", "full"] = Field(
        "none", description="weights in several processes: a replica each (DDP), or a share each (FSDP2)"
    )
    activation_checkpointing: bool = Field(False, description="compute layers twice instead of keeping their states")
    compile: bool = Field(False, description="run the step through torch.compile: for GPUs, slower on CPUs")
    probe_every: int | None = Field(
        None, ge=0, description="steps between retrieval probes, 0: no probes; none: as many as cost less than 2%"
    )
    patience: int | None = Field(
        None, ge=1, description="end after this many probes without a better one; none: go through all steps"
    )

    @model_validator(mode="after")
    def _probed(self) -> PretrainOptions:
        if self.patience is not None and self.probe_every == 0:
            raise ValueError("patience: there is nothing to wait for with probe_every: 0")
        return self


class Planned(Settings):
    """Sizes of data and model, for `dupmae plan` before either is there."""

    records: int = Field(ge=1, description="records of the data")
    tokens: int = Field(ge=1, description="tokens of the data, specials included")
    layers: int = Field(12, ge=1, description="transformer layers (12: BERT-base, like all sizes here)")
    hidden: int = Field(768, ge=1, description="hidden size")
    intermediate: int = Field(3072, ge=1, description="width of the feed-forward layers")
    vocabulary: int = Field(30_522, ge=1, description="vocabulary size")


class Pretrain(PretrainOptions):
    """`dupmae pretrain`: shards to an encoder."""

    data: list[Path] = Field(
        min_length=1, max_length=1000, description="folder written by prepare, or several to be mixed"
    )
    weights: list[float] | None = Field(
        None,
        description="share of the batches of each folder in data, such as [3, 1]; none: by their tokens",
        json_schema_extra=SAME,
    )
    model: str | None = Field(
        None,
        description="masked LM or encoder, folder or hub name, or the folder of an earlier run, which goes on with its "
        "decoder; none: from_scratch",
    )
    from_scratch: FromScratch = Field(FromScratch(), description="shape used when no model is given")
    contrastive: Contrastive | None = Field(None, description="pairs to train on as well; none: unlabelled text alone")
    out: Path = Field(description="run folder: encoder/, checkpoint-*/, log.jsonl")
    probe: Path | None = Field(
        None,
        description="BEIR or MS MARCO folder of the retrieval probe; none: halves of training texts find each other",
    )
    probe_split: str = Field("dev", description="name of the probe's qrels file")
    planned: Planned | None = Field(None, description="sizes that `dupmae plan` reckons with; none: those of data")

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _own_folder(self) -> Pretrain:
        pairs = [] if self.contrastive is None else [self.contrastive.data, self.contrastive.mined]
        refuse_own_input(self.out, [*self.data, self.model, *pairs])
        return self

    @model_validator(mode="after")
    def _joined(self) -> Pretrain:
        if self.contrastive is None:
            return self
        if self.sharding != "none":
            raise ValueError("sharding: contrastive keeps a replica in every process, give sharding: none")
        if self.compile:
            raise ValueError("compile: does not go with contrastive, whose batches have two shapes of text")
        if self.accumulate > 1 and self.contrastive.ratio > 1:
            raise ValueError("accumulate: deals out text, which steps lack with contrastive.ratio above 1")
        return self

    @model_validator(mode="after")
    def _one_weight_each(self) -> Pretrain:
        if self.weights is not None and len(self.weights) != len(self.data):
            raise ValueError(f"weights: {len(self.weights)} given for {len(self.data)} folders in data")
        if self.weights is not None and not all(0 < weight < math.inf for weight in self.weights):
            raise ValueError("weights: each must be above 0")
        if len({path.resolve() for path in self.data}) < len(self.data):
            raise ValueError("data: names a folder twice")
        return self


class Plan(Pretrain):
    """`dupmae plan`: time and cost of a pre-training recipe, before it is run."""

    # With sizes given there need be neither data nor a model.
    need_not_exist = frozenset({"out", "data", "model", "probe", "contrastive"})

    gpu: Literal["h100", "h100-pcie", "h200", "a100", "l40s", "l4", "a10", "cpu"] = Field(
        "h100", description="accelerator; cpu: this machine, measured"
    )
    count: int = Field(1, ge=1, description="how many of them")
    utilisation: float | None = Field(
        None, gt=0, le=1, description="share of the peak that training reaches; none: that of like, or assumed"
    )
    like: Path | None = Field(None, description="folder of a run on such accelerators, whose log says how fast it was")
    price: float | None = Field(None, ge=0, description="price of one of them for an hour, in any currency")


class Report(Settings):
    """`dupmae report`: the curves of a run."""

    run: Path = Field(description="folder of a pre-training or fine-tuning run, with log.jsonl in it")
