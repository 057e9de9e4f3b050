"""A small data set with mined negatives, and scores of a teacher that counts the words two texts share."""

from __future__ import annotations

from pathlib import Path

from dupmae.corpus.beir import Passage, write_beir
from dupmae.corpus.negatives import read_mined, write_scores
from dupmae.corpus.training_data import open_training
from dupmae.settings import Mine
from dupmae.stages.mine import mine
from tests.reference.tiny import sentences

QUERIES = 24


def data_folder(folder: Path) -> Path:
    """A BEIR folder of sentences; each of the first asks with some of its words, some are answered twice."""
    texts = sentences(60)
    passages = [Passage(f"d{n}", "", text) for n, text in enumerate(texts)]
    queries = {f"q{n}": " ".join(texts[n].split()[:2] + texts[n].split()[-7:-3]) for n in range(QUERIES)}
    qrels = {f"q{n}": {f"d{n}": 1, **({f"d{n + 30}": 1} if n % 5 == 0 else {})} for n in range(QUERIES)}
    write_beir(folder, passages, queries, {"train": qrels, "test": qrels})
    return folder


def mined_file(data: Path, out: Path, depth: int = 8) -> Path:
    return mine(Mine(data=data, out=out, depth=depth)).file


def word_scores(data: Path, mined: Path, out: Path, share: float = 1.0) -> Path:
    """Scores of every pair by shared words; of the given share of the queries only."""
    training = open_training(data)
    texts = {passage.id: passage.content for _, passage in training.passages()}
    items = list(read_mined(mined))
    scores = []
    for item in items[: round(share * len(items))]:
        words = set(training.queries[item.query].split())
        names = [*item.positives, *item.negatives]
        scores.append((item.query, {name: 2.0 * len(words & set(texts[name].split())) for name in names}))
    write_scores(out, scores)
    return out
