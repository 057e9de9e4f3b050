from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dupmae.corpus.sentences import single_spaces, split_sentences
from dupmae.shards import pieces
from dupmae.shards.pieces import Cutter
from dupmae.shards.tokenizers import train_wordpiece
from tests.tiny_tokenizers import byte_level, unigram

ARTICLE = (
    "Green tea\n\nDr. Lee pours the water, e.g. at noon.  She waits\nfor 3.5 minutes. "
    "Then she drinks!\n\nA second paragraph has one more sentence. 茶很好。水很热。"
)


def test_sentences_and_paragraphs_are_told_apart() -> None:
    assert single_spaces(split_sentences(ARTICLE, "en")) == [
        "Green tea",
        " Dr. Lee pours the water, e.g. at noon.",
        " She waits for 3.5 minutes.",
        " Then she drinks!",
        " A second paragraph has one more sentence.",
        " 茶很好。",
        "水很热。",
    ]
    assert single_spaces(split_sentences(" \n ", "en")) == []
    assert split_sentences("Das ist z.B. gut. Ja.", "de") == ["Das ist z.B. gut. ", "Ja."]
    assert split_sentences("No such language. Never.", "xx") == ["No such language. ", "Never."]


@given(st.text(alphabet="ab .!?\n\t\"'()茶。", max_size=80))
def test_nothing_but_white_space_changes(text: str) -> None:
    parts = split_sentences(text, "en")
    assert "".join(parts) == text
    assert "".join(single_spaces(parts)) == " ".join(text.split())


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "wordpiece": lambda: train_wordpiece([ARTICLE], 200),
    "byte_level": byte_level,
    "metaspace": lambda: unigram(pre_tokenizers.Metaspace()),
    "metaspace_first": lambda: unigram(pre_tokenizers.Metaspace(prepend_scheme="first")),
}


MADE = {name: make() for name, make in TOKENIZERS.items()}


@pytest.mark.parametrize("make", TOKENIZERS)
def test_sentences_have_the_tokens_and_words_of_the_article(make: str) -> None:
    tokenizer = MADE[make]
    # SentencePiece writes every start of a text as if a space went before it, also where the article has none.
    article = ARTICLE.partition("茶")[0] if "metaspace" in make else ARTICLE
    whole, split = Cutter(tokenizer, 5000)([article]), Cutter(tokenizer, 5000, "en")([article])
    assert len(whole) == len(split) == 1
    assert whole.ids.tolist() == split.ids.tolist()
    assert whole.starts.tolist() == split.starts.tolist()


SENTENCES = [f"This is sentence {'very ' * number}number {number} of the article." for number in range(9)]


def test_records_are_whole_sentences_as_many_as_fit() -> None:
    tokenizer = train_wordpiece(SENTENCES, 400)

    def length(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    room = 2 * max(map(length, SENTENCES)) + 5
    last = "The other article is this sentence alone of."
    articles = ["\n".join(SENTENCES), last]
    records = [tokenizer.decode(ids[1:-1]) for ids, _ in Cutter(tokenizer, room + 2, "en")(articles)]
    assert len(records) > 3
    assert records[-1] == last.lower()
    assert " ".join(records[:-1]) == " ".join(SENTENCES).lower()
    for record, following in pairwise(records[:-1]):
        assert record.endswith(" article.")
        assert following.startswith("this is sentence")
        assert length(record) <= room
        assert length(f"{record} {following.partition('.')[0]}.") > room, "one sentence more would have fitted"


def test_a_sentence_longer_than_a_record_is_cut_at_words() -> None:
    tokenizer = train_wordpiece(["a short one first at the end of it all and water ends."], 400)
    text = "A short one first. " + "water " * 100 + "ends. And a short one at the end of it all."
    records = list(Cutter(tokenizer, 34, "en")([text]))
    assert all(len(ids) <= 34 for ids, _ in records)
    inner = np.concatenate([ids[1:-1] for ids, _ in records])
    assert inner.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]
    # Four parts of 102 tokens; the first has no room for the sentence before it, the last for the one behind.
    assert [len(ids) - 2 for ids, _ in records][1:-1] == [26, 25, 25]


@pytest.mark.parametrize("make", ["wordpiece", "byte_level"])
@given(
    texts=st.lists(st.lists(st.sampled_from(SENTENCES), max_size=9).map(" ".join), max_size=9), room=st.integers(8, 90)
)
def test_looking_for_sentences_only_where_needed_changes_nothing(make: str, texts: list[str], room: int) -> None:
    tokenizer = MADE[make]
    quick = Cutter(tokenizer, room + 2, "en")(texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "CHARACTERS_PER_TOKEN", 0)
        slow = Cutter(tokenizer, room + 2, "en")(texts)
    assert quick.ids.tolist() == slow.ids.tolist()
    assert quick.starts.tolist() == slow.starts.tolist()
    assert quick.lengths.tolist() == slow.lengths.tolist()
    assert quick.dropped == slow.dropped


def test_passages_are_kept_whole() -> None:
    tokenizer = train_wordpiece([ARTICLE], 400)
    records = list(Cutter(tokenizer, 4000)([ARTICLE, ARTICLE]))
    assert [len(ids) for ids, _ in records] == [len(tokenizer(ARTICLE)["input_ids"])] * 2
