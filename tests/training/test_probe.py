"""The retrieval probe: its texts, its two scores against plain ones, and that it leaves the model alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dupmae.corpus.beir import Passage, write_beir
from dupmae.errors import DupmaeError
from dupmae.evaluation.metrics import evaluate, per_query
from dupmae.retriever.backbones import new_backbone
from dupmae.settings import FromScratch
from dupmae.shards.lengths import LengthIndex
from dupmae.shards.tokenizers import train_wordpiece
from dupmae.training import probe as module
from dupmae.training.flops import Shape
from dupmae.training.probe import Probe, ProbeTexts, halves, judged, quality
from tests.reference.tiny import sentences
from tests.tiny import beir_folder

FIRST, LAST = 2, 3


class Corpus:
    """Records in memory."""

    def __init__(self, records: list[list[int]]) -> None:
        self.records = records
        self.index = LengthIndex.of(np.array([len(ids) for ids in records]))

    def get(self, indices: Any) -> list[Any]:
        return [(np.array(self.records[i], dtype=np.int32), np.ones(len(self.records[i]), bool)) for i in indices]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_wordpiece([f"{text}." for text in sentences(200)], 200)


@pytest.fixture(scope="module")
def corpus(tokenizer: Any) -> Corpus:
    lines = sentences(60)
    return Corpus([tokenizer(f"{a}. {b}.")["input_ids"] for a, b in zip(lines[::2], lines[1::2], strict=True)])


def test_halves_meet_at_the_sentence_and_share_no_token(corpus: Corpus, tokenizer: Any) -> None:
    texts = halves([corpus], tokenizer, seed=0)
    assert texts is not None
    assert len(texts.queries) == len(texts.passages) == len(texts.grades) == 30
    dot = tokenizer.convert_tokens_to_ids(".")
    whole = {tuple(ids) for ids in corpus.records}
    for query, passage in zip(texts.queries, texts.passages, strict=True):
        assert query[0] == passage[0] == FIRST
        assert query[-1] == passage[-1] == LAST
        assert query[-2] == dot
        assert (*query[:-1], *passage[1:]) in whole


def test_long_records_keep_what_is_next_to_the_cut(tokenizer: Any) -> None:
    # A sentence ends after five tokens, too far from the middle to cut there.
    dot = tokenizer.convert_tokens_to_ids(".")
    ids = [FIRST, *range(200, 205), dot, *range(205, 350), LAST]
    texts = halves([Corpus([ids, ids])], tokenizer, seed=0)
    assert texts is not None
    assert len(texts.queries[0]) == len(texts.passages[0]) == module.HALF_TOKENS
    assert texts.queries[0][-2] + 1 == texts.passages[0][1]


def test_the_choice_depends_on_the_seed_alone_and_spans_all_corpora(tokenizer: Any) -> None:
    small = Corpus([[FIRST, *([10] * 20), LAST]] * 300 + [[FIRST, 10, LAST]] * 50)
    large = Corpus([[FIRST, *([20 + n % 100] * 30), LAST] for n in range(900)])
    first, again, other = (halves([small, large], tokenizer, seed) for seed in (0, 0, 1))
    assert first is not None
    assert again is not None
    assert other is not None
    same = [bool(np.array_equal(a, b)) for a, b in zip(first.queries, again.queries, strict=True)]
    assert all(same)
    assert len(first.queries) == module.QUERIES
    from_small = sum(int(query[1]) == 10 for query in first.queries)
    assert 40 < from_small < 90  # a quarter of 256
    assert any(not np.array_equal(a, b) for a, b in zip(first.queries, other.queries, strict=True))


def test_too_little_text_makes_no_probe(tokenizer: Any) -> None:
    assert halves([Corpus([[FIRST, *([10] * 15), LAST]] * 9)], tokenizer, seed=0) is None
    assert halves([Corpus([[FIRST, *([10] * 16), LAST]])], tokenizer, seed=0) is None


def test_a_beir_folder_keeps_every_judged_passage(tmp_path: Path, tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "PASSAGES", 12)
    monkeypatch.setattr(module, "QUERIES", 8)
    texts = judged(beir_folder(tmp_path / "beir", 40), "test", tokenizer, seed=0, max_length=20)
    assert (len(texts.queries), len(texts.passages)) == (8, 12)
    assert all(len(ids) <= 20 for ids in (*texts.queries, *texts.passages))
    for query, grades in zip(texts.queries, texts.grades, strict=True):
        (answer,) = grades.nonzero()[0]
        # A topic's query is its passage's first words, behind the title.
        words, text = tokenizer.decode(query), tokenizer.decode(texts.passages[answer])
        assert words.split()[1] in text


def test_an_unknown_split_is_told(tmp_path: Path, tokenizer: Any) -> None:
    write_beir(tmp_path / "beir", [Passage("p", "", "text")], {"q": "text"}, {"test": {"q": {"p": 1}}})
    with pytest.raises(DupmaeError, match="splits here: test"):
        judged(tmp_path / "beir", "dev", tokenizer, seed=0, max_length=20)


def qrels_of(grades: Any) -> dict[str, dict[str, int]]:
    return {str(row): {str(column): int(grade) for column, grade in enumerate(of)} for row, of in enumerate(grades)}


@pytest.mark.parametrize("passages", [7, 40])
def test_quality_is_that_of_the_metrics(passages: int) -> None:
    random = np.random.default_rng(passages)
    scores = random.normal(size=(50, passages)).astype(np.float32)
    grades = random.choice([-1, 0, 1, 2, 3], size=scores.shape, p=[0.1, 0.8, 0.05, 0.03, 0.02])
    grades[0] = 0
    run = {str(row): {str(column): float(x) for column, x in enumerate(of)} for row, of in enumerate(scores)}
    expected = per_query(qrels_of(grades), run, ["mrr@10", "ndcg@10"])
    for metric, values in quality(torch.from_numpy(scores), torch.from_numpy(grades)).items():
        assert values.tolist() == pytest.approx(list(expected[metric].values()), abs=1e-12)


def slow(backbone: Any, texts: ProbeTexts) -> dict[str, float]:
    """Both scores one text at a time, with every logit."""

    def read(ids: Any) -> tuple[torch.Tensor, torch.Tensor]:
        row = torch.as_tensor(np.asarray(ids, dtype=np.int64))[None]
        hidden = backbone.hidden(row, torch.ones_like(row, dtype=torch.bool))[0]
        maxima = backbone.output(backbone.transform(hidden[1:-1])).amax(0)
        return hidden[0], torch.log1p(len(maxima) * torch.softmax(maxima, 0))

    passages = [read(ids) for ids in texts.passages]
    runs: dict[str, dict[str, dict[str, float]]] = {"cls": {}, "bow": {}}
    for place, query in enumerate(texts.queries):
        cls, words = read(query)
        for number, (other, weights) in enumerate(passages):
            kept = weights * (weights >= weights.topk(module.TOP_K).values[-1])
            runs["cls"].setdefault(str(place), {})[str(number)] = float(cls @ other)
            runs["bow"].setdefault(str(place), {})[str(number)] = float(words @ kept)
    return {
        f"probe_{name}_{metric}": value
        for name, run in runs.items()
        for metric, value in evaluate(qrels_of(texts.grades), run, ["mrr@10", "ndcg@10"]).items()
    }


def test_the_figures_are_those_of_plain_scores(corpus: Corpus, tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "TOP_K", 20)
    monkeypatch.setattr(module, "BATCH_TOKENS", 100)
    texts = halves([corpus], tokenizer, seed=0)
    assert texts is not None
    torch.manual_seed(0)
    backbone = new_backbone(FromScratch(layers=1, hidden=16, heads=2), tokenizer, 64)
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.normal_(std=0.5)
        found = Probe(backbone, texts, tokenizer, torch.float32).measure()
        assert found == pytest.approx(slow(backbone.eval(), texts), abs=1e-6)
    assert len(set(found.values())) == 4


def test_the_model_its_mode_and_the_random_state_stay(corpus: Corpus, tokenizer: Any) -> None:
    texts = halves([corpus], tokenizer, seed=0)
    assert texts is not None
    backbone = new_backbone(FromScratch(layers=1, hidden=16, heads=2), tokenizer, 64).train()
    before = {name: weight.clone() for name, weight in backbone.state_dict().items()}
    state = torch.get_rng_state()
    probe = Probe(backbone, texts, tokenizer, torch.bfloat16)
    first = probe.measure()
    assert first == probe.measure()
    assert torch.get_rng_state().equal(state)
    assert all(module.training for module in backbone.modules())
    assert all(weight.equal(before[name]) for name, weight in backbone.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in backbone.parameters())
    # It follows the weights: with other ones there are other figures.
    with torch.no_grad():
        for weight in backbone.parameters():
            weight.normal_()
    assert probe.measure() != first


def test_the_work_is_one_forward_pass_of_all_texts(corpus: Corpus, tokenizer: Any) -> None:
    texts = ProbeTexts([np.arange(10)] * 2, [np.arange(10)] * 3, np.zeros((2, 3), dtype=np.int64))
    backbone = new_backbone(FromScratch(layers=1, hidden=16, heads=2), tokenizer, 64)
    shape = Shape.of(backbone.config)
    layer = 5 * 10 * 2 * (4 * 16**2 + 2 * 16 * 64) + 5 * 4 * 16 * 10**2
    head = 5 * 8 * 2 * (16**2 + 16 * shape.vocabulary)
    assert Probe(backbone, texts, tokenizer, torch.float32).flops() == layer + head
