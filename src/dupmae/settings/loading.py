"""Settings from a YAML recipe, words of the command line and keywords; every fault is one line.

`find_recipe` and `line_of` are about recipes, `load` and `load_part` give checked settings, `describe` lists what a
settings class takes, `refuse_missing` looks whether what the settings name is there.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from dupmae.errors import DupmaeError, nearest
from dupmae.settings import Settings
from dupmae.settings.recipes import RECIPES, Origin, Origins, Tree, find_recipe, line_of, read_recipe, yaml_value

__all__ = ["RECIPES", "Setting", "describe", "find_recipe", "line_of", "load", "load_part", "value_of"]

S = TypeVar("S", bound=Settings)
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a stage.

    Attributes:
        name: dotted, as in `objective.kind=mlm`.
        default: as one would write it; None when the setting must be given.
        allowed: what it can be, in words.
        group: whether it only holds other settings.
        bare: what its option means without a value; None when it needs one.
    """

    name: str
    default: str | None
    allowed: str
    description: str
    group: bool
    bare: str | None


def load(kind: type[S], recipe: Path | None = None, overrides: Sequence[str] = (), **given: Any) -> S:
    """Read the settings of one stage: the recipe, then the overrides, then what is given by name.

    Paths in a recipe are relative to the present folder, as they are on the command line.

    Args:
        recipe: YAML file with the names of the settings as keys.
        overrides: `name=value` or `--name=value` with dotted names, as typed on the command line.
        given: settings by name; the names in a group are added to those that are there.

    Raises:
        DupmaeError: for a recipe that cannot be read, an unknown name, a value that is not allowed, or a
            combination that cannot work, naming file, line and setting.
    """
    tree, origins = ({}, {}) if recipe is None else read_recipe(recipe)
    for word in overrides:
        name, mark, text = word.partition("=")
        if not mark or not name:
            raise DupmaeError("not a setting", where=word, fix="write name=value, such as seed=1")
        if name.startswith("--"):
            name = name.removeprefix("--").replace("-", "_")
        try:
            value = value_of(text, _annotation(kind, name))
        except (yaml.YAMLError, ValueError):
            raise DupmaeError("the value is not YAML", where=word, fix="put it in quotes") from None
        _put(tree, name, value)
        origins[name] = Origin(word)
    for name, value in given.items():
        _put(tree, name, value)
        origins[name] = Origin(None)
    return _checked(kind, tree, origins, recipe)


def load_part(
    kind: type[S], part: str, values: Mapping[str, Any], *, recipe: Path | None, base: Path | None = None
) -> S:
    """The settings of a stage that stand in another recipe, under the name `part`.

    Args:
        values: what stands there; groups add to those of `base`.
        recipe: the other recipe, whose lines errors name.
        base: a recipe that the stage's settings start from.

    Raises:
        DupmaeError: as `load`.
    """
    tree, origins = ({}, {}) if base is None else read_recipe(base)
    for name, value in values.items():
        _put(tree, name, value)
    outer = {} if recipe is None else read_recipe(recipe)[1]
    origins |= {name.removeprefix(f"{part}."): origin for name, origin in outer.items() if name.startswith(f"{part}.")}
    return _checked(kind, tree, origins, recipe)


def value_of(text: str, annotation: Any = Any) -> Any:
    """What a word of the command line means for a setting: as typed where a text or a path is wanted, else YAML.

    Where an empty value is allowed `null` is it. Brackets make a list or a mapping where one is wanted.

    Raises:
        ValueError, yaml.YAMLError: when it is no YAML.
    """
    kinds = _union(annotation)
    if text == "null" and type(None) in kinds:
        return None
    if not _wants_text(annotation):
        return yaml_value(text)
    several = {get_origin(kind) for kind in kinds} & {list, dict}
    if several and text[:1] in ("[", "{"):
        return yaml.load(text, Loader=yaml.BaseLoader)
    return [text] if list in several and str not in kinds else text


def describe(kind: type[Settings], recipe: Path | None = None) -> Iterator[Setting]:
    """Every setting that `kind` takes, nested ones under dotted names; a recipe's values stand for the defaults."""
    tree = {} if recipe is None else read_recipe(recipe)[0]
    for setting in _described(kind, "", None):
        value: Any = tree
        for name in setting.name.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            yield setting
        elif isinstance(value, dict) and setting.group:
            yield replace(setting, default="given, see below")
        else:
            nested = isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))
            yield replace(setting, default="see the recipe" if nested else _written(value))


def _described(kind: type[Settings], prefix: str, defaults: Settings | None) -> Iterator[Setting]:
    for field, info in kind.model_fields.items():
        name = prefix + field
        default = getattr(defaults, field) if defaults is not None else info.get_default(call_default_factory=True)
        group = _group(info.annotation)
        if group is None or default is None:
            shown = None if default is PydanticUndefined else _written(default)
            bare = "{}" if group is not None else "true" if info.annotation is bool else None
            yield Setting(name, shown, _allowed(info), info.description or "", group is not None, bare)
        if group is not None:
            for inner in _described(group, f"{name}.", default if isinstance(default, Settings) else None):
                # A group that may be left out asks for nothing until it is given.
                free = default is None and inner.default is None
                yield replace(inner, default=f"none, needed in {field}") if free else inner


def _put(tree: Tree, name: str, value: Any) -> None:
    """Set a dotted name; a mapping is added to the one that is there."""
    *groups, last = name.split(".")
    for group in groups:
        inner = tree.get(group)
        tree[group] = dict(inner) if isinstance(inner, dict) else {}
        tree = tree[group]
    before = tree.get(last)
    tree[last] = before | value if isinstance(before, dict) and isinstance(value, dict) else value


def _checked(kind: type[S], tree: Tree, origins: Origins, recipe: Path | None) -> S:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        # A misspelt name is often also a missing one: the misspelling is the fault to tell.
        order = {"extra_forbidden": 0, "missing": 2}
        first = min(error.errors(), key=lambda detail: order.get(detail["type"], 1))
        raise _explained(kind, first, origins, recipe) from None


def _explained(kind: type[Settings], detail: ErrorDetails, origins: Origins, recipe: Path | None) -> DupmaeError:
    """One error of the settings classes in the words of the person who wrote them."""
    known = {setting.name: setting for setting in describe(kind)}
    groups = {name.rpartition(".")[0] for name in known} - {""}
    parts = [str(part) for part in detail["loc"]]
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        name = ".".join(parts)
        return _error(f"no setting {name}", _similar(name, [*known, *groups]), name, origins, recipe)
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"])
        name = _named(message, origins) or ".".join(parts)
        return _error(message, "change one of them", name, origins, recipe)
    while parts and ".".join(parts) not in known and ".".join(parts) not in groups:
        parts.pop()
    name = ".".join(parts)
    if detail["type"] == "missing":
        kind_of_value = re.split(", (?:above|at |below|or )", known[name].allowed)[0]
        fix = f"give {name}={kind_of_value.split()[-1].upper()}"
        return _error(f"{name} is not given", fix, name, origins, recipe)
    if name in groups:
        inner = [setting for setting in known if setting.startswith(f"{name}.")]
        fix = f"it holds settings, such as {inner[0]}"
        return _error(f"{name} cannot be {detail['input']!r}", fix, name, origins, recipe)
    return _error(f"{name} cannot be {detail['input']!r}", f"give {known[name].allowed}", name, origins, recipe)


def _error(problem: str, fix: str, name: str, origins: Origins, recipe: Path | None) -> DupmaeError:
    """The error, placed where the setting was given, or something in it, or a group around it, or the whole recipe."""
    parts = name.split(".")
    tried = [name, *(other for other in origins if other.startswith(f"{name}."))]
    tried += [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]
    origin = next((origins[part] for part in tried if part in origins), Origin(recipe))
    return DupmaeError(problem, where=origin.where, line=origin.line, fix=fix)


def _named(message: str, origins: Origins) -> str | None:
    """The first setting named in a message that was given; nested in another class it has a group more in front."""
    for word in re.findall(r"\w+(?:\.\w+)*", message):
        for name in origins:
            if word in (name, name.partition(".")[2]):
                return name
    return None


def _similar(name: str, known: Sequence[str]) -> str:
    """A guess at what was meant: the nearest dotted name, or one that ends alike in another group."""
    endings = {other.rpartition(".")[2]: other for other in known}
    ending = nearest(name.rpartition(".")[2], endings)
    guess = nearest(name, known) or (endings[ending] if ending is not None else None)
    return f"did you mean {guess}?" if guess else "--help lists the settings"


def _annotation(kind: type[Settings], name: str) -> Any:
    """What a setting is declared as; Any where that is not known."""
    annotation: Any = kind
    for part in name.split("."):
        group = _group(annotation)
        values = next((get_args(inner)[1] for inner in _union(annotation) if get_origin(inner) is dict), Any)
        annotation = values if group is None else getattr(group.model_fields.get(part), "annotation", Any)
    return annotation


def _wants_text(annotation: Any) -> bool:
    """Whether texts or paths are what a setting is made of."""
    if get_origin(annotation) in (Union, types.UnionType, list, dict):
        return any(map(_wants_text, get_args(annotation)[get_origin(annotation) is dict :]))
    return annotation in (str, Path) or get_origin(annotation) is Literal


def _union(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _group(annotation: Any) -> type[Settings] | None:
    """The settings class that a setting holds, if it holds one."""
    parts = (part for part in _union(annotation) if isinstance(part, type) and issubclass(part, Settings))
    return next(parts, None)


def _allowed(info: FieldInfo) -> str:
    """What a field can be: `a whole number, at least 1, or null`."""
    words = [_words(part) for part in _union(info.annotation) if part is not type(None)]
    for bound in info.metadata:
        words += [f"{text} {getattr(bound, sign)}" for sign, text in BOUNDS.items() if hasattr(bound, sign)]
    if type(None) in _union(info.annotation):
        words.append("or null")
    return ", ".join(words)


def _words(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return f"a list, each {_words(get_args(annotation)[0])}"
    return KINDS.get(annotation, "name: value pairs")


def _written(value: Any) -> str:
    """A default as one would write it behind NAME=."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{}"
    return str(value)
