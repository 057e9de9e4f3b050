"""The command `dupmae`: parse, call, print.

Results go to standard output, progress and the one line of an error to standard error. Exit codes: 0 done,
2 a fault of the input or the machine, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from dupmae import __version__
from dupmae.commands import COMMANDS, Command, Outcome
from dupmae.errors import USER_ERROR_EXIT_CODE, DupmaeError
from dupmae.memory import keep_pages

if TYPE_CHECKING:
    from dupmae.settings.loading import Setting

INTERRUPTED_EXIT_CODE = 130
# 128 + SIGPIPE: what the shell reports of a program whose reader went away.
PIPE_EXIT_CODE = 141
OVERRIDE = re.compile(r"[A-Za-z_][\w.]*=")
RECIPE_HELP = "YAML file with settings, or the name of a recipe that comes along"
# How a full disk reads in the errors of the libraries that write weights and tokenizers.
FULL = ("No space left on device", "File too large", "Disk quota exceeded")


class Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line, like every other error."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        shape = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, description=description, epilog=epilog, formatter_class=shape, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise what was wrong with the command line."""
        where = self.prog.partition(" ")[2] or None
        raise DupmaeError(message, where=where, fix=f"see `{self.prog} --help`")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    keep_pages()
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except DupmaeError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        print("dupmae: interrupted", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # The reader has gone: nothing more can be said, not even by the flush at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_EXIT_CODE
    except OSError as error:
        return _failed(str(DupmaeError(error.strerror or str(error), where=error.filename, fix=_remedy(str(error)))))
    except Exception as error:
        reason = next((text for text in FULL if text in str(error)), None)
        if reason is None:
            raise
        return _failed(str(DupmaeError(f"cannot write: {reason}", fix=_remedy(reason))))
    return 0


def _failed(message: str) -> int:
    print(f"dupmae: {message}", file=sys.stderr)
    return USER_ERROR_EXIT_CODE


def _remedy(message: str) -> str:
    full = any(text in message for text in FULL)
    return "free some space or choose another place" if full else "check the path and its permissions"


def _run(arguments: Sequence[str]) -> None:
    top = Parser("dupmae", "Raw text to a measured hybrid retriever.", _command_list())
    top.add_argument("--version", action="version", version=f"dupmae {__version__}")
    top.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of those below")
    top.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if not arguments:
        top.print_help()
        return
    name = top.parse_args(list(arguments)).command
    # What follows the command is its own affair: `dupmae search --help` is not `dupmae --help`.
    rest = list(arguments)[list(arguments).index(name) + 1 :]
    command = COMMANDS[name]
    parser = _parser(command)
    options = parser.parse_intermixed_args(rest)
    # Of the processes of one run only the first one speaks.
    first = os.environ.get("RANK", "0") == "0"
    _prepare_output(quiet=options.quiet or not first)
    outcome = command.run(options) if command.arguments else _run_with_settings(command, options)
    if not first:
        return
    print(json.dumps(outcome.result, ensure_ascii=False) if options.json else outcome.text)


def _command_list() -> str:
    lines = [f"  {name:<11} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(["commands:", *lines, "", "`dupmae COMMAND --help` tells more of each."])


def _parser(command: Command) -> Parser:
    if command.arguments is None:
        parser = _settings_parser(command)
    else:
        parser = Parser(f"dupmae {command.name}", _sentence(command), f"example: {command.example}")
        command.arguments(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error, only warnings")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on standard output")
    return parser


def _settings_parser(command: Command) -> Parser:
    from dupmae import settings as stage_settings
    from dupmae.settings.loading import describe, describe_with, find_recipe

    own = find_recipe(None, command.name)
    settings = {setting.name: setting for setting in describe_with(getattr(stage_settings, command.settings), own)}
    flags = {name: _told(setting) for name, setting in settings.items()}
    apart = "".join(f" without {name}" for name in command.variants)
    source = "" if own is None else f"; defaults are those of the recipe {own.stem}"
    epilog = [f"settings{apart}, in the recipe or as NAME=VALUE{source}:", *_listed(settings.values())]
    for name, variant in command.variants.items():
        others = {setting.name: setting for setting in describe(getattr(stage_settings, variant.settings))}
        epilog += ["", f"settings with {name}={name.upper()}, {variant.summary}:", *_listed(others.values())]
        for other, setting in others.items():
            told = _told(setting)
            if flags.setdefault(other, told) != told:
                given = _flag(name) if name in command.flags else f"{name}={name.upper()}"
                flags[other] += f"; with {given}: {told}"
        settings = others | settings
    parser = Parser(f"dupmae {command.name}", _sentence(command), "\n".join(epilog))
    told = "settings, listed below"
    if command.words:
        meaning = RECIPE_HELP if command.words == "recipe" else settings[command.words].description
        told = f"{meaning}; or NAME=VALUE"
    parser.add_argument("words", nargs="*", metavar=command.words.rstrip("s").upper() or "NAME=VALUE", help=told)
    parser.add_argument("--recipe", metavar="FILE", help=f"{RECIPE_HELP}; what is given here wins")
    for flag in command.flags:
        parser.add_argument(_flag(flag), dest=flag, metavar=flag.upper(), help=flags[flag].replace("%", "%%"))
    for switch, value in command.switches.items():
        told = settings[switch].description
        parser.add_argument(_flag(switch), dest=switch, action="store_const", const=value, help=told)
    return parser


def _listed(settings: Iterable[Setting]) -> list[str]:
    lines = []
    for setting in sorted(settings, key=lambda setting: setting.default is not None):
        default = "required" if setting.default is None else f"default: {setting.default}"
        told = f"{setting.description} [{setting.allowed}; {default}]".strip()
        lines += [f"  {setting.name}", *textwrap.wrap(told, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return lines


def _told(setting: Setting) -> str:
    default = "" if setting.default is None else f" (default: {setting.default})"
    return f"{setting.description or setting.name}{default}"


def _sentence(command: Command) -> str:
    return f"{command.summary.capitalize()}."


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _prepare_output(*, quiet: bool) -> None:
    import warnings

    from dupmae import console

    console.set_up(quiet=quiet)
    # The libraries' own advice and bars are for people who call them, and would break the one-line rule.
    quiet_libraries = {
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_HUB_VERBOSITY": "error",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    for name, value in quiet_libraries.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def _run_with_settings(command: Command, options: argparse.Namespace) -> Outcome:
    from dupmae import settings as stage_settings
    from dupmae.settings.loading import find_recipe, line_of, load

    given = {flag: getattr(options, flag) for flag in (*command.flags, *command.switches)}
    overrides = [word for word in options.words if OVERRIDE.match(word)]
    words = [word for word in options.words if not OVERRIDE.match(word)]
    if command.words == "inputs" and words:
        given["inputs"] = words
    elif command.words and len(words) == 1:
        given[command.words] = words[0]
    elif words:
        extra = words[1 if command.words else 0]
        raise DupmaeError("not a setting", where=extra, fix=f"write NAME=VALUE; see `dupmae {command.name} --help`")
    file = find_recipe(given.pop("recipe", None) or options.recipe, command.name)
    for name, variant in command.variants.items():
        written = any(word.startswith(f"{name}=") for word in overrides)
        if written or given.get(name) is not None or (file is not None and line_of(file, name) is not None):
            command = variant
    settings = load(getattr(stage_settings, command.settings), file, overrides, **given)
    return command.run(settings, file) if command.takes_file else command.run(settings)


if __name__ == "__main__":
    sys.exit(main())
