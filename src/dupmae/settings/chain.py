"""Settings of `dupmae run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from dupmae.settings.base import Settings


class Chain(Settings):
    """`dupmae run`: stages one after another, each on what those before it wrote."""

    out: Path = Field(description="folder of the run, $out; a stage writes to the folder of its name in it")
    values: dict[str, str | int | float | bool | list[Any] | dict[str, Any] | None] = Field(
        {}, description="what $NAME stands for in the settings of the stages"
    )
    stages: dict[str, dict[str, Any]] = Field(
        min_length=1,
        description="settings of each stage by its name, in the order they are run; stage: says which it is when the "
        "name does not, recipe: names a file of settings it starts from, when: leaves it out where it is empty, "
        "otherwise: what $NAME is then, $NAME is the folder of an earlier stage",
    )
    replace_pretraining: bool = Field(
        False,
        description="begin a pre-training anew whose settings have changed; false: refuse, it may be days of work",
    )
