"""Settings that all trainings share, and which settings a resumed run has to share with the first one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from dupmae.settings.base import Settings

# The mark of a field that a resumed run has to share with the first one: `Field(..., json_schema_extra=SAME)`.
SAME: dict[str, Any] = {"same": True}


def marked(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Name and value, as JSON has it, of every setting with the mark `SAME`; the names of nested ones are dotted."""
    values = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        inner = getattr(settings, name)
        if field.json_schema_extra == SAME:
            yield prefix + name, values[name]
        elif isinstance(inner, Settings):
            yield from marked(inner, f"{prefix}{name}.")


class AnyTraining(Settings):
    """What every training has, whoever does its steps."""

    steps: int | None = Field(None, ge=1, description="optimizer steps")
    epochs: float | None = Field(None, gt=0, description="passes over the data, when steps are not given")
    learning_rate: float = Field(gt=0, description="peak rate")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of steps")
    weight_decay: float = Field(0.01, ge=0, description="AdamW's, matrices only", json_schema_extra=SAME)
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints")
    log_every: int = Field(10, ge=1, description="steps between log lines")
    dtype: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bf16 where the hardware has it", json_schema_extra=SAME
    )
    seed: int = Field(0, ge=0, description="of dropout, masks and batches", json_schema_extra=SAME)
    resume: bool = Field(False, description="go on from the last checkpoint, if there is one")


class TrainingOptions(AnyTraining):
    """What the trainings of our own loop share."""

    steps: int | None = Field(None, ge=1, description="optimizer steps; none: as many as fit in minutes")
    minutes: float | None = Field(None, gt=0, description="time budget; turned into steps by measured speed")
    new_learning_rate: float | None = Field(
        None, gt=0, description="peak rate of what starts at random; none: learning_rate"
    )
    save_every: int | None = Field(
        None, ge=0, description="steps between checkpoints, 0: no checkpoints; none: ten minutes"
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout everywhere; none: the model's own", json_schema_extra=SAME
    )
    tensorboard: bool = Field(False, description="write the log for TensorBoard as well")

    @model_validator(mode="after")
    def _saved(self) -> Self:
        if self.resume and self.save_every == 0:
            raise ValueError("resume: there are no checkpoints with save_every: 0")
        return self
