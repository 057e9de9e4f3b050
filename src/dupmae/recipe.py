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
    """The vectors of a text: a dense part and the top-k of the vocabulary part (DupMAE, eqs 10-12)."""

    kind: Literal["cls", "bow", "hybrid", "aggregated"] = Field(
        "hybrid",
        description="cls: dense part alone; bow: vocabulary part alone; hybrid: both; aggregated: both, as one dense "
        "vector",
    )
    dimensions: int = Field(384, ge=1, description="d', width of the dense part")
    top_k: int = Field(384, ge=1, description="vocabulary entries a passage keeps")
    aggregated_dimensions: int = Field(640, ge=1, description="width that aggregated folds the vocabulary part to")
    activation: Literal["log1p_relu", "relu"] = Field("log1p_relu", description="non-linearity before the top-k")
    pooling: Literal["cls", "mean"] = Field("cls", description="what the dense part is read from")
    normalize: bool = Field(False, description="scale the dense part to unit length")
    term_weights: Literal["idf", "none"] = Field(
        "idf", description="learned per-term weights started at the corpus idf, or none as in the paper"
    )
    part_weights: list[float] | None = Field(
        None, description="weights of dense and vocabulary part in the score, such as [1, 1]; none: learned"
    )
    matryoshka: list[int] = Field([], description="shorter widths at which the dense part is to work as well")
    query_flops: float = Field(0.0, ge=0, description="weight of the queries' FLOPS regulariser (fewer active terms)")
    passage_flops: float = Field(0.0, ge=0, description="weight of the passages' FLOPS regulariser")
    towers: Literal["tied", "untied"] = Field(
        "tied", description="queries and passages through one encoder, or through one each"
    )

    @model_validator(mode="after")
    def _possible(self) -> Representation:
        if any(not 0 < width < self.dimensions for width in self.matryoshka):
            raise ValueError(f"matryoshka: widths are between 1 and dimensions - 1 = {self.dimensions - 1}")
        if self.matryoshka and self.kind == "bow":
            raise ValueError("matryoshka: there is no dense part with kind: bow")
        if (self.query_flops or self.passage_flops) and self.kind not in ("bow", "hybrid"):
            raise ValueError(f"query_flops, passage_flops: no sparse vectors with kind: {self.kind}")
        weights = self.part_weights
        if weights is not None and (len(weights) != 2 or not all(0 < weight < math.inf for weight in weights)):
            raise ValueError("part_weights: two numbers above 0, for the dense and the vocabulary part")
        return self


class RetrieverSettings(Settings):
    """What a retriever folder remembers of how it was trained."""

    representation: Representation = Representation()
    query_length: int = Field(32, ge=4, description="tokens of a query, specials included")
    passage_length: int = Field(128, ge=4, description="tokens of a passage, specials included")
    query_prefix: str = Field("", description="put in front of every query, such as 'query: '")
    passage_prefix: str = Field("", description="put in front of every passage and its title")


class FinetuneOptions(RetrieverSettings):
    """How to fine-tune, whatever the data and the model."""

    steps: int | None = Field(None, ge=1, description="optimizer steps; none: as many as fit in minutes")
    epochs: float | None = Field(None, gt=0, description="passes over the queries, when steps are not given")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    batch_size: int = Field(32, ge=2, description="queries per step over all processes")
    chunk_size: int | None = Field(
        None, ge=1, description="gradient caching: texts a process encodes at once, for any batch_size; none: all"
    )
    negatives: int = Field(1, ge=0, description="hard negatives per query (BM25 when none are given)")
    negative_depth: int = Field(50, ge=1, description="hard negatives are drawn from this many best ones of a query")
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
    seed: int = Field(0, ge=0, description="of dropout, masks and batches")


class Finetune(FinetuneOptions):
    """`dupmae finetune`: an encoder and pairs to a retriever."""

    model: str = Field(description="encoder or masked LM, folder or hub name; a retriever folder is trained on")
    data: Path = Field(description="training data: BEIR or MS MARCO folder, DPR json, jsonl, parquet, hub:NAME")
    mined: Path | None = Field(None, description="hard negatives by id, such as negatives.jsonl of mine")
    refresh: int | None = Field(
        None, ge=1, description="steps after which hard negatives are mined anew with the present weights; none: never"
    )
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    out: Path = Field(description="retriever folder; log and checkpoints go to a folder -training beside it")
    resume: bool = Field(False, description="go on from the last checkpoint, if there is one")

    @model_validator(mode="after")
    def _saved(self) -> Finetune:
        if self.resume and self.save_every == 0:
            raise ValueError("resume: there are no checkpoints with save_every: 0")
        return self

    @model_validator(mode="after")
    def _own_folder(self) -> Finetune:
        _refuse_own_input(self.out, [self.data, self.model, self.mined])
        return self


class Index(Settings):
    """`dupmae index`: a retriever and a corpus to a searchable folder."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(description="BEIR folder or jsonl of passages")
    out: Path = Field(description="index folder")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )


class Evaluate(Settings):
    """`dupmae evaluate`: metrics of a retriever on a BEIR folder."""

    retriever: Path = Field(description="retriever folder")
    data: Path = Field(description="BEIR folder")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="passages kept per query")
    batch_tokens: int | None = Field(
        None, ge=16, description="tokens per encoding batch, padding included; none: what suits the device"
    )


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
    batch_tokens: int | None = Field(None, ge=16, description="tokens per encoding batch; none: what the device likes")

    @model_validator(mode="after")
    def _own_folder(self) -> Mine:
        _refuse_own_input(self.out, [self.data, self.retriever, self.scores])
        return self


class Teach(Settings):
    """`dupmae teach`: a cross-encoder trained on hard negatives, and its scores of them."""

    data: Path = Field(description="training data, as for mine")
    mined: Path = Field(description="negatives.jsonl of mine: its pairs are trained on and scored")
    out: Path = Field(description="folder for cross-encoder/ and scores.jsonl")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    model: str | None = Field(None, description="encoder to start from, folder or hub name")
    teacher: Path | None = Field(None, description="cross-encoder that only scores, nothing is trained")
    length: int | None = Field(
        None, ge=8, description="tokens of query and passage together; none: 200 to train, else what the teacher says"
    )
    steps: int | None = Field(None, ge=1, description="optimizer steps; none: epochs")
    epochs: float = Field(1.0, gt=0, description="passes over all positives, when steps are not given")
    batch_size: int = Field(8, ge=1, description="groups of a positive and its negatives per step")
    negatives: int = Field(7, ge=1, description="negatives in a group")
    negative_depth: int = Field(200, ge=1, description="negatives are drawn from this many best ones of a query")
    learning_rate: float = Field(1e-5, gt=0, description="peak rate")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    score_batch: int = Field(128, ge=1, description="pairs scored at once")
    save_every: int = Field(500, ge=1, description="steps between checkpoints")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    dtype: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 where the hardware has it")
    seed: int = Field(0, ge=0, description="of dropout and batches")
    resume: bool = Field(False, description="go on from the last checkpoint, if there is one")

    @model_validator(mode="after")
    def _possible(self) -> Teach:
        if (self.model is None) == (self.teacher is None):
            raise ValueError("model: give either model, to train from, or teacher, to score with")
        _refuse_own_input(self.out, [self.data, self.mined, self.model, self.teacher])
        return self


class Rerank(Settings):
    """`dupmae rerank`: a TREC run in a cross-encoder's order."""

    teacher: Path = Field(description="cross-encoder folder")
    data: Path = Field(description="BEIR folder of the run")
    run: Path = Field(description="TREC run file")
    out: Path = Field(description="folder for metrics.json and run.trec")
    split: str = Field("test", description="name of the qrels file")
    depth: int = Field(100, ge=1, description="best passages of each query that are put in a new order")
    length: int | None = Field(
        None, ge=8, description="tokens of query and passage together; none: what the teacher says"
    )
    batch_size: int = Field(128, ge=1, description="pairs scored at once")

    @model_validator(mode="after")
    def _own_folder(self) -> Rerank:
        _refuse_own_input(self.out, [self.data, self.teacher])
        return self


class Distill(Settings):
    """`dupmae distill`: a retriever trained towards a teacher's scores."""

    retriever: Path = Field(description="retriever folder to start from; its representation is kept")
    data: Path = Field(description="training data, as for mine")
    mined: Path = Field(description="negatives.jsonl of mine")
    scores: Path = Field(description="scores.jsonl of teach, for every pair of mined")
    out: Path = Field(description="retriever folder; log and checkpoints go to a folder -training beside it")
    split: str = Field("train", description="name of the qrels file of a BEIR or MS MARCO folder")
    loss: Literal["kl", "margin_mse"] = Field(
        "kl", description="divergence of the softmax over a query's passages, or squared error of the margins"
    )
    contrastive_weight: float | None = Field(
        None, ge=0, description="weight of InfoNCE beside it; none: 1e-4 times the passages of a group"
    )
    part_loss_weight: float = Field(0.5, ge=0, description="weight of each part's own InfoNCE beside the sum's")
    steps: int | None = Field(None, ge=1, description="optimizer steps; none: epochs, or as many as fit in minutes")
    epochs: float | None = Field(None, gt=0, description="passes over the queries, when steps are not given")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    batch_size: int = Field(16, ge=2, description="queries per step over all processes")
    chunk_size: int | None = Field(
        None, ge=1, description="gradient caching: texts a process encodes at once, for any batch_size; none: all"
    )
    negatives: int = Field(15, ge=1, description="negatives in a query's group")
    negative_depth: int = Field(200, ge=1, description="negatives are drawn from this many best ones of a query")
    learning_rate: float = Field(2e-5, gt=0, description="peak rate of the encoder")
    new_learning_rate: float = Field(1e-3, gt=0, description="peak rate of projection, part weights and term weights")
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
    resume: bool = Field(False, description="go on from the last checkpoint, if there is one")

    @model_validator(mode="after")
    def _own_folder(self) -> Distill:
        _refuse_own_input(self.out, [self.retriever, self.data])
        return self


class Chain(Settings):
    """`dupmae run`: stages one after another, each on what those before it wrote."""

    out: Path = Field(description="folder of the run; a stage writes to the folder of its name in it")
    values: dict[str, str] = Field({}, description="what $NAME stands for in the settings of the stages")
    stages: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="settings of each stage by its name, in the order they are run; stage: says which it is when the "
        "name does not, recipe: names a file of settings it starts from, $NAME is the folder of an earlier stage",
    )


class Export(Settings):
    """`dupmae export`: a retriever as a folder for other people and tools."""

    retriever: Path = Field(description="retriever folder")
    out: Path = Field(description="folder to write: the retriever with a model card")
    onnx: bool = Field(False, description="also write onnx/, compared with torch (needs the extra onnx)")
    name: str | None = Field(None, description="name on the card; none: that of out")
    license: str | None = Field(
        None, description="identifier such as apache-2.0; none: the card says that none was given"
    )
    languages: list[str] = Field([], description="ISO 639 codes for the card")
    data: list[str] = Field([], description="what the retriever was trained on, for the card")
    base_model: str | None = Field(None, description="hub name of the encoder it was trained from, for the card")
    metrics: list[Path] = Field([], description="metrics.json files of this retriever, written by evaluate")
    push: str | None = Field(None, description="OWNER/NAME on the Hugging Face hub to upload the folder to")
    private: bool = Field(True, description="make the model on the hub private, where it is new")

    @model_validator(mode="after")
    def _own_folder(self) -> Export:
        _refuse_own_input(self.out, [self.retriever])
        return self


class Quickstart(Settings):
    """`dupmae quickstart`: the documentation of the installed packages to a measured hybrid retriever."""

    out: Path = Field(Path("runs/quickstart"), description="run folder")
    minutes: float = Field(8.0, gt=0, description="pre-training budget")
    finetune_minutes: float | None = Field(
        None, gt=0, description="budget of each fine-tuning; none: a fifth of minutes and 0.1, at most 2"
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
