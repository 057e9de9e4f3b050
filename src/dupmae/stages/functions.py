"""Stages as functions of keywords, for Python: `dupmae.pretrain(data="shards", out="pretraining", minutes=60)`."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dupmae import console
from dupmae import settings as stage_settings
from dupmae.settings import Settings
from dupmae.settings.loading import Setting, describe, find_recipe, load
from dupmae.stages import STAGES, call

R_co = TypeVar("R_co", covariant=True)


class StageFunction(Protocol[R_co]):
    """A stage that takes its settings by name, and a recipe for those that are not given."""

    def __call__(self, recipe: str | Path | None = None, *, quiet: bool = False, **settings: Any) -> R_co:
        """Run the stage.

        Args:
            recipe: YAML file with settings, or the name of one that comes with the package.
            quiet: no progress on standard error, only warnings.
            settings: by name; a group is a mapping, which is added to what the recipe says.

        Raises:
            DupmaeError: for settings that cannot be, before anything is computed; whatever the stage raises.
        """
        ...


def stage_function(name: str, command: str) -> StageFunction[Any]:
    """A stage as a function with the signature of its settings.

    Args:
        name: what the function is called.
        command: the stage's name in `STAGES`, and that of a recipe which it starts from when there is one.
    """
    stage = STAGES[command]
    kind: type[Settings] = getattr(stage_settings, stage.settings)

    def function(recipe: str | Path | None = None, *, quiet: bool = False, **settings: Any) -> Any:
        console.set_up_in_python(quiet=quiet)
        file = find_recipe(recipe, command)
        return call(stage, load(kind, file, **settings), file)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "dupmae"
    function.__doc__ = _documentation(kind, describe(kind))
    common = [
        Parameter("recipe", Parameter.POSITIONAL_OR_KEYWORD, default=None),
        Parameter("quiet", Parameter.KEYWORD_ONLY, default=False),
    ]
    own = [
        Parameter(field, Parameter.KEYWORD_ONLY, default=Parameter.empty if info.is_required() else info.get_default())
        for field, info in kind.model_fields.items()
    ]
    function.__signature__ = Signature([*common, *own])  # type: ignore[attr-defined]
    return function


def _documentation(kind: type[Settings], settings: Iterable[Setting]) -> str:
    lines = [kind.__doc__ or "", "", "Args:"]
    lines += ["    recipe: YAML file with settings, or the name of one that comes with the package."]
    lines += ["    quiet: no progress on standard error, only warnings."]
    for setting in settings:
        default = "required" if setting.default is None else f"default: {setting.default or 'empty'}"
        lines.append(f"    {setting.name}: {setting.description} [{setting.allowed}; {default}]")
    lines += ["", "Raises:", "    DupmaeError: for settings that cannot be, and files that cannot be read or written."]
    return "\n".join(lines)
