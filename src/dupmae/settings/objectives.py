"""What pre-training hides and optimises."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dupmae.settings.base import Settings


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

    @property
    def decodes(self) -> bool:
        """Whether there is a [CLS] reconstruction; a term of weight 0 costs no work."""
        return self.kind != "mlm" and self.decoder_weight > 0

    @property
    def has_bow(self) -> bool:
        """Whether there is a bag of words."""
        return self.kind == "dupmae" and self.bow_weight > 0

    @model_validator(mode="after")
    def _possible(self) -> Objective:
        if self.decoder == "basic" and self.decoder_queries == "embedded":
            raise ValueError("objective.decoder_queries: 'embedded' needs objective.decoder: enhanced")
        return self
