"""Recipes: YAML files whose keys are the settings of a stage.

`find_recipe` finds one by name, `read_recipe` gives its values with the line of each, `line_of` one of these lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dupmae.errors import DupmaeError, did_you_mean
from dupmae.settings.base import Settings

RECIPES = Path(__file__).parents[1] / "recipes"
# Values in a recipe, those behind an alias counted as often as it stands there: an alias of aliases multiplies.
MOST_VALUES = 20_000

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a setting was given: a line of a recipe, or a word of the command line."""

    where: str | Path | None
    line: int | None = None


Origins = dict[str, Origin]


class _Loader(yaml.SafeLoader):
    """Plain YAML: no tags, and a date is a text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def fetch_tag(self) -> None:
        raise yaml.MarkedYAMLError(problem="a value begins with !", problem_mark=self.get_mark())


def carried_recipes(kind: type[Settings] | None = None) -> dict[str, Path]:
    """The recipes that come with the package, by name; with `kind` only those that are its settings."""
    paths = {path.stem: path for path in sorted(RECIPES.glob("*.yaml"), key=lambda path: path.stem)}
    fields = None if kind is None else kind.model_fields.keys()
    return {name: path for name, path in paths.items() if fields is None or read_recipe(path)[0].keys() <= fields}


def find_recipe(name: str | Path | None, command: str, kind: type[Settings] | None = None) -> Path | None:
    """The recipe that a command starts from: a file, the name of one that the package carries, or the command's own.

    Args:
        kind: the command's settings; a recipe of its name that holds others is not its own.

    Raises:
        DupmaeError: when there is neither file nor recipe of that name.
    """
    carried = carried_recipes()
    if name is None:
        return carried_recipes(kind).get(command)
    if Path(name).exists() or Path(name).suffix:
        return Path(name)
    if str(name) not in carried:
        fix = did_you_mean(str(name), carried, f"give a YAML file, or one of: {', '.join(carried)}")
        raise DupmaeError("no such recipe", where=name, fix=fix)
    return carried[str(name)]


def first_comment(recipe: Path) -> str:
    """What a recipe says of itself: the first sentence of the comment at its top."""
    lines = iter(recipe.read_text(encoding="utf-8").splitlines())
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    return " ".join(comment).partition(". ")[0].removesuffix(".")


def line_of(recipe: Path, name: str) -> int | None:
    """The line of a recipe that a setting stands in."""
    origin = read_recipe(recipe)[1].get(name)
    return None if origin is None else origin.line


def read_recipe(recipe: Path) -> tuple[Tree, Origins]:
    """The values of a recipe, and the line of every name in it, nested ones dotted.

    Raises:
        DupmaeError: when it cannot be read, is not YAML, holds no names, one of them twice, or too many values.
    """
    try:
        loader = _Loader(recipe.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        if node is None:
            return {}, {}
        lines = list(_lines(node, "", iter(range(MOST_VALUES))))
        values = loader.construct_document(node)
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
    if not isinstance(values, dict):
        raise DupmaeError("holds no settings", where=recipe, fix="write `name: value` lines")
    origins: Origins = {}
    for name, line in lines:
        if name in origins:
            raise DupmaeError(f"{name} is given twice", where=recipe, line=line, fix="keep one of the lines")
        origins[name] = Origin(recipe, line)
    return values, origins


def yaml_value(text: str) -> Any:
    """A word of the command line as YAML: a number, true or false, null, a list or mapping in brackets, else a text."""
    value = yaml.load(text, Loader=_Loader)
    block = isinstance(value, dict | list) and text[:1] not in ("[", "{")
    return text if isinstance(value, str) or block else value


def _lines(node: yaml.Node, prefix: str, left: Iterator[int]) -> Iterator[tuple[str, int]]:
    """Names with their lines, as far as `left` goes."""
    if next(left, None) is None:
        raise yaml.MarkedYAMLError(problem=f"above {MOST_VALUES:,} values", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{prefix}{key.value}", key.start_mark.line + 1
            yield from _lines(value, f"{prefix}{key.value}.", left)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            # Their names are no settings of their own, but they count.
            list(_lines(value, "", left))
    elif any("\ud800" <= character <= "\udfff" for character in node.value):
        raise yaml.MarkedYAMLError(problem="half a surrogate pair", problem_mark=node.start_mark)
