"""Natural language inference as training pairs: entailed sentences are positives, contradicted ones negatives.

Two layouts are read: the JSON lines of SNLI and MultiNLI, one judged sentence pair a line (`gold_label`, `sentence1`,
`sentence2`), and the CSV triples that SimCSE published (`sent0`, `sent1`, `hard_neg`; Gao et al. 2021, section 4).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from dupmae.console import logger
from dupmae.corpus.beir import Pair
from dupmae.corpus.lines import Record, encodable, read_lines, read_records, text_field
from dupmae.errors import DupmaeError

ENTAILMENT, CONTRADICTION = "entailment", "contradiction"
# Sentence pairs whose annotators did not agree are labelled "-".
LABELS = (ENTAILMENT, CONTRADICTION, "neutral", "-")
COLUMNS = ("sent0", "sent1", "hard_neg")


def is_judged(record: Record) -> bool:
    """Whether a JSON record is a judged sentence pair."""
    return "gold_label" in record or ("sentence1" in record and "sentence2" in record)


def is_triples(path: Path) -> bool:
    """Whether a file is CSV, plain or gzipped, by its name."""
    return path.name.removesuffix(".gz").endswith(".csv")


def read_judged(path: Path) -> Iterator[tuple[int, Pair]]:
    """Give (line, pair) for each premise that has both an entailment and a contradiction, as SimCSE takes them.

    The judgements of a premise need not stand together; the line is that of its first.

    Raises:
        DupmaeError: for a record without its fields, an unknown label, a blank sentence, and a file without any
            such premise.
    """
    lines: dict[str, int] = {}
    found: dict[str, dict[str, list[str]]] = {ENTAILMENT: {}, CONTRADICTION: {}}
    for line, record in read_records(path):
        label = text_field(record, ("gold_label",), path, line)
        if label not in LABELS:
            fix = f"write one of {', '.join(LABELS)}"
            raise DupmaeError(f"unknown gold_label {label!r}", where=path, line=line, fix=fix)
        premise, hypothesis = (_sentence(record, name, path, line) for name in ("sentence1", "sentence2"))
        if label in found:
            lines.setdefault(premise, line)
            found[label].setdefault(premise, []).append(hypothesis)
    both = [premise for premise in lines if all(premise in of for of in found.values())]
    if not both:
        problem = "no premise has both an entailment and a contradiction"
        raise DupmaeError(problem, where=path, fix="give the training file of SNLI or MultiNLI")
    if len(both) < len(lines):
        logger.info(f"{path}: {len(lines) - len(both):,} premises lack an entailment or a contradiction, left out")
    for premise in both:
        yield lines[premise], Pair(premise, found[ENTAILMENT][premise], found[CONTRADICTION][premise])


def _sentence(record: Record, name: str, path: Path, line: int) -> str:
    text = text_field(record, (name,), path, line)
    if not text.strip():
        raise DupmaeError(f"`{name}` is blank", where=path, line=line, fix="remove the line")
    return text


def read_triples(path: Path) -> Iterator[tuple[int, Pair]]:
    """Give (line, pair) for each row of a CSV file with the columns `sent0`, `sent1` and, if there is one, `hard_neg`.

    Raises:
        DupmaeError: for a header without the columns, a row with more or fewer entries, a blank sentence, a quote
            that is not closed, and a file without rows.
    """
    places: list[int] = []
    width, number = 0, 0
    # Line ends are put back for quoted texts of several lines.
    rows = csv.reader((f"{text}\n" for _, text in read_lines(path)), strict=True)
    try:
        for row in rows:
            if not any(entry.strip() for entry in row):
                continue
            if not places:
                places, width = _places(row, path, rows.line_num), len(row)
                continue
            number = rows.line_num
            if len(row) != width:
                problem = f"{len(row)} entries in a row, {width} in the header"
                raise DupmaeError(problem, where=path, line=number, fix="put texts with commas in double quotes")
            texts = [encodable(row[place].strip()) for place in places]
            blank = next((name for name, text in zip(COLUMNS, texts, strict=False) if not text), None)
            if blank is not None:
                raise DupmaeError(f"`{blank}` is blank", where=path, line=number, fix="remove the row")
            yield number, Pair(texts[0], [texts[1]], texts[2:])
    except csv.Error as error:
        raise DupmaeError(f"not CSV: {error}", where=path, line=rows.line_num, fix="mend the quotes") from None
    if not number:
        raise DupmaeError("holds no rows", where=path, fix=f"write {','.join(COLUMNS)} and a row for each triple")


def _places(header: list[str], path: Path, line: int) -> list[int]:
    """Where the columns stand."""
    names = [name.strip() for name in header]
    missing = next((name for name in COLUMNS[:2] if name not in names), None)
    if missing is not None:
        fix = f"begin the file with {','.join(COLUMNS)}"
        raise DupmaeError(f"has no column {missing} (has {', '.join(names)})", where=path, line=line, fix=fix)
    return [names.index(name) for name in COLUMNS if name in names]
