"""How numbers, names and texts of others are written, in every table, page and chart."""

from __future__ import annotations

import re
from collections.abc import Iterable

METRIC_NAMES = {"ndcg": "nDCG", "mrr": "MRR", "recall": "Recall", "map": "MAP", "precision": "P"}
NOTHING = "–"
# Control characters, lone surrogates (which UTF-8 cannot write) and marks that turn the direction of what follows.
_INERT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
SNIPPET = 260


def plain(text: str) -> str:
    """A text of others with a replacement sign for each character that terminals or browsers act on."""
    return _INERT.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """The same with every run of white space as one space."""
    return plain(" ".join(text.split()))


def snippet(text: str) -> str:
    """The beginning of a text, cut between words."""
    text = one_line(text)
    return text if len(text) <= SNIPPET else text[:SNIPPET].rsplit(" ", 1)[0] + " …"


def metric_name(metric: str) -> str:
    """ndcg@10 as it is written in papers: nDCG@10."""
    name, at, k = metric.partition("@")
    return f"{METRIC_NAMES.get(name, name)}{at}{k}"


def score_text(value: float) -> str:
    """A metric with four digits: the fourth is what the mean over some hundred queries can tell."""
    return f"{value:.4f}"


def p_text(p: float) -> str:
    """A p-value in a column of them: `< 0.001` or `0.034`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_relation(p: float) -> str:
    """A p-value in a sentence: `p < 0.001` or `p = 0.034`."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def interval_text(low: float, high: float) -> str:
    """A confidence interval of a difference."""
    return f"{low:+.4f} to {high:+.4f}"


def bytes_text(count: float) -> str:
    """12.3 MB: decimal units, one digit after the point below 100."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """4.2 s or 8 min 03 s."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def rate_text(rate: float) -> str:
    """A rate with one digit after the point below 10."""
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"


def counted(count: int, noun: str) -> str:
    """1 query, 2 queries."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"


def listed(names: Iterable[str]) -> str:
    """a, b and c."""
    *front, last = names
    return f"{', '.join(front)} and {last}" if front else last
