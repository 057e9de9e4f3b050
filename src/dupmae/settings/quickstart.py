"""Settings of `dupmae quickstart`, and of the stages that it alone has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from dupmae.settings.base import Settings
from dupmae.settings.pretrain import FromScratch


class Documentation(Settings):
    """`documentation`: a retrieval set from the documentation of the installed Python packages."""

    out: Path = Field(description="folder for retrieval/ and training/, both in the BEIR layout")
    seed: int = Field(0, ge=0, description="of the split and of the draw of documents")
    documents: int = Field(10_000, ge=100, description="documents that the evaluation searches in")
    test_queries: int = Field(4000, ge=10, description="test queries at most")
    # 8,000 queries tell a difference of .005 in nDCG@10 from chance; pairs are not what is short here.
    test_share: float = Field(0.22, gt=0, lt=1, description="share of the documents that the test queries ask for")
    dev_share: float = Field(0.02, gt=0, lt=1, description="share of the documents that the dev queries ask for")
    test_documents_in_training: bool = Field(
        True,
        description="leave the documents of test and dev queries, without the queries, in the unlabelled text of "
        "training/; false: training never sees them",
    )
    roots: list[Path] | None = Field(None, description="folders of Python sources; none: all installed packages")


class Untrained(Settings):
    """`untrained`: a randomly started encoder as a folder, so that several runs start from the same weights."""

    shape: FromScratch = Field(FromScratch(), description="shape of the encoder")
    data: Path = Field(description="folder written by prepare, whose tokenizer it gets")
    positions: int = Field(512, ge=16, description="tokens that it takes, or as many as the records of data have")
    seed: int = Field(0, ge=0, description="of the weights")
    out: Path = Field(description="encoder folder")


class Quickstart(Settings):
    """`dupmae quickstart`: the documentation of the installed packages to a measured hybrid retriever."""

    out: Path = Field(Path("runs/quickstart"), description="run folder")
    minutes: float = Field(8.0, gt=0, description="pre-training budget")
    finetune_minutes: float | None = Field(
        None, gt=0, description="budget of each fine-tuning; none: an eighth of minutes and 0.1, at most 1"
    )
    seed: int = Field(0, ge=0, description="of the data split, the masks and the batches")
    from_scratch: FromScratch | None = Field(None, description="start from nothing in this shape")
    vocabulary: int = Field(8000, ge=100, description="WordPiece entries of a start from nothing")
    documents: int = Field(10_000, ge=100, description="documents that the evaluation searches in")
    test_queries: int | None = Field(
        None, ge=10, description="test queries at most; none: 1,000 for each of minutes, from 3,000 to 8,000"
    )
    test_documents_in_training: bool = Field(
        True, description="pre-train on the text of the documents that test queries ask for as well"
    )
    roots: list[Path] | None = Field(None, description="folders of Python sources; none: all installed packages")
    passage_length: int | None = Field(
        None, ge=4, description="tokens of a document at most, in fine-tuning and search; none: 96, 64 below 4 minutes"
    )
    stages: dict[str, dict[str, Any]] = Field(
        {}, description="changed settings of the recipe's stages, such as stages.pretrain.learning_rate=5e-5"
    )
