from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import Qrels, Run, evaluate, per_query, ranking
from tests.reference import metrics as reference

METRICS = [f"{name}@{k}" for name in ("ndcg", "mrr", "recall", "map", "precision") for k in (1, 3, 10, 100)]
TREC = {"ndcg": "ndcg_cut", "recall": "recall", "map": "map_cut", "precision": "P"}

documents = st.sampled_from([*"abcdefghij", "A", "é", "10", "9", "\U0001f600"])
queries = st.sampled_from(["q1", "q2", "q3", "q4"])
# Few distinct scores, so that most runs have ties; 1 + 1e-9 is 1 as a 32-bit float and not as a 64-bit one.
scores = st.sampled_from([-1.0, 0.0, 0.1, 0.3, 1.0, 1.0 + 1e-9, 2.5, 1e9])
runs = st.dictionaries(queries, st.dictionaries(documents, scores, max_size=14), max_size=4)
all_qrels = st.dictionaries(
    queries, st.dictionaries(documents, st.integers(-1, 3), min_size=1, max_size=8), min_size=1, max_size=4
)


def trec_eval(qrels: Qrels, run: Run, metric: str) -> dict[str, float]:
    name, k = metric.split("@")
    if name == "mrr":  # trec_eval has no cut-off for it: cut the run instead
        run = {query: {d: found[d] for d in ranking(found)[: int(k)]} for query, found in run.items()}
        measure = key = "recip_rank"
    else:
        measure, key = f"{TREC[name]}.{k}", f"{TREC[name]}_{k}"
    found = pytrec_eval.RelevanceEvaluator(qrels, {measure}).evaluate(run)
    return {query: found[query][key] if query in found else 0.0 for query in qrels}


@settings(max_examples=150, deadline=None)
@given(all_qrels, runs)
def test_equal_trec_eval(qrels: Qrels, run: Run) -> None:
    ours = per_query(qrels, run, METRICS)
    for metric in METRICS:
        assert ours[metric] == pytest.approx(trec_eval(qrels, run, metric), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(all_qrels, runs)
def test_equal_the_reference(qrels: Qrels, run: Run) -> None:
    single = {q: {d: float(np.float32(score)) for d, score in found.items()} for q, found in run.items()}
    ours = evaluate(qrels, run, METRICS)
    for metric in METRICS:
        assert ours[metric] == pytest.approx(reference.evaluate(qrels, single, metric), abs=1e-12)


def test_large_random_run_equals_trec_eval() -> None:
    rng = np.random.default_rng(0)
    qrels = {f"q{q}": {f"d{d}": int(rng.integers(0, 4)) for d in rng.integers(0, 500, 20)} for q in range(50)}
    run = {f"q{q}": {f"d{d}": round(float(rng.normal()), 1) for d in rng.integers(0, 500, 300)} for q in range(10, 60)}
    ours = per_query(qrels, run, METRICS)
    for metric in METRICS:
        assert ours[metric] == pytest.approx(trec_eval(qrels, run, metric), abs=1e-9)


def test_ties_go_to_the_larger_id() -> None:
    assert ranking({"a": 1.0, "b": 1.0, "c": 2.0, "B": 1.0}) == ["c", "b", "a", "B"]


def test_scores_are_compared_as_32_bit_floats() -> None:
    assert ranking({"a": 1.0 + 1e-9, "b": 1.0}) == ["b", "a"]


def test_missing_and_unanswerable_queries_count_zero() -> None:
    qrels = {"answered": {"d": 1}, "missing": {"d": 1}, "nothing relevant": {"d": 0}}
    run = {"answered": {"d": 1.0}, "nothing relevant": {"d": 1.0}, "not judged": {"d": 1.0}}
    assert evaluate(qrels, run, ["mrr@10", "recall@10"]) == pytest.approx({"mrr@10": 1 / 3, "recall@10": 1 / 3})
    assert list(per_query(qrels, run, ["mrr@10"])["mrr@10"]) == list(qrels)


@pytest.mark.parametrize("metric", ["ndcg", "ndcg@0", "NDCG@10", "bleu@4", "mrr@10 "])
def test_unknown_metric_names_the_known(metric: str) -> None:
    with pytest.raises(DupmaeError, match="ndcg@k, mrr@k, recall@k, map@k, precision@k"):
        evaluate({"q": {"d": 1}}, {}, [metric])


def test_no_query_and_no_number_are_refused() -> None:
    with pytest.raises(DupmaeError, match="no judged query"):
        evaluate({}, {}, ["mrr@10"])
    with pytest.raises(DupmaeError, match="'bad' is not a number"):
        evaluate({"q": {"d": 1}}, {"q": {"good": 1.0, "bad": float("nan")}}, ["mrr@10"])
