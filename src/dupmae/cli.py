"""The command `dupmae`: parse, call, print.

Results go to standard output, progress and the one line of an error to standard error. Exit codes: 0 done,
2 a fault of the input or the machine, 130 interrupted, 141 the reader went away, 143 terminated.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

from dupmae.commands import COMMANDS, Command, Outcome
from dupmae.errors import USER_ERROR_EXIT_CODE, DupmaeError, did_you_mean, printable
from dupmae.memory import keep_pages

# 128 + the number of the signal: what the shell reports of a program that one ends.
INTERRUPTED_EXIT_CODE = 128 + signal.SIGINT
TERMINATED_EXIT_CODE = 128 + signal.SIGTERM
PIPE_EXIT_CODE = 128 + signal.SIGPIPE
# How a full disk reads in the errors of the libraries that write weights and tokenizers.
FULL = ("No space left on device", "File too large", "Disk quota exceeded")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    keep_pages()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Python lets only the main thread have handlers.
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if main_thread else None
    try:
        _run(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except DupmaeError as error:
        return _failed(error)
    except KeyboardInterrupt:
        print("dupmae: interrupted", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE
    except BrokenPipeError:
        # The reader has gone: nothing more can be said, not even by the flush at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_EXIT_CODE
    except OSError as error:
        return _failed(DupmaeError(error.strerror or str(error), where=error.filename, fix=_remedy(str(error))))
    except Exception as error:
        reason = next((text for text in FULL if text in str(error)), None)
        if reason is None:
            raise
        return _failed(DupmaeError(f"cannot write: {reason}", fix=_remedy(reason)))
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)
    return 0


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave through every `finally`, which removes what is half-written; a second signal waits for that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(TERMINATED_EXIT_CODE)


def _failed(error: DupmaeError) -> int:
    print(f"dupmae: {error}", file=sys.stderr)
    return USER_ERROR_EXIT_CODE


def _remedy(message: str) -> str:
    full = any(text in message for text in FULL)
    return "free some space or choose another place" if full else "check the path and its permissions"


def _run(arguments: list[str]) -> None:
    name, words = (arguments[0], arguments[1:]) if arguments else ("--help", [])
    if name == "--version":
        from dupmae import __version__

        print(f"dupmae {__version__}")
    elif name in ("-h", "--help"):
        print(_overview())
    elif name not in COMMANDS:
        fix = did_you_mean(name, COMMANDS, "`dupmae --help` lists the commands")
        raise DupmaeError(f"no {'option' if name.startswith('-') else 'command'} {name}", fix=fix)
    else:
        _run_command(COMMANDS[name], words)


def _overview() -> str:
    lines = [f"  {name:<15} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: dupmae COMMAND ...",
            "",
            "Raw text to a measured hybrid retriever.",
            "",
            "commands:",
            *lines,
            "",
            "`dupmae COMMAND --help` tells more of each, `dupmae --version` which version this is.",
        ]
    )


def _run_command(command: Command, words: list[str]) -> None:
    from dupmae import console
    from dupmae.commands.options import help_text, parse, recipes_text, settings_of
    from dupmae.settings.recipes import find_recipe
    from dupmae.stages import STAGES, call

    found = parse(command, words)
    if "help" in found.switches:
        print(help_text(command))
        return
    if command.words == ("recipe",) and not words and find_recipe(None, command.name) is None:
        print(recipes_text(command))
        return
    # Of the processes of one run only the first one speaks.
    first = os.environ.get("RANK", "0") == "0"
    console.set_up(quiet="quiet" in found.switches or not first)
    console.silence_libraries()
    command, settings, recipe = settings_of(command, found)
    result = call(STAGES[command.stage], settings, recipe)
    outcome = command.outcome(settings, result, *([recipe] if command.words == ("recipe",) else []))
    if first:
        print(printable(_json(outcome) if "json" in found.switches else outcome.text))


def _json(outcome: Outcome) -> str:
    # What the terminal cannot encode is escaped as Python does it, which is no JSON beyond the first 65,536 characters.
    return json.dumps(outcome.result, ensure_ascii=(sys.stdout.encoding or "").lower() != "utf-8")


if __name__ == "__main__":
    sys.exit(main())
