"""Words in scripts with and without spaces."""

from __future__ import annotations

from pathlib import Path

import bm25s
import pytest
from bm25s.stopwords import STOPWORDS_EN

from dupmae.corpus.beir import load_split
from dupmae.corpus.terms import STOP_WORDS, split_words, terms
from dupmae.evaluation.metrics import evaluate
from dupmae.search.bm25 import BM25
from tests.paths import DATA


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("北京是首都，ok", ["北京", "京是", "是首", "首都", "ok"]),
        ("茶", ["茶"]),
        ("東京タワーへ", ["東京", "京タ", "タワ", "ワー", "ーへ"]),
        # Vowel signs stay inside words, and go with their characters.
        ("नई दिल्ली की राजधानी", ["नई", "दिल्ली", "की", "राजधानी"]),
        ("กินข้าว", ["กิน", "นข้", "ข้า", "าว"]),
        ("서울은 abc", ["서울", "울은", "abc"]),
        ("good 👍🏽👍 ©", ["good", "👍🏽", "👍"]),
        ("Ｆｕｌｌ ＷＩＤＴＨ", ["full", "width"]),
        ("naïve Zürich a", ["naïve", "zürich"]),
        ("\x00 ' ", []),
    ],
)
def test_terms_of_every_script(text: str, expected: list[str]) -> None:
    assert terms([text]) == [expected]


def test_spaced_text_has_the_terms_of_bm25s() -> None:
    texts = ["The cat's 2 hats, under_score x9!", "don't panic: naïve café", "", "of the and"]
    assert terms(texts) == bm25s.tokenize(texts, stopwords="english", return_ids=False, show_progress=False)
    assert frozenset(STOPWORDS_EN) == STOP_WORDS


def test_split_words_join_to_the_text() -> None:
    assert split_words("tea  is hot") == ["tea", "  is", " hot"]
    assert split_words("北京，a 茶。") == ["北", "京，", "a", " 茶。"]
    for text in ("नई दिल्ली है।", "ไทย ok", "“北京”是", "a\n b", ""):
        assert "".join(split_words(text)) == text


@pytest.mark.parametrize("language", ["zh", "hi"])
def test_bm25_serves_scripts_that_spaces_do_not_split(language: str) -> None:
    folder = Path(DATA) / f"xquad_{language}" / "beir"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    passages, queries, qrels = load_split(folder, "test")
    places, scores = BM25([passage.content for passage in passages]).search(list(queries.values()), 10)
    run = {
        query: {passages[place].id: float(score) for place, score in zip(row, values, strict=True) if place >= 0}
        for query, row, values in zip(queries, places, scores, strict=True)
    }
    assert evaluate(qrels, run, ["ndcg@10"])["ndcg@10"] > 0.9
