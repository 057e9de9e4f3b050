"""`senteval-transfer`: seven classification tasks on fixed sentence vectors (Conneau and Kiela 2018).

Logistic regression with an L2 penalty, its strength C chosen by SentEval's rules:

- MR, CR, SUBJ, MPQA: stratified cross-validation; in each fold C (2^-2 ... 2^3) is chosen by another cross-validation
  inside the rest;
- TREC, MRPC: C (2^-1 ... 2^5) by cross-validation of the training part, then one test; MRPC's vectors are |u - v| and
  u * v;
- SST2: C (2^-2 ... 2^3) on the development part, then one test.

scikit-learn fits (lbfgs, multinomial for TREC), which SentEval did with liblinear's one against the rest.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import hstack, issparse

from dupmae.console import Bar, progress
from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.encoded_texts import Texts
from dupmae.evaluation.benchmarks.senteval import Example, Task, open_tasks
from dupmae.evaluation.benchmarks.suite_results import cached, key_of, sha256_of, write_metrics
from dupmae.retriever.model import Retriever
from dupmae.settings.benchmarks import EvaluateSuite

PROTOCOL = "accuracy in per cent; logistic regression, C chosen by SentEval's cross-validation"
STRENGTHS = [2.0**power for power in range(-2, 4)]
# SentEval's KFoldClassifier, for a training and a test part, has a grid of its own.
TRAIN_TEST_STRENGTHS = [2.0**power for power in range(-1, 6)]
# SentEval's own; the folds depend on it.
SEED = 1111
# Accuracies that C is chosen by are rounded like SentEval's, so that ties are the same: the weakest C wins.
DIGITS = 2

Features = Any
"""Vectors [n, d], dense or sparse."""
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Outcome:
    """Accuracies in per cent on held-out data.

    Attributes:
        test: the number that is reported.
        development: of the chosen C, where it was chosen.
        f1: of class 1, where it is reported too.
    """

    test: float
    development: float
    f1: float | None = None


def open_transfer(settings: EvaluateSuite) -> list[Task]:
    """Read the tasks.

    Raises:
        DupmaeError: as `open_tasks`, and when scikit-learn is not installed.
    """
    _sklearn()
    return open_tasks(settings)


def evaluate_transfer(settings: EvaluateSuite, tasks: list[Task], retriever: Retriever, out: Path) -> dict[str, Any]:
    """Measure the tasks and write metrics.json.

    Returns:
        metrics (accuracy of each task, their mean when all seven are there), tasks (what else is known), counts.
    """
    data = sha256_of(list(dict.fromkeys(path for task in tasks for path in task.files)))
    options = settings.model_dump(mode="json", include={"part", "official", "folds", "batch_tokens"})
    options["tasks"] = [task.name for task in tasks]
    key = key_of(suite="senteval-transfer", retriever=retriever.fingerprint(), data=data, options=options)
    known = cached(out, key, ())
    if known is not None:
        return known
    outcomes = {}
    fits = sum(fit_count(task, settings.folds) for task in tasks)
    with progress("fitting", fits, "classifiers") as bar:
        for task in tasks:
            bar.describe(task.name)
            outcomes[task.name] = _measured(task, settings, retriever, bar)
    metrics = {name: outcome.test for name, outcome in outcomes.items()}
    if len(metrics) == 7:
        metrics["mean of 7"] = math.fsum(metrics.values()) / 7
    result = {
        "suite": "senteval-transfer",
        "protocol": PROTOCOL,
        "metrics": metrics,
        "tasks": {
            name: {"development": outcome.development} | ({} if outcome.f1 is None else {"f1": outcome.f1})
            for name, outcome in outcomes.items()
        },
        "counts": {task.name: {part: len(found) for part, found in task.parts.items()} for task in tasks},
        "official": all(task.official for task in tasks),
        "notes": [note for task in tasks for note in task.notes],
        "retriever": retriever.fingerprint(),
        "data": data,
        "settings": settings.model_dump(mode="json"),
        "key": key,
    }
    return write_metrics(out, result, ())


def _measured(task: Task, settings: EvaluateSuite, retriever: Retriever, bar: Bar) -> Outcome:
    texts = [text for found in task.parts.values() for example in found for text in example.texts]
    encoded = Texts(retriever, texts, settings.part, settings.batch_tokens)
    vectors = {name: features(encoded, found) for name, found in task.parts.items()}
    labels = {name: np.array([example.label for example in found]) for name, found in task.parts.items()}
    if "dev" in task.parts:
        return split(vectors, labels, bar)
    if "test" in task.parts:
        return train_test(vectors, labels, settings.folds, bar, f1=task.name == "MRPC")
    return nested(vectors["train"], labels["train"], settings.folds, bar)


def features(encoded: Texts, examples: Sequence[Example]) -> Features:
    """One vector an example: a sentence's, or |u - v| and u * v of a pair."""
    if len(examples[0].texts) == 1:
        return encoded.features([example.texts[0] for example in examples])
    left, right = (encoded.features([example.texts[side] for example in examples]) for side in (0, 1))
    if issparse(left):
        both: Any = [abs(left - right), left.multiply(right)]
        return hstack(both, format="csr", dtype=np.float32)
    return np.concatenate([np.abs(left - right), left * right], axis=1)


def nested(vectors: Features, labels: Labels, folds: int, bar: Bar | None = None) -> Outcome:
    """Cross-validation with another one inside each fold to choose C."""
    development, test = [], []
    for train, held in _folds(labels, folds):
        best, strength = chosen(partial(_cross_validated, vectors[train], labels[train], folds, bar), STRENGTHS)
        development.append(best)
        test.append(_accuracy(vectors[train], labels[train], vectors[held], labels[held], strength, bar))
    return Outcome(_mean(test), _mean(development))


def train_test(
    vectors: dict[str, Features], labels: dict[str, Labels], folds: int, bar: Bar | None = None, *, f1: bool = False
) -> Outcome:
    """C by cross-validation of the training part, then one test."""
    train = (vectors["train"], labels["train"])
    best, strength = chosen(partial(_cross_validated, *train, folds, bar), TRAIN_TEST_STRENGTHS)
    model = _fitted(*train, strength, bar)
    right = model.predict(vectors["test"])
    accuracy = 100 * float(np.mean(right == labels["test"]))
    return Outcome(accuracy, best, _f1(labels["test"], right) if f1 else None)


def split(vectors: dict[str, Features], labels: dict[str, Labels], bar: Bar | None = None) -> Outcome:
    """C on the development part, then one test."""
    train = (vectors["train"], labels["train"])
    best, strength = chosen(lambda c: _accuracy(*train, vectors["dev"], labels["dev"], c, bar), STRENGTHS)
    return Outcome(_accuracy(*train, vectors["test"], labels["test"], strength, bar), best)


def chosen(accuracy: Callable[[float], float], strengths: Sequence[float]) -> tuple[float, float]:
    """The best accuracy of all strengths, rounded, and the first strength that reaches it."""
    found = [round(accuracy(strength), DIGITS) for strength in strengths]
    return max(found), strengths[found.index(max(found))]


def fit_count(task: Task, folds: int) -> int:
    """Classifiers that a task takes."""
    if "dev" in task.parts:
        return len(STRENGTHS) + 1
    if "test" in task.parts:
        return len(TRAIN_TEST_STRENGTHS) * folds + 1
    return folds * (len(STRENGTHS) * folds + 1)


def _cross_validated(vectors: Features, labels: Labels, folds: int, bar: Bar | None, strength: float) -> float:
    return _mean(
        [
            _accuracy(vectors[train], labels[train], vectors[held], labels[held], strength, bar)
            for train, held in _folds(labels, folds)
        ]
    )


def _folds(labels: Labels, folds: int) -> list[tuple[Labels, Labels]]:
    from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]

    cut = StratifiedKFold(n_splits=folds, shuffle=True, random_state=SEED)
    return list(cut.split(np.zeros(len(labels)), labels))


def _accuracy(
    vectors: Features, labels: Labels, held: Features, truth: Labels, strength: float, bar: Bar | None
) -> float:
    model = _fitted(vectors, labels, strength, bar)
    return 100 * float(np.mean(model.predict(held) == truth))


def _fitted(vectors: Features, labels: Labels, strength: float, bar: Bar | None) -> Any:
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    model = LogisticRegression(C=strength, max_iter=1000, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.fit(vectors, labels)
    if bar is not None:
        bar.advance()
    return model


def _f1(truth: Labels, said: Labels) -> float:
    """F1 of class 1 in per cent."""
    right = int(np.sum((truth == 1) & (said == 1)))
    counted = int(np.sum(truth == 1) + np.sum(said == 1))
    return 200 * right / counted if counted else 0.0


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _sklearn() -> None:
    try:
        import sklearn  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        fix = 'pip install "dupmae[senteval]"'
        raise DupmaeError("needs scikit-learn, which is not installed", where="senteval-transfer", fix=fix) from None
