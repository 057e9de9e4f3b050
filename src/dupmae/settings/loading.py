"""Settings from a YAML recipe, `key=value` overrides and flags, every fault told in one line.

`load` gives checked settings; `describe` lists what a settings class takes, for help texts and for errors.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from dupmae.errors import DupmaeError
from dupmae.settings import Settings

S = TypeVar("S", bound=Settings)
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
# Settings nest three deep; a YAML alias can nest without end.
DEEPEST = 8
RECIPES = Path(__file__).parents[1] / "recipes"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a stage.

    Attributes:
        name: dotted, as in `objective.kind=mlm`.
        default: as one would write it; None when the setting must be given.
        allowed: what it can be, in words.
        group: whether it only holds other settings.
    """

    name: str
    default: str | None
    allowed: str
    description: str
    group: bool


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a setting was given: a line of the recipe, or a word of the command line."""

    where: str | Path
    line: int | None = None


Origins = dict[str, _Origin]
Tree = dict[str, Any]


def find_recipe(name: str | Path | None, command: str) -> Path | None:
    """The recipe that a command starts from: a file, the name of one that the package carries, or the command's own.

    Raises:
        DupmaeError: when there is neither file nor recipe of that name.
    """
    carried = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"), key=lambda path: path.stem)}
    if name is None:
        return carried.get(command)
    if Path(name).exists() or Path(name).suffix:
        return Path(name)
    if str(name) not in carried:
        raise DupmaeError("no such recipe", where=name, fix=f"give a YAML file, or one of: {', '.join(carried)}")
    return carried[str(name)]


def load(kind: type[S], recipe: Path | None = None, overrides: Sequence[str] = (), **given: Any) -> S:
    """Read the settings of one stage: the recipe, then the overrides, then what is given by name.

    Paths in a recipe are relative to the present folder, as they are on the command line.

    Args:
        recipe: YAML file with the names of the settings as keys.
        overrides: `name=value` with dotted names, values written as YAML scalars.
        given: settings by name; those that are None were not given, and a group adds to what is there.

    Raises:
        DupmaeError: for a recipe that cannot be read, an unknown name, a value that is not allowed, or a
            combination that cannot work, naming file, line and setting.
    """
    tree, origins = ({}, {}) if recipe is None else _read(recipe)
    for text in overrides:
        name, value = _split(text)
        _put(tree, name.split("."), value)
        origins[name] = _Origin(text)
    for name, value in given.items():
        if value is not None:
            before = tree.get(name)
            tree[name] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
            origins[name] = _Origin(f"--{name.replace('_', '-')}")
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
    tree, origins = ({}, {}) if base is None else _read(base)
    for name, value in values.items():
        before = tree.get(name)
        tree[name] = before | value if isinstance(before, dict) and isinstance(value, dict) else value
    outer = {} if recipe is None else _read(recipe)[1]
    origins |= {name.removeprefix(f"{part}."): origin for name, origin in outer.items() if name.startswith(f"{part}.")}
    return _checked(kind, tree, origins, recipe)


def line_of(recipe: Path, name: str) -> int | None:
    """The line of a recipe that a setting stands in."""
    origin = _read(recipe)[1].get(name)
    return None if origin is None else origin.line


def _checked(kind: type[S], tree: Tree, origins: Origins, recipe: Path | None) -> S:
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        # A misspelt name is often also a missing one: the misspelling is the fault to tell.
        order = {"extra_forbidden": 0, "missing": 2}
        first = min(error.errors(), key=lambda detail: order.get(detail["type"], 1))
        raise _explained(kind, first, origins, recipe) from None


def describe(kind: type[Settings], prefix: str = "", defaults: Settings | None = None) -> Iterator[Setting]:
    """Every setting that `kind` takes, nested ones under dotted names."""
    for field, info in kind.model_fields.items():
        name = prefix + field
        default = getattr(defaults, field) if defaults is not None else info.get_default(call_default_factory=True)
        nested = next((part for part in _union(info.annotation) if _is_settings(part)), None)
        if nested is None or default is None:
            shown = None if default is PydanticUndefined else _written(default)
            yield Setting(name, shown, _allowed(info), info.description or "", nested is not None)
        if nested is not None:
            for inner in describe(nested, f"{name}.", default if isinstance(default, Settings) else None):
                # A group that may be left out asks for nothing until it is given.
                free = default is None and inner.default is None
                yield replace(inner, default=f"none, needed in {field}") if free else inner


def describe_with(kind: type[Settings], recipe: Path | None) -> Iterator[Setting]:
    """Every setting of `kind` with what the recipe says in the place of the default, for a command that has its own."""
    tree = {} if recipe is None else _read(recipe)[0]
    for setting in describe(kind):
        value: Any = tree
        for name in setting.name.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            yield setting
        elif isinstance(value, dict) and setting.group:
            yield replace(setting, default="given, see below")
        else:
            flat = not isinstance(value, dict) and not (
                isinstance(value, list) and value and isinstance(value[0], dict)
            )
            yield replace(setting, default=_written(value) if flat else "see the recipe")


def _read(recipe: Path) -> tuple[Tree, Origins]:
    try:
        text = recipe.read_text(encoding="utf-8")
        values, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise DupmaeError("no such recipe", where=recipe, fix="check the path") from None
    except OSError as error:
        raise DupmaeError(f"cannot read: {error.strerror}", where=recipe, fix="name a YAML file") from None
    except UnicodeDecodeError:
        raise DupmaeError("not UTF-8", where=recipe, fix="convert it to UTF-8") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or str(error)
        line = None if mark is None else mark.line + 1
        raise DupmaeError(f"not YAML: {reason}", where=recipe, line=line, fix="write `name: value` lines") from None
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        raise DupmaeError("holds no settings", where=recipe, fix="write `name: value` lines")
    origins: Origins = {}
    for name, line in _lines(node, ""):
        if name in origins:
            raise DupmaeError(f"{name} is given twice", where=recipe, line=line, fix="keep one of the lines")
        origins[name] = _Origin(recipe, line)
    return values, origins


def _lines(node: Any, prefix: str) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode) and prefix.count(".") < DEEPEST:
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _lines(value, f"{prefix}{key.value}.")


def _split(text: str) -> tuple[str, Any]:
    name, mark, value = text.partition("=")
    if not mark or not name:
        raise DupmaeError("not a setting", where=text, fix="write name=value, such as seed=1")
    try:
        return name, yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):
        raise DupmaeError("the value is not YAML", where=text, fix="put it in quotes") from None


def _put(tree: Tree, path: list[str], value: Any) -> None:
    for part in path[:-1]:
        inner = tree.get(part)
        tree[part] = dict(inner) if isinstance(inner, dict) else {}
        tree = tree[part]
    tree[path[-1]] = value


def _explained(kind: type[Settings], detail: ErrorDetails, origins: Origins, recipe: Path | None) -> DupmaeError:
    """One error of the settings classes in the words of the person who wrote them."""
    known = {setting.name: setting for setting in describe(kind)}
    groups = {name.rpartition(".")[0] for name in known} - {""}
    parts = [str(part) for part in detail["loc"]]
    if detail["type"] in ("extra_forbidden", "invalid_key"):
        name = ".".join(parts)
        return _error(f"no setting {name}", _nearest(name, [*known, *groups]), name, origins, recipe)
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
    """The error, placed where the setting was given, or the nearest group around it, or the whole recipe."""
    parts = name.split(".")
    tried = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    origin = next((origins[part] for part in tried if part in origins), None)
    if origin is None:
        return DupmaeError(problem, where=recipe, fix=fix)
    return DupmaeError(problem, where=origin.where, line=origin.line, fix=fix)


def _named(message: str, origins: Origins) -> str | None:
    """The first setting named in a message that was given; nested in another class it has a group more in front."""
    for word in re.findall(r"\w+(?:\.\w+)*", message):
        for name in origins:
            if word in (name, name.partition(".")[2]):
                return name
    return None


def _nearest(name: str, known: Sequence[str]) -> str:
    """A guess at what was meant: the nearest dotted name, or one that ends alike in another group."""
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    if not near:
        endings = {other.rpartition(".")[2]: other for other in known}
        near = [endings[end] for end in get_close_matches(name.rpartition(".")[2], endings, n=1, cutoff=0.7)]
    return f"did you mean {near[0]}?" if near else "--help lists the settings"


def _union(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Settings)


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
    """A default as one would write it in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{}"
    return str(value) or "''"
