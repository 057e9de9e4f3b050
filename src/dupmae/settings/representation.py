"""The vectors of a retriever, and what its folder remembers."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings
from dupmae.settings.training import SAME


class Representation(Settings):
    """The vectors of a text: a dense part and the top-k of the vocabulary part (DupMAE, eqs 10-12)."""

    kind: Literal["cls", "bow", "hybrid", "aggregated"] = Field(
        "hybrid",
        description="cls: dense part alone; bow: vocabulary part alone; hybrid: both; aggregated: both, as one dense "
        "vector",
    )
    dimensions: int = Field(384, ge=1, description="d', width of the dense part")
    top_k: int = Field(384, ge=1, description="vocabulary entries a passage keeps")
    query_terms: Literal["all", "input"] = Field(
        "all",
        description="vocabulary entries of a query: all, or its input tokens alone, weighted by the head",
    )
    aggregated_dimensions: int = Field(640, ge=1, description="width that aggregated folds the vocabulary part to")
    activation: Literal["log1p_relu", "relu"] = Field("log1p_relu", description="non-linearity before the top-k")
    lexical: Literal["bm25", "none"] = Field(
        "bm25", description="bm25: a passage's own words count by how often they stand in it; none: maxima alone"
    )
    pooling: Literal["auto", "cls", "mean"] = Field(
        "auto", description="what the dense part is read from; auto: as the start was tuned to be, else [CLS]"
    )
    normalize: bool | None = Field(
        None, description="scale the dense part to unit length; none: as the start does, else false"
    )
    term_weights: Literal["idf", "none"] = Field(
        "idf", description="learned per-term weights started at the corpus idf, or none as in the paper"
    )
    part_weights: list[float] | None = Field(
        None, description="weights of dense and vocabulary part in the score, such as [1, 1]; none: learned"
    )
    matryoshka: list[int] = Field([], description="shorter widths at which the dense part is to work as well")
    query_flops: float = Field(0.0, ge=0, description="weight of the queries' FLOPS regulariser (fewer active terms)")
    passage_flops: float = Field(0.0, ge=0, description="weight of the passages' FLOPS regulariser")
    tied: bool = Field(True, description="true: one encoder for queries and passages; false: one each")

    def closed(self) -> Representation:
        """What is left open as for a start that says nothing of its vectors: [CLS], not scaled."""
        pooling = "cls" if self.pooling == "auto" else self.pooling
        return self.model_copy(update={"pooling": pooling, "normalize": bool(self.normalize)})

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

    representation: Representation = Field(Representation(), json_schema_extra=SAME)
    query_length: int = Field(32, ge=4, description="tokens of a query, specials included", json_schema_extra=SAME)
    passage_length: int = Field(128, ge=4, description="tokens of a passage, specials included", json_schema_extra=SAME)
    query_prefix: str = Field("", description="put in front of every query, such as 'query: '", json_schema_extra=SAME)
    passage_prefix: str = Field("", description="put in front of every passage and its title", json_schema_extra=SAME)
