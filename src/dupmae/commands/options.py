"""The words behind a command: `parse` sorts them, `help_text` says which there can be.

Every setting is an option, `--learning-rate 3e-5` or `--learning-rate=3e-5`, and can be given as
`learning_rate=3e-5` as well; a group's settings follow a dot. argparse knows neither the second form, nor what a
misspelt option was meant to be, nor an option that may go without its value.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dupmae import settings as stage_settings
from dupmae.commands.base import Command
from dupmae.errors import DupmaeError, did_you_mean
from dupmae.settings import Settings
from dupmae.settings.loading import Setting, describe, load
from dupmae.settings.recipes import carried_recipes, find_recipe, first_comment, line_of
from dupmae.stages import STAGES, Stage

SETTING = re.compile(r"[A-Za-z_][\w.]*=")
RECIPE = "YAML file with settings, or the name of a recipe that comes with the package"
SWITCHES = {
    "help": "this text",
    "quiet": "no progress on standard error, only warnings",
    "json": "the result as one JSON object on standard output",
}


@dataclass
class Words:
    """The words behind a command, sorted.

    Attributes:
        switches: those of `SWITCHES` that were given.
        recipe: file or name of a recipe.
        settings: `name=value` or `--name=value`, in order.
        plain: all others.
    """

    switches: set[str] = field(default_factory=set)
    recipe: str | None = None
    settings: list[str] = field(default_factory=list)
    plain: list[str] = field(default_factory=list)

    def names(self) -> set[str]:
        """The settings that were given."""
        return {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in self.settings}


def settings_class(stage: Stage) -> type[Settings]:
    """The class of a stage's settings."""
    kind: type[Settings] = getattr(stage_settings, stage.settings)
    return kind


def parse(command: Command, words: Sequence[str]) -> Words:
    """Sort the words behind a command.

    Raises:
        DupmaeError: for an option that there is not, and one without its value.
    """
    known = _settings(command)
    found = Words()
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            found.plain += left
            break
        if word == "-h":
            found.switches.add("help")
        elif word.startswith("--"):
            _take_option(command, word, left, known, found)
        elif SETTING.match(word) and (word.partition("=")[0] in known or not _takes_text(command, known)):
            found.settings.append(word)
        else:
            found.plain.append(word)
    return found


def _take_option(command: Command, word: str, left: list[str], known: Mapping[str, Setting], found: Words) -> None:
    """Sort an option and, where it does not hold its value itself, the word after it."""
    option, mark, _ = word.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if name in SWITCHES and not mark:
        found.switches.add(name)
        return
    # Names in a group, such as the free ones of values.model, are checked with the settings.
    if name != "recipe" and name.partition(".")[0] not in known:
        options = [_option(other) for other in (*known, "recipe", *SWITCHES)]
        fix = did_you_mean(option, options, f"`dupmae {command.name} --help` lists the options")
        raise DupmaeError(f"no option {option}", where=command.name, fix=fix)
    if not mark:
        bare = known[name].bare if name in known else None
        if bare is None and not left:
            raise DupmaeError(f"{option} needs a value", where=command.name, fix=f"write {option} VALUE")
        word += "=" + (left.pop(0) if bare is None or left[:1] in (["true"], ["false"]) else bare)
    if name == "recipe":
        found.recipe = word.partition("=")[2]
    else:
        found.settings.append(word)


def settings_of(command: Command, words: Words) -> tuple[Command, Settings, Path | None]:
    """The command itself or what it is for a suite, its checked settings, and their recipe.

    Raises:
        DupmaeError: for a word too many, a recipe that is not there, and settings that cannot be.
    """
    given: dict[str, object] = {}
    recipe = words.recipe
    plain = list(words.plain)
    for name in command.words[: len(plain)]:
        if name == "recipe":
            recipe = plain.pop(0)
        elif name == "inputs":
            given[name], plain = plain, []
        elif name == command.words[-1] and len(command.words) > 1:
            given[name], plain = " ".join(plain), []
        else:
            given[name] = plain.pop(0)
    if plain:
        fix = f"write NAME=VALUE; see `dupmae {command.name} --help`"
        raise DupmaeError("not a setting", where=plain[0], fix=fix)
    file = find_recipe(recipe, command.name, settings_class(STAGES[command.stage]))
    if command.suite is not None and ("suite" in words.names() or (file is not None and line_of(file, "suite"))):
        command = command.suite
    return command, load(settings_class(STAGES[command.stage]), file, words.settings, **given), file


def help_text(command: Command) -> str:
    """What a command does and every option that it has, with its default."""
    own = find_recipe(None, command.name, settings_class(STAGES[command.stage]))
    usage = [f"{name.removesuffix('s').upper()}{' ...' if name == 'inputs' else ''}" for name in command.words]
    lines = [f"usage: dupmae {' '.join([command.name, *usage])} [--OPTION VALUE | NAME=VALUE ...]", ""]
    lines += [f"{command.summary.capitalize()}.", ""]
    if command.example:
        lines += [f"example: dupmae {command.name} {command.example}", ""]
    if command.words == ("recipe",):
        lines += [f"RECIPE is a {RECIPE}:", *_recipes(command), ""]
    kind = settings_class(STAGES[command.stage])
    source = "" if own is None else f"; defaults are those of the recipe {own.stem}"
    without = "" if command.suite is None else " without --suite"
    lines += [f"options{without}{source}:", *_listed(describe(kind, own))]
    if command.suite is not None:
        lines += ["", f"options with --suite, {command.suite.summary}:"]
        lines += _listed(describe(settings_class(STAGES[command.suite.stage])))
    lines += ["", "options of every command:", *_told("--recipe", f"{RECIPE}; what else is given wins")]
    lines += [line for name, meaning in SWITCHES.items() for line in _told(_option(name), meaning)]
    return "\n".join(lines)


def recipes_text(command: Command) -> str:
    """The recipes that a command can start from."""
    return "\n".join(["recipes:", *_recipes(command), "", f"`dupmae {command.name} --help` tells more."])


def _recipes(command: Command) -> list[str]:
    carried = carried_recipes(settings_class(STAGES[command.stage]))
    return [line for name, file in carried.items() for line in _told(name, first_comment(file))]


def _settings(command: Command) -> dict[str, Setting]:
    """All that a command takes, with or without a suite."""
    found = {setting.name: setting for setting in describe(settings_class(STAGES[command.stage]))}
    groups = {name.rpartition(".")[0] for name in found if "." in name} - found.keys()
    found |= {name: Setting(name, None, "", "", group=True, bare=None) for name in groups}
    return (_settings(command.suite) if command.suite is not None else {}) | found


def _takes_text(command: Command, known: Mapping[str, Setting]) -> bool:
    """Whether plain words are a text, in which a = may stand."""
    return bool(command.words) and command.words[-1] in known and known[command.words[-1]].allowed == "a text"


def _listed(settings: Iterable[Setting]) -> list[str]:
    lines = []
    for setting in sorted(settings, key=lambda setting: setting.default is not None):
        default = "required" if setting.default is None else f"default: {setting.default or 'empty'}"
        lines += _told(_option(setting.name), f"{setting.description} [{setting.allowed}; {default}]".strip())
    return lines


def _told(name: str, meaning: str) -> list[str]:
    return [f"  {name}", *textwrap.wrap(meaning, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
