"""The files of SentEval's transfer tasks, in SentEval's own layout or as tables with the label in front.

`open_tasks` reads the tasks that are asked for. SentEval sorts the examples of a part by their number of words (in
a pair by that of the first sentence, then the second) and then by label, which its folds depend on; so does this.
"""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from dupmae.corpus.lines import read_lines
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.official_files import File, Folder, reads
from dupmae.settings.benchmarks import EvaluateSuite

TREC_CLASSES = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")


@dataclass(frozen=True, slots=True)
class Example:
    """A sentence or a pair with its class."""

    texts: tuple[str, ...]
    label: int


Parts = dict[str, list[Example]]
"""train, and where there are any dev and test."""


@dataclass(frozen=True)
class Task:
    """A task with its examples, and whether all parts have the official counts."""

    name: str
    parts: Parts
    files: tuple[Path, ...]
    official: bool
    notes: tuple[str, ...] = ()


Reader = Callable[[Path], list[Example]]


@dataclass(frozen=True)
class Layout:
    """One way a task is published: for each part its files, each with its reader, and the official counts."""

    parts: dict[str, tuple[tuple[File, Reader], ...]]
    counts: dict[str, int]
    notes: tuple[str, ...] = ()

    def files(self) -> list[File]:
        """All files, in order."""
        return [file for found in self.parts.values() for file, _ in found]


def open_tasks(settings: EvaluateSuite) -> list[Task]:
    """Read the tasks of `settings.sets`, or all seven.

    Raises:
        DupmaeError: for an unknown task, data that is missing or damaged, or has not the official counts although
            `settings.official` asks for them, or a training class with too few examples for the folds.
    """
    unknown = [name for name in settings.sets if name not in LAYOUTS]
    if unknown:
        raise DupmaeError(f"no task {unknown[0]}", where="sets", fix=f"there are: {', '.join(LAYOUTS)}")
    names = [name for name in LAYOUTS if not settings.sets or name in settings.sets]
    if settings.data is None:
        files = [file for name in names for file in LAYOUTS[name][0].files()]
        raise DupmaeError("data is not given", where="senteval-transfer", fix=reads("senteval-transfer", files))
    folder = Folder(settings.data)
    tasks = [_open(folder, name, official=settings.official) for name in names]
    for task in tasks:
        _refuse_small(task, settings.folds)
    return tasks


def _open(folder: Folder, name: str, *, official: bool) -> Task:
    layouts = LAYOUTS[name]
    layout = next((layout for layout in layouts if all(map(folder.find, layout.files()))), layouts[0])
    paths = iter(folder.find_all(name, layout.files()))
    used, parts = [], {}
    for part, files in layout.parts.items():
        found: list[Example] = []
        for _, read in files:
            used.append(next(paths))
            found += read(used[-1])
        if official and len(found) != layout.counts[part]:
            problem = f"{name} has {len(found):,} examples to {part}, officially {layout.counts[part]:,}"
            fix = "fetch the file again, or give official=false to measure on what there is"
            raise DupmaeError(problem, where=used[-1], fix=fix)
        if len({example.label for example in found}) < 2:
            raise DupmaeError(f"{name} has fewer than two classes", where=used[-1], fix="fetch the file again")
        parts[part] = sorted(found, key=lambda example: (*(len(t.split()) for t in example.texts), example.label))
    whole = {part: len(found) for part, found in parts.items()} == layout.counts
    return Task(name, parts, tuple(used), whole, layout.notes)


def _refuse_small(task: Task, folds: int) -> None:
    """Refuse a training class that cannot be dealt out to the folds.

    Without a test part there are folds inside each fold, whose training part has up to two examples of a class fewer.

    Raises:
        DupmaeError: naming the class.
    """
    if "dev" in task.parts:
        return
    needed = folds if "test" in task.parts else folds + 2
    label, count = min(Counter(example.label for example in task.parts["train"]).items(), key=itemgetter(1))
    if count < needed:
        has = f"{task.name} has {count} of class {label}"
        problem = f"{folds} folds need {needed} training examples of each class, {has}"
        raise DupmaeError(problem, where="folds", fix="give fewer folds or more data")


def _of_class(label: int) -> Reader:
    """A reader of sentences of one class, one a line."""

    def read(path: Path) -> list[Example]:
        # CR has blank lines, which SentEval counts as sentences too.
        return [Example((text,), label) for _, text in _latin(path)]

    return read


def _label_first(path: Path) -> list[Example]:
    """`label sentence` lines."""
    return [_example(text.partition(" "), path, line) for line, text in _latin(path) if text.strip()]


def _label_first_utf8(path: Path) -> list[Example]:
    return [_example(text.partition(" "), path, line) for line, text in read_lines(path) if text.strip()]


def _label_last(path: Path) -> list[Example]:
    """`sentence TAB label` lines."""
    return [_example(text.rpartition("\t")[::-1], path, line) for line, text in read_lines(path) if text.strip()]


def _example(columns: tuple[str, str, str], path: Path, line: int) -> Example:
    label, _, text = columns
    if not label.strip().isdecimal():
        raise DupmaeError("needs a sentence and the number of its class", where=path, line=line, fix="fetch it again")
    return Example((text,), int(label))


def _questions(path: Path) -> list[Example]:
    """`CLASS:subclass question` lines; the six classes count."""
    found = []
    for line, text in _latin(path):
        if not text.strip():
            continue
        label, mark, question = text.partition(" ")
        name = label.partition(":")[0]
        if not mark or name not in TREC_CLASSES:
            fix = "write: CLASS:subclass question"
            raise DupmaeError(f"no class {name!r}", where=path, line=line, fix=fix)
        found.append(Example((question,), TREC_CLASSES.index(name)))
    return found


def _paraphrases(path: Path) -> list[Example]:
    """`class TAB id TAB id TAB sentence TAB sentence` lines under a header."""
    found = []
    for line, text in read_lines(path):
        if line == 1 or not text.strip():
            continue
        columns = text.split("\t")
        if len(columns) != 5 or columns[0] not in ("0", "1"):
            fix = "write: class TAB id TAB id TAB sentence TAB sentence"
            raise DupmaeError("not a pair of sentences with a class", where=path, line=line, fix=fix)
        found.append(Example((columns[3], columns[4]), int(columns[0])))
    return found


def _latin(path: Path) -> Iterator[tuple[int, str]]:
    """Lines in Latin-1, which the older of these files are written in."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DupmaeError(f"damaged gzip file: {error}", where=path, fix="fetch it again") from None
    for number, line in enumerate(data.removesuffix(b"\n").split(b"\n"), 1):
        yield number, line.decode("latin-1").rstrip("\r")


def _by_class(count: int, *files: tuple[str, int]) -> tuple[Layout, Layout]:
    """A task of two classes: a file for each, or one table (its last name) of both."""
    *classes, table = files
    apart = tuple((File((name,), "sentences of one class"), _of_class(label)) for name, label in classes)
    whole = ((File((table[0],), f"{count:,} sentences"), _label_first),)
    return Layout({"train": apart}, {"train": count}), Layout({"train": whole}, {"train": count})


def _single(name: str, count: int, reader: Reader, *others: str) -> tuple[tuple[File, Reader], ...]:
    return ((File((name, *others), f"{count:,} examples"), reader),)


PHRASES = "SST2: trained on phrases and sentences, as SentEval does"
SENTENCES = "SST2: trained on whole sentences alone; SentEval's 67,349 training examples include phrases"
LAYOUTS: dict[str, Sequence[Layout]] = {
    "MR": _by_class(10_662, ("rt-polarity.pos", 1), ("rt-polarity.neg", 0), ("rt-polarity.all", 0)),
    "CR": _by_class(3_775, ("custrev.pos", 1), ("custrev.neg", 0), ("custrev.all", 0)),
    "SUBJ": _by_class(10_000, ("subj.objective", 1), ("subj.subjective", 0), ("subj.all", 0)),
    "MPQA": _by_class(10_606, ("mpqa.pos", 1), ("mpqa.neg", 0), ("mpqa.all", 0)),
    "SST2": (
        Layout(
            {
                "train": _single("SST/binary/sentiment-train", 67_349, _label_last),
                "dev": _single("SST/binary/sentiment-dev", 872, _label_last),
                "test": _single("SST/binary/sentiment-test", 1_821, _label_last),
            },
            {"train": 67_349, "dev": 872, "test": 1_821},
            (PHRASES,),
        ),
        Layout(
            {
                "train": _single("stsa.binary.train", 6_920, _label_first_utf8),
                "dev": _single("stsa.binary.dev", 872, _label_first_utf8),
                "test": _single("stsa.binary.test", 1_821, _label_first_utf8),
            },
            {"train": 6_920, "dev": 872, "test": 1_821},
            (SENTENCES,),
        ),
    ),
    "TREC": (
        Layout(
            {
                "train": _single("train_5500.label", 5_452, _questions, "TREC.train"),
                "test": _single("TREC_10.label", 500, _questions, "TREC.test"),
            },
            {"train": 5_452, "test": 500},
        ),
        Layout(
            {
                "train": _single("TREC.train.all", 5_452, _label_first),
                "test": _single("TREC.test.all", 500, _label_first),
            },
            {"train": 5_452, "test": 500},
        ),
    ),
    "MRPC": (
        Layout(
            {
                "train": _single("msr_paraphrase_train.txt", 4_076, _paraphrases),
                "test": _single("msr_paraphrase_test.txt", 1_725, _paraphrases, "msr-para-test.tsv"),
            },
            {"train": 4_076, "test": 1_725},
        ),
        Layout(
            {
                "train": (
                    (File(("msr-para-train.tsv",), "3,576 examples"), _paraphrases),
                    (File(("msr-para-val.tsv",), "500 examples"), _paraphrases),
                ),
                "test": _single("msr-para-test.tsv", 1_725, _paraphrases),
            },
            {"train": 4_076, "test": 1_725},
        ),
    ),
}
