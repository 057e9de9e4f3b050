"""What a run's log.jsonl holds: losses and accuracies, the retrieval probe, figures of speed.

`read_log` gives its lines, `curves` its quantities over the steps, `is_quality` says which of them tell how good
the model is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae.corpus.lines import read_lines
from dupmae.errors import DupmaeError
from dupmae.files import LOG

# What depends on the clock; all else is the same whenever a run is repeated or resumed.
TIMED = ("tokens_per_second", "flops_per_second", "utilisation", "seconds_left")
SPEED = (*TIMED, "processes", "padding_share", "skipped_steps")
GROUPS = {"loss": "Loss terms", "accuracy": "Accuracy", "probe": "Retrieval probe", "speed": "Speed and schedule"}
IN_WORDS = {"cls": "[CLS]", "bow": "BoW", "mlm": "MLM"}
# The curve of the second is that of utilisation, the last is one number.
NOT_DRAWN = ("step", "flops_per_second", "processes")
# Where larger is better; everything else of quality is a loss.
RISING = ("accuracy", "probe")
Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Curve:
    """One logged quantity: its name in the log, its group (a key of GROUPS), steps and values."""

    name: str
    group: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    @property
    def title(self) -> str:
        """The name in words."""
        return in_words(self.name)

    @property
    def best(self) -> tuple[int, float]:
        """Step and value of the largest value, or of the smallest loss."""
        pick = max if self.group in RISING else min
        return pick(zip(self.steps, self.values, strict=True), key=lambda point: point[1])


def in_words(name: str) -> str:
    """A log entry's name as a person reads it: `probe_cls_mrr@10` is [CLS] MRR@10."""
    words = name.removeprefix("probe_").split("_")
    return " ".join(IN_WORDS.get(word, word) for word in words).replace("mrr", "MRR").replace("ndcg", "nDCG")


def is_quality(name: str) -> bool:
    """Whether a log entry is a loss term, an accuracy or a probe, rather than a count, a rate or a time."""
    return name not in ("step", "epoch", "seconds", *SPEED) and not name.endswith("learning_rate")


def note(line: Mapping[str, float]) -> str:
    """The figures of a log line for the progress bar: every term and accuracy, speed, the probe."""
    terms = [f"{in_words(name)} {value:.3g}" for name, value in line.items() if is_quality(name)]
    speed = [f"{line['tokens_per_second']:,.0f} tokens/s"]
    speed += [f"{line['utilisation']:.0%} of peak"] if "utilisation" in line else []
    return ", ".join([*terms, *speed])


def group(name: str) -> str:
    """The group that a log entry is drawn in."""
    if not is_quality(name):
        return "speed"
    return "probe" if name.startswith("probe_") else "accuracy" if "accuracy" in name else "loss"


def curves(lines: Lines) -> list[Curve]:
    """Every logged quantity that has a finite value somewhere, in the order of the groups."""
    names = dict.fromkeys(name for line in lines for name in line if name not in NOT_DRAWN)
    found = []
    for name in sorted(names, key=lambda name: list(GROUPS).index(group(name))):
        points = [(line["step"], line[name]) for line in lines if is_number(line.get(name))]
        if points:
            steps, values = zip(*points, strict=True)
            found.append(Curve(name, group(name), steps, values))
    return found


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that was cut off by the end of its process is left out.

    Raises:
        DupmaeError: when there is no log, it is empty, or a line is no record with a step.
    """
    file = run / LOG
    if not file.is_file():
        inside = sorted(path.parent for path in run.glob(f"*/{LOG}"))
        fix = f"name {inside[0]}" if inside else "name the folder of a pre-training or fine-tuning run"
        raise DupmaeError(f"has no {LOG}" if run.is_dir() else "no such folder", where=run, fix=fix)
    texts = list(read_lines(file))
    lines = []
    for number, text in texts:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        elif number < len(texts):
            raise DupmaeError("not a log line with a step", where=file, line=number, fix="remove the line")
    if not lines:
        raise DupmaeError("holds no log lines yet", where=file, fix="wait for the first step")
    return lines
