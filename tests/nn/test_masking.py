"""Masks equal the loops for the same keys, keep their invariants and meet their rates."""

from __future__ import annotations

import random
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dupmae.nn.masking import Layout, choose_words, corrupt, decoder_visibility, encoder_mask
from dupmae.nn.randomness import RowRandom
from tests.reference import masking as reference
from tests.reference.tiny import random_batch

Unit = Literal["word", "token"]
RATES = (0.15, 0.3, 0.5, 0.7, 0.9)
lengths = st.lists(st.integers(3, 40), min_size=1, max_size=5)
rates = st.floats(0.02, 0.98)
# Exact in every float type, so that the budget is the same number on both sides.
exact_rates = st.integers(2, 62).map(lambda number: number / 64)
seeds = st.integers(0, 2**31)


def layout_of(batch: dict[str, Tensor]) -> Layout:
    return Layout.of(batch["word_starts"], batch["special"], batch["valid"])


def source(layout: Layout, seed: int, step: int = 0) -> RowRandom:
    return RowRandom.of(seed, step, torch.arange(len(layout.words)))


def wide_batch(rows: int, length: int) -> dict[str, Tensor]:
    return random_batch("bert", [length] * rows, 0)


@given(lengths, exact_rates, seeds)
def test_words_are_chosen_as_the_loop_chooses_them(lengths: list[int], rate: float, seed: int) -> None:
    batch = random_batch("roberta", lengths, seed)
    layout = layout_of(batch)
    keys = torch.rand(layout.words.shape, generator=torch.Generator().manual_seed(seed))
    masked = choose_words(keys, layout, rate)
    for row, length in enumerate(lengths):
        starts, ordinary = batch["word_starts"][row, :length].tolist(), layout.ordinary[row, :length].tolist()
        expected = reference.choose_words(keys[row].tolist(), starts, ordinary, rate)
        assert masked[row].tolist() == expected + [False] * (masked.shape[1] - length)


@given(lengths, rates, seeds)
def test_encoder_masks_take_whole_words_and_no_special(lengths: list[int], rate: float, seed: int) -> None:
    batch = random_batch("bert", lengths, seed)
    masked = encoder_mask(layout_of(batch), rate, source(layout_of(batch), seed))
    assert not (masked & (batch["special"] | ~batch["valid"])).any()
    ordinary = batch["valid"] & ~batch["special"]
    for row in range(len(lengths)):
        words = reference.words_of(batch["word_starts"][row, : lengths[row]].tolist())
        words = [word for word in words if ordinary[row, word[0]]]
        # Something is predicted, from something: a single word is left as it is.
        assert [masked[row].any(), (ordinary & ~masked)[row].any()] == [len(words) > 1, len(words) > 0]
    for row in range(len(lengths)):
        for word in reference.words_of(batch["word_starts"][row, : lengths[row]].tolist()):
            assert len({bool(masked[row, position]) for position in word}) == 1


@pytest.mark.parametrize("rate", RATES)
def test_encoder_rate(rate: float) -> None:
    layout = layout_of(wide_batch(200, 101))
    share = encoder_mask(layout, rate, source(layout, 0)).sum() / layout.ordinary.sum()
    assert float(share) == pytest.approx(rate, abs=0.005)


def test_a_word_is_as_likely_as_any_other() -> None:
    layout = layout_of(wide_batch(1, 22))
    counts = sum(encoder_mask(layout, 0.3, source(layout, 0, step)).double() for step in range(4000))
    shares = (counts / 4000)[layout.ordinary]
    assert shares.min() > 0.2
    assert shares.max() < 0.4


@settings(max_examples=60)
@given(lengths, rates, seeds, st.sampled_from(["word", "token"]))
def test_visibility_invariants(lengths: list[int], rate: float, seed: int, unit: Unit) -> None:
    batch = random_batch("xlm-roberta", lengths, seed)
    layout = layout_of(batch)
    visible = decoder_visibility(layout, rate, unit, source(layout, seed))
    length = visible.shape[1]
    assert not visible.diagonal(dim1=1, dim2=2).any()
    assert visible[:, 1:, 0].all()
    assert visible.any(2).all()
    assert not (visible & ~layout.valid[:, None]).any()
    special = (batch["special"] & batch["valid"])[:, None] & ~torch.eye(length, dtype=torch.bool)
    assert visible[special.expand_as(visible)].all()


@given(st.integers(2, 6), seeds, st.sampled_from(["word", "token"]))
def test_no_row_is_empty_without_a_closing_special(length: int, seed: int, unit: Unit) -> None:
    """A tokenizer may add no [SEP]; with nearly everything hidden row 0 still needs a key."""
    starts, valid = torch.ones(3, length, dtype=torch.bool), torch.ones(3, length, dtype=torch.bool)
    special = torch.arange(length).expand(3, length) == 0
    layout = Layout.of(starts, special, valid)
    visible = decoder_visibility(layout, 0.98, unit, source(layout, seed))
    assert visible.any(2).all()
    assert not visible.diagonal(dim1=1, dim2=2).any()


@settings(max_examples=30)
@given(lengths, rates, seeds)
def test_visibility_hides_whole_words(lengths: list[int], rate: float, seed: int) -> None:
    batch = random_batch("bert", lengths, seed)
    layout = layout_of(batch)
    visible = decoder_visibility(layout, rate, "word", source(layout, seed))
    for row, length in enumerate(lengths):
        for word in reference.words_of(batch["word_starts"][row, :length].tolist()):
            for query in range(1, length):
                others = [position for position in word if position != query and layout.ordinary[row, position]]
                assert len({bool(visible[row, query, position]) for position in others}) <= 1


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("rate", RATES)
def test_visibility_rate_and_spread(rate: float, unit: Unit) -> None:
    layout = layout_of(wide_batch(40, 82))
    visible = decoder_visibility(layout, rate, unit, source(layout, 0))
    pairs = layout.ordinary[:, None, :] & ~torch.eye(82, dtype=torch.bool)
    pairs[:, 0] = False
    assert float(visible[pairs].double().mean()) == pytest.approx(1 - rate, abs=0.008)
    # Rows are drawn anew: two rows agree on a column as often as independent draws do.
    agree = (visible[:, 1:40] == visible[:, 41:80])[:, :, 1:-1].double().mean()
    assert float(agree) == pytest.approx(rate**2 + (1 - rate) ** 2, abs=0.02)


def same_text(length: int, count: int) -> Layout:
    """One text, as many times as there are draws."""
    layout = layout_of(wide_batch(1, length))
    return Layout(*(part.expand(count, -1).contiguous() for part in (layout.words, layout.ordinary, layout.valid)))


def flags_of(layout: Layout) -> tuple[list[bool], list[bool], list[bool]]:
    """Word starts, ordinary positions and valid ones of the first text."""
    words = layout.words[0].tolist()
    starts = [place == 0 or words[place - 1] != word for place, word in enumerate(words)]
    return starts, layout.ordinary[0].tolist(), layout.valid[0].tolist()


@pytest.mark.parametrize("unit", ["word", "token"])
@pytest.mark.parametrize("rate", [0.3, 0.5, 0.7])
def test_visibility_has_its_exact_distribution(unit: Unit, rate: float) -> None:
    """Every unit is hidden by a draw of its own: means and variances of a row's sight, to 5 standard errors."""
    draws, length = 20_000, 20
    layout = same_text(length, draws)
    found = decoder_visibility(layout, rate, unit, source(layout, 0)).double()
    starts, usual, valid = flags_of(layout)
    slow = random.Random(0)
    looped = [reference.visibility(starts, usual, valid, rate, unit, slow) for _ in range(1000)]
    units = reference.words_of(starts) if unit == "word" else [[place] for place in range(length)]
    # Row 0 carries no label; ours lets it see position 1 so that no row is ever empty.
    for row in range(1, length):
        seen = torch.tensor([0.0 if p == row else 1 - rate if usual[p] else float(valid[p]) for p in range(length)])
        for drawn in (found[:, row], torch.tensor([each[row] for each in looped]).double()):
            error = (seen * (1 - seen) / len(drawn)).sqrt()
            assert ((drawn.mean(0) - seen).abs() <= 5 * error).all()
        sizes = [sum(usual[place] and place != row for place in each) for each in units]
        variance = rate * (1 - rate) * sum(size**2 for size in sizes)
        assert float(found[:, row].sum(1).var()) == pytest.approx(variance, rel=0.06)


def test_rows_hide_as_many_as_the_authors_in_the_mean_with_a_larger_variance() -> None:
    layout = same_text(82, 4000)
    starts, usual, _ = flags_of(layout)
    ordinary = layout.ordinary[0]
    ours = (~decoder_visibility(layout, 0.5, "word", source(layout, 0)))[:, 0, ordinary][:, 1:].sum(1).double()
    slow = random.Random(0)
    drawn = [reference.budgeted_hiding(starts, usual, 0.5, slow) for _ in range(4000)]
    theirs = torch.tensor(drawn)[:, ordinary][:, 1:].sum(1).double()
    assert float(ours.mean()) == pytest.approx(float(theirs.mean()), abs=1.5)
    assert float(ours.var()) > 10 * float(theirs.var())


def test_corruption_shares() -> None:
    ids = torch.randint(5, 1000, (100, 500), generator=torch.Generator().manual_seed(1))
    words = RowRandom.of(0, 0, torch.arange(100))
    masked = torch.rand(ids.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    corrupted = corrupt(
        ids, masked, mask_id=4, vocabulary=1000, keep=True, random=RowRandom.of(0, 0, torch.arange(100))
    )
    assert corrupted[~masked].equal(ids[~masked])
    to_mask, kept = (corrupted == 4)[masked].double().mean(), (corrupted == ids)[masked].double().mean()
    assert float(to_mask) == pytest.approx(0.8, abs=0.01)
    assert float(kept) == pytest.approx(0.1, abs=0.01)
    replaced = corrupted[masked & (corrupted != 4) & (corrupted != ids)]
    assert 0 <= int(replaced.min()) < 10
    assert 990 <= int(replaced.max()) < 1000
    always = corrupt(ids, masked, mask_id=4, vocabulary=1000, keep=False, random=words)
    assert always.equal(ids.masked_fill(masked, 4))


@pytest.mark.parametrize("unit", ["word", "token"])
def test_seed_step_and_row_decide_the_masks(unit: Unit) -> None:
    layout = layout_of(wide_batch(2, 60))

    def draw(seed: int, step: int, *rows: int) -> tuple[Tensor, Tensor]:
        random = RowRandom.of(seed, step, torch.tensor(rows))
        return encoder_mask(layout, 0.3, random), decoder_visibility(layout, 0.5, unit, random)

    first = draw(3, 5, 0, 1)
    assert all(a.equal(b) for a, b in zip(first, draw(3, 5, 0, 1), strict=True))
    for other in ((3, 6, 0, 1), (4, 5, 0, 1), (5, 3, 0, 1), (3, 5, 1, 0), (3, 5, 2, 3)):
        for a, b in zip(first, draw(*other), strict=True):
            assert not any(row.equal(same) for row, same in zip(a, b, strict=True))


@settings(max_examples=40)
@given(lengths, rates, seeds, st.sampled_from(["word", "token"]))
def test_a_row_is_drawn_alike_whatever_stands_beside_it(lengths: list[int], rate: float, seed: int, unit: Unit) -> None:
    """Neither the other rows nor the padding they cause change a row's masks."""
    batch = random_batch("bert", lengths, seed)
    layout, ids = layout_of(batch), batch["input_ids"]

    def draw(layout: Layout, ids: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        random = RowRandom.of(seed, 7, rows)
        masked = encoder_mask(layout, rate, random)
        corrupted = corrupt(ids, masked, mask_id=4, vocabulary=50, keep=True, random=random)
        return masked, corrupted, decoder_visibility(layout, rate, unit, random)

    together = draw(layout, ids, torch.arange(len(lengths)))
    for row, length in enumerate(lengths):
        alone = Layout(*(part[row : row + 1, :length] for part in (layout.words, layout.ordinary, layout.valid)))
        masked, corrupted, visible = draw(alone, ids[row : row + 1, :length], torch.tensor([row]))
        assert masked[0].equal(together[0][row, :length])
        assert corrupted[0].equal(together[1][row, :length])
        assert visible[0].equal(together[2][row, :length, :length])


def test_long_texts_fill_several_blocks_of_bits() -> None:
    """Lengths around multiples of 64, where one number of bits ends and the next begins."""
    for length in (63, 64, 65, 128, 130):
        layout = layout_of(wide_batch(3, length))
        visible = decoder_visibility(layout, 0.5, "token", source(layout, 0))
        assert visible.shape == (3, length, length)
        usual = layout.ordinary[0]
        # Every row and every column of the free part is mixed: no block is all hidden or all visible.
        free = visible[:, 1:, usual].double()
        assert 0.2 < float(free.mean(1).min()) < float(free.mean(1).max()) < 0.8
        assert 0.2 < float(free.mean(2).min()) < float(free.mean(2).max()) < 0.8
