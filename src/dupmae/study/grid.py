"""The cells of a study: every axis varied on its own, and those that are crossed.

`check` refuses what no stage would take, before anything is run; `expand` gives the cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from dupmae.errors import DupmaeError
from dupmae.settings import Finetune, Level, Prepare, Pretrain, Settings, Study
from dupmae.settings.loading import line_of, load_part

S = TypeVar("S", bound=Settings)
Tree = dict[str, Any]
# What the study itself sets, so that cells differ in nothing else.
PRETRAIN_SET = ("model", "from_scratch", "out", "resume", "seed", "steps", "minutes", "epochs", "flops", "planned")
FINETUNE_SET = ("model", "data", "mined", "split", "out", "resume", "seed", "minutes", "steps_of")
PREPARE_SET = ("out", "tokenizer", "vocabulary")
# Stand for paths that are known only when a stage is run.
LATER, PAIRS = "later", "pairs"
CONTRASTIVE = "contrastive"


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        levels: the level of every axis.
        pretrain, second, finetune: settings of the stages as the recipe gives them, None where a stage is left out.
    """

    levels: Mapping[str, str]
    pretrain: Tree | None
    second: Tree | None
    finetune: Tree

    @property
    def stages(self) -> Tree:
        """The settings of all stages; cells where they are equal are one cell."""
        return {"pretrain": self.pretrain, "second": self.second, "finetune": self.finetune}

    def name(self, first: Mapping[str, str]) -> str:
        """The levels that are not the first of their axis, in words."""
        others = [f"{axis}: {level}" for axis, level in self.levels.items() if level != first[axis]]
        return ", ".join(others) or next(iter(self.levels.values()))


def first_levels(study: Study) -> dict[str, str]:
    """The first level of every axis."""
    return {axis: next(iter(levels)) for axis, levels in study.axes.items()}


def expand(study: Study, only: Sequence[str] | None = None) -> list[Cell]:
    """All cells of a checked study in order, each once, the baseline first.

    Args:
        only: names of axes, or of crossed ones as `a+b`; None: all.

    Raises:
        DupmaeError: for an unknown axis.
    """
    groups = {axis: [axis] for axis in study.axes} | {"+".join(axes): axes for axes in study.cross}
    for name in only or ():
        if name not in groups:
            raise DupmaeError(f"no axis {name}", where="only", fix=f"give some of: {', '.join(groups)}")
    chosen = [axes for name, axes in groups.items() if only is None or name in only]
    levels = [study.baseline, *(found for axes in chosen for found in combined(study, axes))]
    cells: dict[str, Cell] = {}
    for found in levels:
        cell = cell_of(study, found)
        cells.setdefault(repr(cell.stages), cell)
    return list(cells.values())


def combined(study: Study, axes: Sequence[str]) -> Iterator[dict[str, str]]:
    """All levels of some axes with each other."""
    for levels in product(*(study.axes[axis] for axis in axes)):
        yield dict(zip(axes, levels, strict=True))


def cell_of(study: Study, levels: Mapping[str, str]) -> Cell:
    """The cell at some levels, with the first level of every axis that is not named."""
    whole = {axis: levels.get(axis, first) for axis, first in first_levels(study).items()}
    chosen = [study.axes[axis][level] for axis, level in whole.items()]
    pretrain: Tree | None
    pretrain, second, finetune = study.pretrain, study.second, study.finetune
    for level in chosen:
        pretrain = merged(pretrain, level.pretrain or {})
        if level.second is not None:
            second = merged(second or {}, level.second)
        elif "second" in level.model_fields_set:
            second = None
        finetune = merged(finetune, level.finetune)
    # What one level leaves out, no other brings back.
    if not all(level.trained for level in chosen):
        pretrain = second = None
    elif second is not None:
        second = merged(pretrain, second)
    return Cell(whole, pretrain, second, finetune)


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> Tree:
    """Settings with some changed, group by group."""
    result = dict(base)
    for name, value in changes.items():
        before = result.get(name)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[name] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result


def check(study: Study, recipe: Path | None) -> None:
    """Refuse what no stage would take.

    Args:
        recipe: the file the settings came from, whose lines errors name.

    Raises:
        DupmaeError: for an unknown axis, level or corpus, and for settings that a stage refuses.
    """
    for name, values in study.corpora.items():
        prepare_settings(study, name, values, recipe)
    _check_level(study, "", Level(pretrain=study.pretrain, second=study.second, finetune=study.finetune), recipe)
    for axis, levels in study.axes.items():
        for name, level in levels.items():
            _check_level(study, f"axes.{axis}.{name}.", level, recipe)
    for axes in study.cross:
        _check_names(study, "cross", dict.fromkeys(axes), recipe)
    _check_names(study, "baseline", study.baseline, recipe)
    for finding in study.findings:
        for levels_of in (finding.better, finding.worse):
            _check_names(study, "findings", levels_of, recipe)


def _check_names(study: Study, setting: str, levels: Mapping[str, str | None], recipe: Path | None) -> None:
    for axis, level in levels.items():
        if axis not in study.axes:
            fix = f"axes: {', '.join(study.axes)}"
            raise _fault(f"{setting} names no axis {axis}", setting, recipe, fix)
        if level is not None and level not in study.axes[axis]:
            fix = f"levels: {', '.join(study.axes[axis])}"
            raise _fault(f"{setting} names no level {level} of {axis}", setting, recipe, fix)


def _check_level(study: Study, part: str, level: Level, recipe: Path | None) -> None:
    """The settings that a level leads to, with what it changes placed where it stands."""
    first = merged(study.pretrain, level.pretrain or {})
    if level.trained:
        pretrain_settings(study, first, recipe, f"{part}pretrain")
    if level.second is not None:
        second = merged(study.second or {}, level.second)
        pretrain_settings(study, merged(first, second), recipe, f"{part}second")
    finetune_settings(merged(study.finetune, level.finetune), recipe, f"{part}finetune")


def prepare_settings(study: Study, name: str, values: Mapping[str, Any], recipe: Path | None = None) -> Prepare:
    """Settings of a corpus, its inputs below the study's data."""
    part = f"corpora.{name}"
    inputs = values.get("inputs")
    placed = {"inputs": [str(study.data / str(path)) for path in inputs]} if isinstance(inputs, list) else {}
    return _stage(Prepare, part, {**values, **placed}, {"out": LATER}, PREPARE_SET, recipe)


def pretrain_settings(
    study: Study, values: Mapping[str, Any], recipe: Path | None = None, part: str = "pretrain", pairs: str = PAIRS
) -> Pretrain:
    """Settings of pre-training; `pairs` are those that are fine-tuned on, for a contrastive part."""
    given = values.get("data", [])
    names = given if isinstance(given, list) else [given]
    if not names:
        raise _fault(f"{part}.data is not given", part, recipe, f"name some of: {', '.join(study.corpora)}")
    for name in names:
        if name not in study.corpora:
            raise _fault(f"no corpus {name}", f"{part}.data", recipe, f"corpora: {', '.join(study.corpora)}")
    paired = values.get(CONTRASTIVE)
    if isinstance(paired, Mapping):
        values = {**values, CONTRASTIVE: {**paired, "data": pairs}}
    return _stage(Pretrain, part, {**values, "data": names}, {"out": LATER}, PRETRAIN_SET, recipe)


def finetune_settings(
    values: Mapping[str, Any], recipe: Path | None = None, part: str = "finetune", **later: Any
) -> Finetune:
    """Settings of fine-tuning; `later` gives what the study sets, known when it is run."""
    if values.get("steps") is None and values.get("epochs") is None:
        raise _fault("neither finetune.steps nor finetune.epochs is given", part, recipe, "give finetune.steps")
    here = {"model": LATER, "data": LATER, "out": "retriever", **later}
    return _stage(Finetune, part, values, here, FINETUNE_SET, recipe)


def _stage(
    kind: type[S], part: str, values: Mapping[str, Any], later: Tree, reserved: Sequence[str], recipe: Path | None
) -> S:
    for name in values:
        if name in reserved:
            raise _fault(f"{part}.{name} is set by the study", f"{part}.{name}", recipe, "remove it")
    values = {**values, **later}
    try:
        return load_part(kind, part, values, recipe=None)
    except DupmaeError as error:
        told = error
    # The recipe is read again for a fault alone, to name its line.
    try:
        load_part(kind, part, values, recipe=recipe)
    except DupmaeError as error:
        told = error
    line = line_of(recipe, part) if told.line is None and recipe is not None else told.line
    raise DupmaeError(f"{part}: {told.problem}", where=told.where or recipe, line=line, fix=told.fix)


def _fault(problem: str, setting: str, recipe: Path | None, fix: str) -> DupmaeError:
    if recipe is None:
        return DupmaeError(problem, where=setting, fix=fix)
    return DupmaeError(problem, where=recipe, line=line_of(recipe, setting), fix=fix)
