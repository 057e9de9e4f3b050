"""Typed settings of every stage, read from YAML with `key=value` overrides.

A recipe is a YAML file whose keys are the fields of one settings class. Unknown keys and
combinations that cannot work are refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """Base of all settings: immutable, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def _refuse_own_input(out: Path, inputs: Iterable[Path | str | None]) -> None:
    """A stage's output replaces what stands there: that must not be what it reads."""
    for source in inputs:
        if source is not None and Path(source).resolve() == out.resolve():
            raise ValueError(f"out: {out} is also an input; name another folder")


class Masking(Settings):
    """How tokens are hidden on both sides."""

    encoder_rate: float = Field(0.3, gt=0, lt=1, description="share of ordinary tokens masked for the encoder")
    decoder_rate: float = Field(0.5, gt=0, lt=1, description="share of positions hidden from each decoder row")
    decoder_unit: Literal["word", "token"] = Field(
        "word",
        description="unit hidden from a decoder row: whole words (author code) or single tokens (paper)",
    )
    corruption: bool = Field(
        True,
        description="encoder side 80% [MASK], 10% random token, 10% unchanged (BERT); false: always [MASK]",
    )


class Objective(Settings):
    """What pre-training optimises: the sum of weighted terms."""

    kind: Literal["mlm", "retromae", "dupmae"] = Field("dupmae", description="pre-training objective")
    decoder: Literal["enhanced", "basic"] = Field("enhanced", description="decoder of the [CLS] reconstruction")
    decoder_queries: Literal["sum", "embedded"] = Field(
        "sum",
        description="query stream: h + p (papers) or LayerNorm(h + p + segment) (author code for DupMAE)",
    )
    bow: Literal["paper", "author"] = Field(
        "paper",
        description="bag-of-words term: masked positions excluded, weight 1 a token; or the author code's",
    )
    mlm_weight: float = Field(1.0, ge=0, description="weight of the encoder's masked-token term")
    decoder_weight: float = Field(1.0, ge=0, description="weight of the [CLS] reconstruction term")
    bow_weight: float = Field(1.0, ge=0, description="weight of the bag-of-words term")

    @model_validator(mode="after")
    def _possible(self) -> Objective:
        if self.decoder == "basic" and self.decoder_queries == "embedded":
            raise ValueError("objective.decoder_queries: 'embedded' needs objective.decoder: enhanced")
        return self


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


class Prepare(Settings):
    """`dupmae prepare`: raw text to tokenised shards."""

    inputs: list[Path] = Field(
        description="jsonl, txt, parquet files, globs, folders (BEIR or of such files), data sets hub:NAME:CONFIG:SPLIT"
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
        _refuse_own_input(self.out, self.inputs)
        return self


class PretrainOptions(Settings):
    """How to pre-train, whatever the data and the model."""

    objective: Objective = Objective()
    masking: Masking = Masking()
    steps: int | None = Field(None, ge=1, description="optimizer steps; none: as many as fit in minutes")
    epochs: float | None = Field(None, gt=0, description="passes over the data, when steps are not given")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    batch_tokens: int = Field(4096, ge=16, description="tokens per step over all processes, padding included")
    learning_rate: float = Field(1e-4, gt=0, description="peak rate of the encoder")
    new_learning_rate: float | None = Field(
        None, gt=0, description="peak rate of freshly started parts (decoder, head); none: the encoder's"
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, matrices only")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout everywhere; none: the model's own")
    head_start: Literal["auto", "ridge", "keep"] = Field(
        "auto",
        description="vocabulary head: closed-form ridge start, as loaded, or ridge only where none was loaded",
    )
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; none: ten minutes")
    max_bad_steps: int = Field(10, ge=0, description="steps without finite loss and gradient that may be skipped")
    accumulate: int = Field(1, ge=1, description="passes that each process deals its share of batch_tokens out to")
    sharding: Literal["none", "full"] = Field(
        "none", description="weights in several processes: a replica each (DDP), or a share each (FSDP2)"
    )
    activation_checkpointing: bool = Field(False, description="compute layers twice instead of keeping their states")
    compile: bool = Field(False, description="run the step through torch.compile: for GPUs, slower on CPUs")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    probe_every: int | None = Field(
        None, ge=0, description="steps between retrieval probes, 0: no probes; none: as many as cost less than 2%"
    )
    patience: int | None = Field(
        None, ge=1, description="end after this many probes without a better one; none: go through all steps"
    )
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the hardware has it")
    seed: int = Field(0, ge=0, description="of dropout, masks and batches")

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
        None, description="share of the batches of each folder in data, such as [3, 1]; none: by their tokens"
    )
    model: str | None = Field(
        None,
        description="masked LM or encoder, folder or hub name, or the folder of an earlier run, which goes on with its "
        "decoder; none: from_scratch",
    )
    from_scratch: FromScratch = Field(FromScratch(), description="shape used when no model is given")
    out: Path = Field(description="run folder: encoder/, checkpoint-*/, log.jsonl")
    resume: bool = Field(False, description="go on from the last checkpoint in out, if there is one")
    probe: Path | None = Field(
        None, description="BEIR folder of the retrieval probe; none: halves of training texts find each other"
    )
    probe_split: str = Field("dev", description="name of the probe's qrels file")
    planned: Planned | None = Field(None, description="sizes that `dupmae plan` reckons with; none: those of data")

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _own_folder(self) -> Pretrain:
        _refuse_own_input(self.out, [*self.data, self.model])
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

    gpu: Literal["h100", "h100-pcie", "h200", "a100", "l40s", "l4", "a10", "cpu"] = Field(
        "h100", description="accelerator; cpu: this machine, measured"
    )
    count: int = Field(1, ge=1, description="how many of them")
    utilisation: float | None = Field(
        None, gt=0, le=1, description="share of the peak that training reaches; none: that of like, or assumed"
    )
    like: Path | None = Field(None, description="run folder whose log says what utilisation was measured")
    price: float | None = Field(None, ge=0, description="price of one of them for an hour, in any currency")


class Report(Settings):
    """`dupmae report`: the curves of a run."""

    run: Path = Field(description="folder of a pre-training or fine-tuning run, with log.jsonl in it")


class Representation(Settings):
    """The hybrid vector: a dense part and the top-k of the vocabulary part (DupMAE, eqs 10-12)."""

    kind: Literal["dense", "sparse", "hybrid"] = Field("hybrid", description="which parts the score sums")
    dimensions: int = Field(384, ge=1, description="d', width of the dense part")
    top_k: int = Field(384, ge=1, description="vocabulary entries a passage keeps")
    activation: Literal["log1p_relu", "relu"] = Field("log1p_relu", description="non-linearity before the top-k")
    pooling: Literal["cls", "mean"] = Field("cls", description="what the dense part is read from")
    normalize: bool = Field(False, description="scale the dense part to unit length")
    term_weights: Literal["idf", "none"] = Field(
        "idf", description="learned per-term weights started at the corpus idf, or none as in the paper"
    )


class RetrieverSettings(Settings):
    """What a retriever folder remembers of how it was trained."""

    representation: Representation = Representation()
    query_length: int = Field(32, ge=4, description="tokens of a query, specials included")
    passage_length: int = Field(128, ge=4, description="tokens of a passage, specials included")


class FinetuneOptions(Settings):
    """How to fine-tune, whatever the data and the model."""

    representation: Representation = Representation()
    steps: int | None = Field(None, ge=1, description="optimizer steps; none: as many as fit in minutes")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    batch_size: int = Field(32, ge=2, description="queries per step")
    negatives: int = Field(1, ge=0, description="hard negatives per query (BM25 when none are given)")
    negative_depth: int = Field(50, ge=1, description="hard negatives are drawn from this many best BM25 passages")
    query_length: int = Field(32, ge=4, description="tokens of a query, specials included")
    passage_length: int = Field(128, ge=4, description="tokens of a passage, specials included")
    learning_rate: float = Field(2e-5, gt=0, description="peak rate of the encoder")
    new_learning_rate: float = Field(1e-3, gt=0, description="peak rate of projection, part weights and term weights")
    part_loss_weight: float = Field(0.5, ge=0, description="weight of each part's own InfoNCE beside the sum's")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout everywhere; none: the model's own")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, matrices only")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the hardware has it")
    seed: int = Field(0, ge=0, description="of dropout, masks and batches")


class Finetune(FinetuneOptions):
    """`dupmae finetune`: an encoder and pairs to a retriever."""

    model: str = Field(description="encoder or masked LM, folder or hub name")
    data: Path = Field(description="BEIR folder with qrels/train.tsv, or a jsonl of query/positive/negatives")
    out: Path = Field(description="retriever folder")

    @model_validator(mode="after")
    def _own_folder(self) -> Finetune:
        _refuse_own_input(self.out, [self.data, self.model])
        return self


class Index(Settings):
    """`dupmae index`: a retriever and a corpus to a searchable folder."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(description="BEIR folder or jsonl of passages")
    out: Path = Field(description="index folder")
    batch_tokens: int = Field(8192, ge=16, description="tokens per encoding batch, padding included")


class Evaluate(Settings):
    """`dupmae evaluate`: metrics of a retriever on a BEIR folder."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(description="BEIR folder")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="passages kept per query")
    batch_tokens: int = Field(8192, ge=16, description="tokens per encoding batch, padding included")


class Quickstart(Settings):
    """`dupmae quickstart`: the documentation of the installed packages to a measured hybrid retriever."""

    out: Path = Field(Path("runs/quickstart"), description="run folder")
    minutes: float = Field(8.0, gt=0, description="pre-training budget")
    finetune_minutes: float | None = Field(
        None, gt=0, description="budget of each fine-tuning; none: a fifth of (minutes + 1), at most 2"
    )
    seed: int = Field(0, ge=0, description="of the data split, the masks and the batches")
    from_scratch: FromScratch | None = Field(None, description="start from nothing in this shape")
    vocabulary: int = Field(8000, ge=100, description="WordPiece entries of a start from nothing")
    documents: int = Field(10_000, ge=100, description="documents that the evaluation searches in")
    test_queries: int = Field(8000, ge=10, description="test queries at most")
    roots: list[Path] | None = Field(None, description="folders of Python sources; none: all installed packages")
    max_length: int = Field(128, ge=16, description="tokens per pre-training record")
    pretrain: PretrainOptions = Field(PretrainOptions(), description="settings of the pre-training stage")
    finetune: FinetuneOptions = Field(FinetuneOptions(), description="settings of every fine-tuning stage")

    @model_validator(mode="after")
    def _budgets_once(self) -> Quickstart:
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            if stage.minutes is not None:
                setting = "minutes" if name == "pretrain" else "finetune_minutes"
                raise ValueError(f"{name}.minutes: give the budget as {setting}")
        return self
