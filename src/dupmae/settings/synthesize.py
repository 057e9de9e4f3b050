"""Settings of `dupmae synthesize`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from dupmae.settings.base import Settings, refuse_own_input


class Shares(Settings):
    """How often each kind of pair is made, relative to the others."""

    title: float = Field(1.0, ge=0, allow_inf_nan=False, description="title -> text without it; 0: none")
    sentence: float = Field(1.0, ge=0, allow_inf_nan=False, description="first sentence -> what follows it; 0: none")
    crop: float = Field(1.0, ge=0, allow_inf_nan=False, description="a span -> another span of the text; 0: none")

    @model_validator(mode="after")
    def _some(self) -> Shares:
        if not self.title + self.sentence + self.crop:
            raise ValueError("shares: one of title, sentence and crop must be above 0")
        return self


class Synthesize(Settings):
    """`dupmae synthesize`: text without labels to training pairs."""

    inputs: list[Path] = Field(description="text, as for prepare: files, globs, folders, data sets hub:NAME")
    out: Path = Field(description="BEIR folder to write, with qrels/train.tsv")
    shares: Shares = Shares()
    crop: list[float] = Field([0.1, 0.5], description="length of a span: at least and at most this share of the text")
    query_words: list[int] = Field([3, 48], description="words of a query: a shorter one is not made, a longer one cut")
    passage_words: list[int] = Field([8, 256], description="words of a passage, likewise")
    pairs: int | None = Field(None, ge=2, description="pairs at most, drawn from all; none: one a text")
    language: str = Field("en", description="ISO 639 code of the texts, for the splitting into sentences")
    seed: int = Field(0, ge=0, description="of kinds, spans and the draw of pairs")

    @model_validator(mode="after")
    def _possible(self) -> Synthesize:
        for name in ("crop", "query_words", "passage_words"):
            bounds = getattr(self, name)
            if len(bounds) != 2 or not 0 < bounds[0] <= bounds[1]:
                raise ValueError(f"{name}: two numbers above 0, the smaller first")
        if self.crop[1] > 1:
            raise ValueError("crop: a span is no longer than its text, 1 at most")
        refuse_own_input(self.out, self.inputs)
        return self
