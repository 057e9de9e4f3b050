"""Ranking metrics, BM25 and the paired tests, one textbook formula at a time."""

from __future__ import annotations

import itertools
import math
import re


def ranked(scores: dict[str, float]) -> list[str]:
    """Best score first; of two equal scores, the larger id first (selection sort)."""
    left, order = dict(scores), []
    while left:
        best = max(left.values())
        document = max(document for document, score in left.items() if score == best)
        order.append(document)
        del left[document]
    return order


def ndcg(judged: dict[str, int], scores: dict[str, float], k: int) -> float:
    """DCG = sum of grade / log2(1 + rank), divided by that of the best possible ranking."""

    def dcg(grades: list[int]) -> float:
        total = 0.0
        for index in range(min(k, len(grades))):
            total += max(grades[index], 0) / math.log2(index + 2)
        return total

    ideal = dcg(sorted(judged.values(), reverse=True))
    return dcg([judged.get(document, 0) for document in ranked(scores)]) / ideal if ideal > 0 else 0.0


def mrr(judged: dict[str, int], scores: dict[str, float], k: int) -> float:
    """One over the rank of the first relevant document of the first k."""
    for index, document in enumerate(ranked(scores)[:k]):
        if judged.get(document, 0) >= 1:
            return 1 / (index + 1)
    return 0.0


def recall(judged: dict[str, int], scores: dict[str, float], k: int) -> float:
    """The share of the relevant documents that are among the first k."""
    relevant = {document for document, grade in judged.items() if grade >= 1}
    return len(relevant & set(ranked(scores)[:k])) / len(relevant) if relevant else 0.0


def precision(judged: dict[str, int], scores: dict[str, float], k: int) -> float:
    """The share of the first k places that hold a relevant document."""
    return sum(judged.get(document, 0) >= 1 for document in ranked(scores)[:k]) / k


def average_precision(judged: dict[str, int], scores: dict[str, float], k: int) -> float:
    """Precision at the rank of each relevant document of the first k, over the number of relevant ones."""
    relevant = {document for document, grade in judged.items() if grade >= 1}
    if not relevant:
        return 0.0
    total = 0.0
    for index, document in enumerate(ranked(scores)[:k]):
        if document in relevant:
            total += precision(judged, scores, index + 1)
    return total / len(relevant)


METRICS = {"ndcg": ndcg, "mrr": mrr, "recall": recall, "precision": precision, "map": average_precision}


def evaluate(qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]], metric: str) -> float:
    """The mean over the judged queries."""
    name, k = metric.split("@")
    return sum(METRICS[name](judged, run.get(query, {}), int(k)) for query, judged in qrels.items()) / len(qrels)


def bm25(passages: list[str], query: str, stop_words: set[str], k1: float = 1.5, b: float = 0.75) -> list[float]:
    """Lucene's BM25 of every passage: sum of idf * tf / (tf + k1 (1 - b + b length / mean length))."""

    def words(text: str) -> list[str]:
        return [word for word in re.findall(r"\w\w+", text.lower()) if word not in stop_words]

    documents = [words(passage) for passage in passages]
    mean_length = sum(map(len, documents)) / len(documents)
    scores = [0.0] * len(documents)
    for term in words(query):
        holding = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        for index, document in enumerate(documents):
            tf = document.count(term)
            scores[index] += idf * tf / (tf + k1 * (1 - b + b * len(document) / mean_length))
    return scores


def exact_randomization(a: list[float], b: list[float]) -> float:
    """Two-sided p-value over all 2^n ways to swap the members of pairs."""
    differences = [x - y for x, y in zip(a, b, strict=True)]
    seen = abs(sum(differences))
    extreme = 0
    for signs in itertools.product((1, -1), repeat=len(differences)):
        extreme += abs(sum(s * d for s, d in zip(signs, differences, strict=True))) >= seen - 1e-12
    return float(extreme / 2 ** len(differences))
