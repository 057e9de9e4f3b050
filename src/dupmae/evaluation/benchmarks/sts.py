"""`sts`: semantic textual similarity as SimCSE measures it (Gao et al. 2021, appendix B).

Spearman's rank correlation of the cosine with the gold scores, on STS12 to STS16, the STS Benchmark's test part and
SICK's. The parts of a year are put together and ranked as one ("all"); pairs without a gold score are left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr

from dupmae.corpus.lines import read_lines
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.encoded_texts import Texts
from dupmae.evaluation.benchmarks.official_files import File, Folder, reads
from dupmae.evaluation.benchmarks.suite_results import cached, key_of, sha256_of, write_metrics
from dupmae.files import write_json
from dupmae.retriever.model import Retriever
from dupmae.settings.benchmarks import EvaluateSuite

PAIRS_FILE = "pairs.json"
PROTOCOL = "Spearman x 100 of the cosine; the parts of a year concatenated (SimCSE's `all`), not averaged"
# Scored pairs of each part of each year. SMT of 2013 is left out, as in SentEval: it is not free.
YEARS = {
    12: {"MSRpar": 750, "MSRvid": 750, "SMTeuroparl": 459, "OnWN": 750, "SMTnews": 399},
    13: {"FNWN": 189, "headlines": 750, "OnWN": 561},
    14: {"deft-forum": 450, "deft-news": 300, "headlines": 750, "images": 750, "OnWN": 750, "tweet-news": 750},
    15: {"answers-forums": 375, "answers-students": 750, "belief": 375, "headlines": 750, "images": 750},
    16: {"answer-answer": 254, "headlines": 249, "plagiarism": 230, "postediting": 244, "question-question": 209},
}
STSB_PAIRS, SICK_PAIRS = 1_379, 4_927
STSB = File(("sts-test.csv",), f"{STSB_PAIRS:,} pairs")
SICK = File(("SICK_test_annotated.txt",), f"{SICK_PAIRS:,} pairs")
TASKS = (*(f"STS{year}" for year in YEARS), "STS-B", "SICK-R")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two sentences and how alike people found them."""

    left: str
    right: str
    gold: float


Parts = dict[str, list[Pair]]
"""Part of a task -> its pairs."""


@dataclass(frozen=True)
class Task:
    """A task with its pairs, the files they are from, and whether all parts have the official counts."""

    parts: Parts
    files: tuple[Path, ...]
    official: bool


def open_sts(settings: EvaluateSuite) -> dict[str, Task]:
    """Read all tasks, or those of `settings.sets`, by name.

    Raises:
        DupmaeError: for data that is missing, damaged, or has not the official counts although they are asked for.
    """
    tasks = [task for task in TASKS if not settings.sets or task in settings.sets]
    unknown = [name for name in settings.sets if name not in TASKS]
    if unknown:
        raise DupmaeError(f"no task {unknown[0]}", where="sets", fix=f"there are: {', '.join(TASKS)}")
    if settings.data is None:
        raise DupmaeError("data is not given", where="sts", fix=reads("sts", _files(tasks)))
    folder = Folder(settings.data)
    sources = {task: _sources(folder, task) for task in tasks}
    return {task: _task(task, source, official=settings.official) for task, source in sources.items()}


def evaluate_sts(settings: EvaluateSuite, tasks: dict[str, Task], retriever: Retriever, out: Path) -> dict[str, Any]:
    """Measure the tasks and write metrics.json and pairs.json.

    Returns:
        metrics (each task, and the mean of the seven when all are there), parts (each by itself), counts.
    """
    data = sha256_of(list(dict.fromkeys(path for task in tasks.values() for path in task.files)))
    options = settings.model_dump(mode="json", include={"part", "official", "batch_tokens"}) | {"tasks": list(tasks)}
    key = key_of(suite="sts", retriever=retriever.fingerprint(), data=data, options=options)
    known = cached(out, key, (PAIRS_FILE,))
    if known is not None:
        return known
    pairs = {name: task.parts for name, task in tasks.items()}
    every = [pair for parts in pairs.values() for found in parts.values() for pair in found]
    texts = Texts(
        retriever, [text for pair in every for text in (pair.left, pair.right)], settings.part, settings.batch_tokens
    )
    said = {task: {part: _cosines(texts, found) for part, found in parts.items()} for task, parts in pairs.items()}
    result = {
        "suite": "sts",
        "protocol": PROTOCOL,
        **scores(pairs, said),
        "counts": {task: sum(map(len, parts.values())) for task, parts in pairs.items()},
        "official": all(task.official for task in tasks.values()),
        "retriever": retriever.fingerprint(),
        "data": data,
        "settings": settings.model_dump(mode="json"),
        "key": key,
    }
    told = {
        task: {
            part: [[pair.gold, cosine] for pair, cosine in zip(found, said[task][part], strict=True)]
            for part, found in parts.items()
        }
        for task, parts in pairs.items()
    }
    write_json(out / PAIRS_FILE, told)
    return write_metrics(out, result, (PAIRS_FILE,))


def scores(pairs: dict[str, Parts], said: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Spearman x 100 of each task, its parts put together, and of each part by itself.

    Args:
        said: task -> part -> similarity of each pair, in the order of `pairs`.
    """
    metrics: dict[str, float] = {}
    parts: dict[str, float] = {}
    for task, found in pairs.items():
        gold = [pair.gold for part in found for pair in found[part]]
        metrics[task] = spearman(gold, list(itertools.chain.from_iterable(said[task][part] for part in found)))
        if len(found) > 1:
            parts |= {f"{task} {part}": spearman([p.gold for p in found[part]], said[task][part]) for part in found}
    if len(metrics) == len(TASKS):
        metrics["mean of 7"] = math.fsum(metrics.values()) / len(TASKS)
    return {"metrics": metrics, "parts": parts}


def spearman(gold: Sequence[float], said: Sequence[float]) -> float:
    """Spearman's rank correlation x 100, ties at their mean rank; 0 where all values of a side are equal."""
    if min(gold) == max(gold) or min(said) == max(said):
        return 0.0
    return 100 * float(spearmanr(gold, said).statistic)


def _cosines(texts: Texts, pairs: Sequence[Pair]) -> list[float]:
    cosines = texts.cosines([pair.left for pair in pairs], [pair.right for pair in pairs])
    return [float(value) for value in cosines]


def _year_files(year: int, part: str) -> tuple[File, File, File]:
    """SemEval's two files of a part, or the one table `score TAB sentence TAB sentence` that others make of them."""
    count = YEARS[year][part]
    folders = (f"STS{year}-en-test", f"20{year}")
    return (
        File(tuple(f"{folder}/STS.input.{part}.txt" for folder in folders), f"{count} scored pairs"),
        File(tuple(f"{folder}/STS.gs.{part}.txt" for folder in folders), f"{count} scores"),
        File(tuple(f"{folder}/{part}.test.tsv" for folder in folders), f"{count} scored pairs"),
    )


def _files(tasks: Sequence[str]) -> list[File]:
    """What the tasks read, a line for each year: part by part it would be fifty names."""
    found = []
    for year, parts in YEARS.items():
        if f"STS{year}" in tasks:
            told = ", ".join(f"{part} {count}" for part, count in parts.items())
            names = f"STS{year}-en-test/STS.input.PART.txt and STS.gs.PART.txt"
            found.append(File((names,), f"scored pairs of PART {told}"))
    found += [STSB] * ("STS-B" in tasks)
    return found + [SICK] * ("SICK-R" in tasks)


def _sources(folder: Folder, task: str) -> dict[str, list[Path]]:
    """Part -> its files.

    Raises:
        DupmaeError: when a part has none.
    """
    if task in ("STS-B", "SICK-R"):
        return {task: folder.find_all(task, _files([task]))}
    year = int(task[3:])
    found = {}
    for part in YEARS[year]:
        texts, gold, table = _year_files(year, part)
        joined = folder.find(table)
        if joined is not None:
            found[part] = [joined]
        elif part == "MSRvid" and folder.find(texts) is None and (stsb := _benchmark(folder)):
            # The STS Benchmark holds the whole of it, spread over its three parts.
            found[part] = stsb
        else:
            found[part] = folder.find_all(task, (texts, gold))
    return found


def _benchmark(folder: Folder) -> list[Path]:
    """The three files of the STS Benchmark, or none."""
    found = [folder.find(File((f"sts-{part}.csv",), "")) for part in ("train", "dev", "test")]
    return [path for path in found if path is not None] if all(found) else []


def _task(name: str, source: dict[str, list[Path]], *, official: bool) -> Task:
    parts = _read(name, source, official=official)
    whole = {part: len(pairs) for part, pairs in parts.items()} == _counts(name)
    return Task(parts, tuple(itertools.chain.from_iterable(source.values())), whole)


def _counts(task: str) -> dict[str, int]:
    """Official number of scored pairs of each part."""
    single = {"STS-B": {"STS-B": STSB_PAIRS}, "SICK-R": {"SICK-R": SICK_PAIRS}}
    return single.get(task) or YEARS[int(task[3:])]


def _read(task: str, source: dict[str, list[Path]], *, official: bool) -> Parts:
    counts = _counts(task)
    found = {}
    for part, paths in source.items():
        pairs = _pairs(task, paths)
        if official and len(pairs) != counts[part]:
            problem = f"has {len(pairs):,} scored pairs, officially {counts[part]:,}"
            fix = "fetch the file again, or give official=false to measure on what there is"
            raise DupmaeError(problem, where=paths[0], fix=fix)
        if len(pairs) < 2:
            raise DupmaeError("has fewer than two scored pairs", where=paths[0], fix="fetch the file again")
        found[part] = pairs
    return found


def _pairs(task: str, paths: Sequence[Path]) -> list[Pair]:
    if task == "STS-B":
        return _table(paths[0], gold=4, left=5, right=6)
    if task == "SICK-R":
        return _table(paths[0], gold=3, left=1, right=2, header=True)
    if len(paths) == 3:
        return [pair for path in paths for pair in _table(path, gold=4, left=5, right=6, only=("MSRvid", "2012test"))]
    if len(paths) == 1:
        return _table(paths[0], gold=0, left=1, right=2)
    lines, gold = ([text for _, text in read_lines(path)] for path in paths)
    if len(lines) != len(gold):
        problem = f"has {len(gold):,} lines for the {len(lines):,} pairs of {paths[0].name}"
        raise DupmaeError(problem, where=paths[1], fix="fetch the files again")
    rows = ([score, *text.split("\t")] for score, text in zip(gold, lines, strict=True))
    return [pair for line, row in enumerate(rows, 1) if (pair := _pair(row, paths[0], line, 0, 1, 2))]


def _table(
    path: Path, *, gold: int, left: int, right: int, header: bool = False, only: tuple[str, str] | None = None
) -> list[Pair]:
    found = []
    for line, text in read_lines(path):
        columns = text.split("\t")
        if not text.strip() or (header and line == 1) or (only and tuple(columns[1:3]) != only):
            continue
        pair = _pair(columns, path, line, gold, left, right)
        if pair is not None:
            found.append(pair)
    return found


def _pair(columns: Sequence[str], path: Path, line: int, gold: int, left: int, right: int) -> Pair | None:
    """A pair, or None when nobody scored it."""
    if len(columns) <= max(gold, left, right):
        problem = f"needs {max(gold, left, right) + 1} tab-separated columns, has {len(columns)}"
        raise DupmaeError(problem, where=path, line=line, fix="fetch the file again")
    if not columns[gold].strip():
        return None
    try:
        score = float(columns[gold])
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        problem = f"the score {columns[gold]!r} is not a finite number"
        raise DupmaeError(problem, where=path, line=line, fix="fetch the file again")
    return Pair(columns[left], columns[right], score)
