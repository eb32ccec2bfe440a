from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rdtf.randomness import DataOrder, Purpose, normal, stream

positions = st.lists(st.integers(0, 2**31), max_size=4)
purposes = st.sampled_from(Purpose)


def first_draws(seed: int, purpose: Purpose, *position: int) -> tuple[float, ...]:
    return tuple(stream(seed, purpose, *position).random(4).tolist())


@given(seed=st.integers(0, 2**64 - 1), purpose=purposes, position=positions)
def test_stream_is_a_function_of_its_key(seed, purpose, position):
    assert first_draws(seed, purpose, *position) == first_draws(seed, purpose, *position)


@given(
    keys=st.lists(
        st.tuples(st.integers(0, 9), purposes, st.lists(st.integers(0, 3), max_size=4).map(tuple)),
        min_size=2,
        max_size=20,
        unique=True,
    )
)
def test_streams_of_different_keys_differ(keys):
    """Also of positions that differ in trailing zeros only: (5) is not (5, 0)."""
    draws = {first_draws(seed, purpose, *position) for seed, purpose, position in keys}
    assert len(draws) == len(keys)


@pytest.mark.parametrize("along", ["seed", "purpose", "position", "second position"])
def test_neighbouring_streams_are_independent(along):
    keys = {
        "seed": [(n, Purpose.NOISE, 7) for n in range(10)],
        "purpose": [(0, purpose, 7) for purpose in Purpose],
        "position": [(0, Purpose.NOISE, n) for n in range(10)],
        "second position": [(0, Purpose.NOISE, 7, n) for n in range(10)],
    }
    noise = np.stack([stream(*key).standard_normal(4000) for key in keys[along]])
    correlations = np.corrcoef(noise)[~np.eye(len(noise), dtype=bool)]
    assert np.abs(correlations).max() < 0.08


def test_positions_in_order_are_random_themselves():
    """The first number of each of many samples is a fair draw."""
    drawn = np.array([stream(0, Purpose.TIMESTEP, n).random() for n in range(4000)])
    counts, _ = np.histogram(drawn, bins=10, range=(0, 1))
    assert (np.abs(counts - 400) < 90).all()
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.06


def test_numbers_of_the_purposes_stay():
    """They are part of every run's reproducibility."""
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "ORDER": 1,
        "TASK": 2,
        "TIMESTEP": 3,
        "NOISE": 4,
        "AUGMENT": 5,
        "DROPOUT": 6,
        "VALIDATION": 7,
        "INIT": 8,
        "POSTERIOR": 9,
        "SAMPLE": 10,
    }


def test_noise_is_standard_normal_and_free_of_global_state():
    torch.manual_seed(0)
    noise = normal((16, 8, 32, 32), 3, Purpose.NOISE, 4)
    torch.manual_seed(1)
    np.random.default_rng(1)
    assert torch.equal(normal((16, 8, 32, 32), 3, Purpose.NOISE, 4), noise)
    assert noise.dtype == torch.float32 and noise.shape == (16, 8, 32, 32)
    assert abs(float(noise.mean())) < 0.01 and abs(float(noise.std()) - 1) < 0.01


# ------------------------------------------------------------------ order of the data


@given(num_samples=st.integers(1, 30), seed=st.integers(0, 99), epoch=st.integers(0, 5))
def test_every_epoch_is_a_permutation(num_samples, seed, epoch):
    order = DataOrder(num_samples, seed)
    start = epoch * num_samples
    seen = [order[position] for position in range(start, start + num_samples)]
    assert sorted(seen) == list(range(num_samples))


def test_epochs_and_seeds_have_their_own_order():
    orders = [DataOrder(40, seed) for seed in range(3)]
    epochs = [
        tuple(order[position] for position in range(epoch * 40, epoch * 40 + 40))
        for order, epoch in itertools.product(orders, range(3))
    ]
    assert len(set(epochs)) == 9
    assert tuple(range(40)) not in epochs


@given(
    num_samples=st.integers(1, 30),
    asked=st.lists(st.integers(0, 200), min_size=1, max_size=30),
)
def test_order_does_not_depend_on_what_was_asked_before(num_samples, asked):
    """One rank or four, from the start or resumed."""
    walked = DataOrder(num_samples, 5)
    assert [walked[p] for p in asked] == [DataOrder(num_samples, 5)[p] for p in asked]
