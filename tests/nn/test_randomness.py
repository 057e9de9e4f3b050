"""Random bits from counters: fair, independent, and a function of their key and place alone."""

from __future__ import annotations

import pytest
import torch

from dupmae.nn.randomness import RowRandom, _mix

WIDE = torch.arange(20_000)


def source(rows: int = 4, seed: int = 0, step: int = 0) -> RowRandom:
    return RowRandom.of(seed, step, torch.arange(rows))


def unpacked(words: torch.Tensor) -> torch.Tensor:
    return ((words[..., None] >> torch.arange(64)) & 1).double()


def test_mixing_is_splitmix64() -> None:
    """By Python's whole numbers, which have no sign bit to mind."""

    def expected(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    given = [0, 1, -1, 12345678901234567, -(2**63), 2**63 - 1]
    found = _mix(torch.tensor(given))
    assert [value % 2**64 for value in found.tolist()] == [expected(value % 2**64) for value in given]


def test_every_bit_is_fair_and_rows_are_independent() -> None:
    bits = unpacked(source().bits(3, WIDE))
    assert (bits.mean(1) - 0.5).abs().max() < 0.02
    signs = (2 * bits - 1).reshape(4, -1)
    correlation = signs @ signs.T / signs.shape[1]
    assert (correlation - torch.eye(4)).abs().max() < 0.005
    # Neighbouring places and neighbouring bits agree half of the time.
    assert abs(float((bits[:, 1:] == bits[:, :-1]).double().mean()) - 0.5) < 0.002
    assert abs(float((bits[..., 1:] == bits[..., :-1]).double().mean()) - 0.5) < 0.002


def test_uniform_numbers() -> None:
    numbers = source().uniform(0, 20_000).double()
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert float(numbers.mean()) == pytest.approx(0.5, abs=0.006)
    assert float(numbers.var()) == pytest.approx(1 / 12, abs=0.002)


def test_streams_steps_and_seeds_differ() -> None:
    first = source().bits(0, WIDE)
    others = [source().bits(1, WIDE), source(step=1).bits(0, WIDE), source(seed=1).bits(0, WIDE)]
    assert all(float((first == other).double().mean()) < 1e-3 for other in others)
    assert source(8).bits(0, WIDE)[:4].equal(first)
