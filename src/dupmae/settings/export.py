"""Settings of `dupmae export`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from dupmae.settings.base import Settings, refuse_own_input


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
        refuse_own_input(self.out, [self.retriever])
        return self
