"""`dupmae run`: stages one after another from one recipe, each on what those before it wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dupmae import settings as settings_of
from dupmae.errors import DupmaeError, did_you_mean
from dupmae.settings import Chain
from dupmae.settings.loading import find_recipe, line_of, load_part
from dupmae.stages.runner import KINDS, Ran, Runner, Stage

# $$, $NAME or ${NAME}, and a $ with nothing to name.
REFERENCE = re.compile(r"\$(?:(\$)|([A-Za-z0-9_][A-Za-z0-9_-]*)|\{([A-Za-z0-9_][A-Za-z0-9_-]*)\}|)")


def chain(settings: Chain, recipe: Path | None = None) -> list[Ran]:
    """Run every stage that is not finished, in order.

    Args:
        recipe: the file the settings came from, whose lines errors name.

    Raises:
        DupmaeError: for settings that a stage refuses and files that are not there, before any stage is run, and
            whatever a stage raises.
    """
    runner = Runner(settings.out, replace_pretraining=settings.replace_pretraining)
    stages = []
    for stage in stages_of(settings, recipe):
        with _located(stage.name, recipe):
            stages.append(runner.stage(stage.kind, stage.settings, stage.name))
    for stage in stages:
        runner.check(stage)
    return [runner.run(stage, f"{number} of {len(stages)}") for number, stage in enumerate(stages, 1)]


def stages_of(settings: Chain, recipe: Path | None = None) -> list[Stage]:
    """The stages with their settings, `$NAME` replaced by values and by the folders of earlier stages.

    A stage whose `when` is empty is left out: `when: $NAME` makes it depend on whether a value was given. `$NAME` is
    then what its `otherwise` says.

    Raises:
        DupmaeError: for an unknown kind of stage, an unknown name, a value that no stage uses, or settings that a stage
            refuses.
    """
    known: dict[str, Any] = {"out": str(settings.out), **settings.values}
    stages: list[Stage] = []
    for name, given in settings.stages.items():
        with _located(name, recipe):
            values = dict(given)
            if name in known:
                raise DupmaeError("the name stands for a value", fix="rename one of them")
            when, otherwise = values.pop("when", True), values.pop("otherwise", None)
            if not _replaced(when, known):
                if otherwise is not None:
                    known[name] = _replaced(otherwise, known)
                continue
            kind = values.pop("stage", name)
            if kind not in KINDS:
                raise DupmaeError(f"no stage {kind}", fix=f"write stage: and one of {', '.join(KINDS)}")
            base = find_recipe(values.pop("recipe", None), "")
            values = {"out": str(settings.out / name)} | _replaced(values, known)
            form = getattr(settings_of, KINDS[kind].settings)
            checked = load_part(form, f"stages.{name}", values, recipe=recipe, base=base)
            stages.append(Stage(name, kind, checked))
        known[name] = str(stages[-1].out)
    _refuse_unused(settings, recipe)
    return stages


def _refuse_unused(settings: Chain, recipe: Path | None) -> None:
    """A value that no stage uses is a name misspelt, unless the recipe has it for settings that were replaced."""
    used = set(_names(settings.stages))
    for name in settings.values:
        if name not in used and (recipe is None or line_of(recipe, f"values.{name}") is None):
            fix = did_you_mean(name, used, "remove it")
            raise DupmaeError(f"no stage uses values.{name}", where=recipe, fix=fix)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _names(inner)
    elif isinstance(value, str):
        yield from (match[2] or match[3] for match in REFERENCE.finditer(value) if match[2] or match[3])


@contextmanager
def _located(name: str, recipe: Path | None) -> Iterator[None]:
    """Put the name of a stage into its errors, and its line in the recipe where they have no place of their own."""
    try:
        yield
    except DupmaeError as error:
        problem, where, line = f"stage {name}: {error.problem}", error.where, error.line
        if recipe is not None and line is None and where in (None, recipe):
            where, line = recipe, line_of(recipe, f"stages.{name}")
        raise DupmaeError(problem, where=where, line=line, fix=error.fix) from None


def _replaced(value: Any, known: Mapping[str, Any]) -> Any:
    """A setting with its names replaced; one that is a name alone becomes the value itself, whatever its type."""
    if isinstance(value, dict):
        return {name: _replaced(inner, known) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, known) for inner in value]
    if not isinstance(value, str):
        return value

    def looked_up(match: re.Match[str]) -> Any:
        if match[1]:
            return "$"
        name = match[2] or match[3]
        if name is None:
            raise DupmaeError(f"{value!r} has a $ without a name", fix="write $$ for the character itself")
        if name not in known:
            fix = f"known here: {', '.join(known)}"
            raise DupmaeError(f"${name} names no value and no earlier stage", fix=fix)
        return known[name]

    whole = REFERENCE.fullmatch(value)
    return looked_up(whole) if whole else REFERENCE.sub(lambda match: str(looked_up(match)), value)
