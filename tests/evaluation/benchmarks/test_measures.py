"""What the suites report: against trec_eval on awkward runs, and MS MARCO's own rules on hand-made cases."""

from __future__ import annotations

import random

import pytest
import pytrec_eval  # type: ignore[import-not-found]

from dupmae.errors import DupmaeError
from dupmae.evaluation.benchmarks.collections import SUITES, Measures
from dupmae.evaluation.benchmarks.suite_results import means, measure

OFFICIAL = {"ndcg": "ndcg_cut", "map": "map_cut", "recall": "recall", "mrr": "recip_rank"}


def official_mrr(qrels: dict[str, dict[str, int]], ranked: dict[str, list[str]], k: int = 10) -> float:
    """MS MARCO's definition, from ranks: over all judged queries, the first k places alone."""
    total = 0.0
    for query, grades in qrels.items():
        for rank, document in enumerate(ranked.get(query, [])[:k], 1):
            if grades.get(document, 0) > 0:
                total += 1 / rank
                break
    return total / len(qrels)


def run_of(ranked: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    return {query: {name: -float(rank) for rank, name in enumerate(names)} for query, names in ranked.items()}


PASSAGE = SUITES["msmarco-passage"].measures


@pytest.mark.parametrize(
    ("ranked", "expected"),
    [
        ({"q1": ["r1"], "q2": ["r2"]}, 1.0),
        ({"q1": [*(f"x{n}" for n in range(9)), "r1"], "q2": []}, 0.05),
        ({"q1": [*(f"x{n}" for n in range(10)), "r1"], "q2": []}, 0.0),
        ({"q1": ["x", "s1", "r1"], "q2": ["x", "x2", "x3", "r2"]}, (1 / 2 + 1 / 4) / 2),
        ({"q1": ["r2"], "q2": ["r1"]}, 0.0),
        ({"q1": ["n1", "r1"], "q2": []}, 0.25),
        ({"q1": ["r1"], "q2": [], "extra": ["r1"]}, 0.5),
    ],
)
def test_mrr_is_ms_marcos(ranked: dict[str, list[str]], expected: float) -> None:
    qrels = {"q1": {"r1": 1, "s1": 1, "n1": 0}, "q2": {"r2": 1}}
    found = means(measure(PASSAGE, qrels, run_of(ranked)))["mrr@10"]
    assert found == pytest.approx(expected, abs=1e-12)
    assert official_mrr(qrels, ranked) == pytest.approx(expected, abs=1e-12)


def test_a_run_without_a_judged_query_is_refused() -> None:
    with pytest.raises(DupmaeError, match="the run lacks 1 of 2 judged queries, first q2"):
        measure(PASSAGE, {"q1": {"a": 1}, "q2": {"a": 1}}, {"q1": {"a": 1.0}})


def random_case(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    """Ties, negative and absent judgements, empty rankings, more documents than any cut, queries nobody judged."""
    draw = random.Random(seed)
    documents = [f"d{n}" for n in range(150)]
    judged = {f"q{n}": {name: draw.choice([-1, 0, 1, 2, 3]) for name in draw.sample(documents, 30)} for n in range(8)}
    run = {}
    for query in [*judged, "unjudged"]:
        names = draw.sample(documents, draw.choice([0, 3, 120, 150]))
        run[query] = {name: draw.choice([0.5, 1.0, draw.random()]) for name in names}
    return judged, run


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("suite", ["trec-dl-2019", "msmarco-passage", "msmarco-document", "beir"])
def test_all_metrics_are_trec_evals(suite: str, seed: int) -> None:
    from dupmae.evaluation.benchmarks.beir_sets import MEASURES

    measures = MEASURES if suite == "beir" else SUITES[suite].measures
    qrels, run = random_case(seed)
    found = measure(measures, qrels, run)
    for metric, values in found.items():
        name, _, cut = metric.partition("@")
        level = 1 if metric in measures.graded else measures.relevant
        assert values.keys() == qrels.keys()
        # Its reciprocal rank has no cut: a run is cut instead, in its own order.
        shown = {query: best(scores, int(cut) if name == "mrr" else 10_000) for query, scores in run.items()}
        asked = OFFICIAL[name] if name == "mrr" else f"{OFFICIAL[name]}.{cut}"
        expected = pytrec_eval.RelevanceEvaluator(qrels, {asked}, relevance_level=level).evaluate(shown)
        for query, value in values.items():
            theirs = expected.get(query, {}).get(asked.replace(".", "_"), 0.0)
            assert value == pytest.approx(theirs, abs=1e-9), (metric, query)


def best(scores: dict[str, float], k: int) -> dict[str, float]:
    ordered = sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return dict(ordered[:k])


def test_binary_metrics_start_at_the_suites_grade() -> None:
    measures = Measures("mrr@10", ("ndcg@10",), ("mrr@10", "recall@10"), relevant=2)
    values = measure(measures, {"q": {"a": 1, "b": 2, "c": 3}}, {"q": {"a": 3.0, "b": 2.0}})
    assert values["mrr@10"]["q"] == 0.5
    assert values["recall@10"]["q"] == 0.5
    assert values["ndcg@10"]["q"] > 0
