from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_runs import tiny_config
from rdtf.errors import ConfigError
from rdtf.method.curriculum import Curriculum, CurriculumConfig
from rdtf.method.objective import build_objective
from rdtf.method.tasks import MIN_FRAMES, TASKS
from rdtf.randomness import Purpose, stream
from rdtf.training.batches import (
    Batch,
    BatchBuilder,
    MixedOrder,
    PackedBatch,
    Sample,
    choose_frames,
    merge_durations,
    pack,
    pad_text,
    unpack,
)
from rdtf.training.config import TrainConfig, override
from rdtf.training.loader import PreparedStore, open_stores

from .stores import CHANNELS, SIDE, TEXT_WIDTH, CountingStore, MemoryStore

WEIGHTS = dict.fromkeys(TASKS, 1.0)
LENGTHS = (1, 6, 2, 4, 1, 3, 5, 2, 8, 4)


def builder(config: TrainConfig, store: MemoryStore | None = None) -> BatchBuilder:
    return BatchBuilder(store or MemoryStore(LENGTHS), config, build_objective(config.objective))


def step_batches(
    batches: BatchBuilder, step: int, weights: dict[str, float] = WEIGHTS, *place: int
) -> list[Batch]:
    packed = batches.step_batches(step, weights, *place)
    return [unpack(batch, batches.store, torch.device("cpu")) for batch in packed]


def collate(samples: list[Sample], store: MemoryStore | None = None) -> Batch:
    store = store or MemoryStore(LENGTHS)
    return unpack(pack(samples, store.text_widths), store, torch.device("cpu"))


def assert_same_batch(actual: Batch, expected: Batch) -> None:
    assert actual.info == expected.info
    for name in ("noise", "t"):
        assert torch.equal(getattr(actual, name), getattr(expected, name)), name
    told, other = actual.conditions, expected.conditions
    for name in ("clean", "valid", "given", "mean_duration_ms"):
        assert torch.equal(getattr(told, name), getattr(other, name)), name
    for name in ("text", "text_mask"):
        pairs = zip(getattr(told, name), getattr(other, name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), name


@settings(max_examples=20)
@given(st.permutations(range(10)), st.integers(1, 4), st.integers(0, 3))
def test_batches_are_the_same_in_any_order_of_asking(order, batch_size, micro_batch_size):
    config = tiny_config(batch_size=batch_size, micro_batch_size=micro_batch_size, seed=7)
    in_order = builder(config)
    expected = [step_batches(in_order, step, WEIGHTS) for step in range(10)]
    other = builder(config)
    for step in order:
        actual = step_batches(other, step, WEIGHTS)
        assert len(actual) == math.ceil(batch_size / (micro_batch_size or batch_size))
        for a, b in zip(actual, expected[step], strict=True):
            assert_same_batch(a, b)


def test_batches_of_a_real_set_are_the_same_for_two_readers(training_set):
    config = tiny_config(batch_size=6)
    objective = build_objective(config.objective)
    first, second = (
        BatchBuilder(open_stores(training_set, config)[1], config, objective) for _ in range(2)
    )
    for step in (5, 0, 3):
        batch = step_batches(first, step, WEIGHTS)[0]
        assert_same_batch(batch, step_batches(second, step, WEIGHTS)[0])
        assert batch.conditions.clean.shape[:2] == (6, CHANNELS) and batch.conditions.clean.shape[
            3:
        ] == (SIDE, SIDE)
        assert batch.conditions.clean.abs().max() <= 1 and batch.conditions.text[0].shape[::2] == (
            6,
            TEXT_WIDTH,
        )


def test_another_seed_gives_other_batches():
    first, second = (
        step_batches(builder(tiny_config(seed=seed)), 0, WEIGHTS)[0] for seed in (0, 1)
    )
    assert not torch.equal(first.noise[:, :, 0], second.noise[:, :, 0])


@pytest.mark.parametrize("still_share", [0.0, 0.15, 0.5])
def test_every_epoch_visits_every_moving_clip_once(still_share):
    store = CountingStore(LENGTHS)
    config = tiny_config(batch_size=4, micro_batch_size=2, data__still_share=still_share, steps=128)
    batches = builder(config, store)
    for step in range(128):  # whole groups of steps, in whatever order they are dealt
        step_batches(batches, step, WEIGHTS)
    in_order = [batches.order[position] for position in range(512)]
    assert Counter(store.asked) == Counter(in_order)
    moving = [clip for clip in in_order if LENGTHS[clip] > 1]
    epochs = [moving[start : start + 8] for start in range(0, len(moving) - 7, 8)]
    assert all(sorted(epoch) == [1, 2, 3, 5, 6, 7, 8, 9] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=12),
    st.floats(0, 1),
    st.integers(0, 5),
)
def test_the_share_of_stills(lengths, share, seed):
    order = MixedOrder(np.array(lengths), share, seed)
    drawn = [order[position] for position in range(60)]
    stills = sum(lengths[clip] == 1 for clip in drawn)
    if all(length > 1 for length in lengths):
        assert stills == 0
    elif all(length == 1 for length in lengths):
        assert stills == 60
    else:
        assert abs(stills - 60 * share) <= 1


def test_stills_are_spread_evenly():
    order = MixedOrder(np.array(LENGTHS), 0.25, 0)
    stills = [LENGTHS[order[position]] == 1 for position in range(40)]
    assert all(sum(stills[start : start + 4]) == 1 for start in range(0, 40, 4))


def test_concepts_take_turns_whatever_their_size():
    """Of 10 clips one concept has 7: it is drawn as often as the others, each of its clips too."""
    lengths, concepts = [3] * 10 + [1] * 3, np.array([7] * 7 + [1, 2, 2] + [7, 7, 9])
    order = MixedOrder(np.array(lengths), 0.25, 0, concepts)
    drawn = [order[position] for position in range(4 * 84)]
    moving = Counter(clip for clip in drawn if clip < 10)
    assert Counter(concepts[clip] for clip in drawn if clip < 10) == {7: 84, 1: 84, 2: 84}
    assert moving == {7: 84, 8: 42, 9: 42} | dict.fromkeys(range(7), 12)
    assert Counter(clip for clip in drawn if clip >= 10) == {10: 21, 11: 21, 12: 42}
    again = MixedOrder(np.array(lengths), 0.25, 0, concepts)
    assert [again[position] for position in (300, 5, 77)] == [drawn[p] for p in (300, 5, 77)]


def test_easy_clips_come_first():
    config = tiny_config(batch_size=4, steps=64, curriculum__easy_until=0.5)
    store = MemoryStore(range(2, 42))
    batches = builder(config, store)
    drawn = [[batches.order[4 * step + i] for i in range(4)] for step in range(64)]
    assert max(max(row) for row in drawn[:2]) < 12 and max(map(max, drawn[16:])) > 35
    plain = builder(tiny_config(batch_size=4, steps=64), store)
    assert drawn[32:] == [[plain.order[4 * step + i] for i in range(4)] for step in range(32, 64)]
    with pytest.raises(ConfigError, match="easy_until"):
        Curriculum(CurriculumConfig(easy_until=1.5))


@pytest.mark.parametrize("name", ["text_dropout", "image_dropout"])
def test_conditions_are_dropped_as_often_as_said(name):
    other = "image_dropout" if name == "text_dropout" else "text_dropout"
    weights = {"it2v": 1.0, "interpolation": 1.0}
    rates = {f"data__{name}": 0.5, f"data__{other}": 0.0}
    config = tiny_config(batch_size=4, data__still_share=0.0, **rates)
    text, image = 0, 0
    for step in range(40):
        for batch in step_batches(builder(config), step, weights):
            text += int(batch.conditions.text_mask[0].any(dim=1).sum())
            image += int(batch.conditions.given.any(dim=1).sum())
    dropped, always = (text, image) if name == "text_dropout" else (image, text)
    assert always == 160 and 55 < dropped < 105


def test_dropout_is_independent_of_the_task_draw():
    """Dropping conditions changes no task, noise or level: ablations stay comparable."""
    with_all = builder(tiny_config(data__text_dropout=0.0, data__image_dropout=0.0))
    without = builder(tiny_config(data__text_dropout=1.0, data__image_dropout=1.0))
    for step in range(8):
        a, b = step_batches(with_all, step, WEIGHTS)[0], step_batches(without, step, WEIGHTS)[0]
        assert a.info == b.info and torch.equal(a.noise, b.noise)
        assert torch.equal(a.conditions.clean, b.conditions.clean)
        assert not b.conditions.given.any() and not b.conditions.text_mask[0].any()


def test_flips_happen_and_can_be_turned_off():
    def mirrored(probability: float) -> int:
        count = 0
        batches = builder(tiny_config(batch_size=4, data__flip_probability=probability))
        for step in range(20):
            clean = step_batches(batches, step, WEIGHTS)[0].conditions.clean
            count += int((clean[:, 0, 0, 0, 0] > clean[:, 0, 0, 0, -1]).sum())
        return count

    assert mirrored(0.0) == 0 and mirrored(1.0) == 80
    assert 20 < mirrored(0.5) < 60


def test_tasks_differ_within_a_batch_and_all_of_them_come():
    batches = builder(tiny_config(batch_size=8, data__still_share=0.0))
    drawn = [step_batches(batches, step, WEIGHTS)[0].info.tasks for step in range(20)]
    assert sum(len(set(tasks)) > 1 for tasks in drawn) >= 19
    assert {task for tasks in drawn for task in tasks} == set(TASKS)


def test_weights_of_zero_leave_a_task_out():
    batches = builder(tiny_config(batch_size=8, data__still_share=0.0))
    weights = {**dict.fromkeys(TASKS, 0.0), "interpolation": 1.0}
    for step in range(10):
        assert set(step_batches(batches, step, weights)[0].info.tasks) == {"interpolation"}


@settings(max_examples=20)
@given(st.integers(0, 40), st.sets(st.integers(0, len(LENGTHS) - 1), max_size=6))
def test_what_other_clips_hold_does_not_matter(position, salted):
    config = tiny_config()
    plain = builder(config).sample(position, WEIGHTS)
    salted -= {plain.clip}
    store = MemoryStore(LENGTHS, tuple(salted), 0.5)
    other = builder(config, store).sample(position, WEIGHTS)
    assert_same_batch(collate([plain]), collate([other], store))


@settings(max_examples=30)
@given(st.integers(0, 30))
def test_a_batch_is_well_formed(step):
    config = tiny_config(batch_size=4)
    batch = step_batches(builder(config), step, WEIGHTS)[0]
    lengths = batch.conditions.valid.sum(dim=1)
    assert batch.conditions.valid.shape[1] == lengths.max() <= config.max_frames
    assert not (batch.conditions.given & ~batch.conditions.valid).any()
    assert (batch.conditions.valid & ~batch.conditions.given).any(dim=1).all()
    assert ((batch.t > 0) & (batch.t < 1)).all()
    for row, task in enumerate(batch.info.tasks):
        count = int(lengths[row])
        assert count >= MIN_FRAMES[task]
        assert batch.conditions.valid[row, :count].all()
        assert (
            not batch.conditions.clean[row, :, count:].any()
            and not batch.noise[row, :, count:].any()
        )
        durations = MemoryStore(LENGTHS).durations_ms(batch.info.clips[row])
        assert durations.min() <= batch.conditions.mean_duration_ms[row] <= durations.sum()


def test_a_step_holds_clips_of_like_length():
    config = tiny_config(batch_size=4, max_frames=8)
    batches = builder(config)
    padding = sum(
        int((~batch.conditions.valid).sum())
        for step in range(40)
        for batch in step_batches(batches, step, WEIGHTS)
    )
    in_order = [collate([batches.sample(4 * s + i, WEIGHTS) for i in range(4)]) for s in range(40)]
    assert padding < 0.7 * sum(int((~batch.conditions.valid).sum()) for batch in in_order)


@pytest.mark.parametrize(("batch_size", "max_frames"), [(8, 8), (16, 16), (64, 16)])
def test_little_is_padding(batch_size, max_frames):
    """With lengths as stickers have them: many stills and short loops, few long ones."""
    lengths = np.random.default_rng(0).geometric(0.25, 2000).clip(1, 30)
    config = tiny_config(batch_size=batch_size, max_frames=max_frames)
    batches = builder(config, MemoryStore(lengths.tolist()))
    slots = frames = 0
    for step in range(64):
        for positions in batches.deal(step):
            counts = [batches.length(position) for position in positions]
            slots, frames = slots + max(counts) * len(counts), frames + sum(counts)
    assert 1 - frames / slots < 0.1


# ------------------------------------------------------------------------- frames


@given(
    st.integers(1, 40),
    st.integers(2, 16),
    st.floats(0, 1),
    st.integers(0, 2**32),
    st.integers(0, 9),
)
def test_chosen_frames(num_frames, max_frames, probability, seed, position):
    generator = stream(seed, Purpose.AUGMENT, position)
    frames = choose_frames(num_frames, max_frames, probability, generator)
    assert frames.dtype == np.int64
    assert min(num_frames, 2) <= len(frames) <= min(num_frames, max_frames)
    assert frames[0] >= 0 and frames[-1] < num_frames
    assert (np.diff(frames) > 0).all()
    assert np.ptp(np.diff(frames)) <= 1 if len(frames) > 2 else True  # evenly spread
    assert num_frames > max_frames or (np.diff(frames) == 1).all()


@given(st.integers(2, 16), st.integers(0, 100))
def test_a_clip_that_fits_is_taken_whole_without_subclips(num_frames, seed):
    generator = stream(seed, Purpose.AUGMENT, 0)
    assert choose_frames(num_frames, 16, 0.0, generator).tolist() == list(range(num_frames))


def test_long_clips_are_taken_whole_and_in_stretches_of_any_length():
    draws = [choose_frames(20, 5, 0.25, stream(0, Purpose.AUGMENT, i)) for i in range(600)]
    spans = Counter(int(frames[-1] - frames[0]) for frames in draws if len(frames) == 5)
    assert set(spans) == set(range(4, 20))
    whole = sum(frames[-1] - frames[0] == 19 for frames in draws)
    assert 240 < whole < 360
    assert spans[4] > spans[17]  # as often in each octave of speed
    starts = {int(frames[0]) for frames in draws if frames[-1] - frames[0] < 19}
    assert starts >= set(range(15))


def test_stretches_that_are_cut_are_as_long_as_their_frames_allow():
    """Two neighbours, and two that are far from each other."""
    draws = [choose_frames(12, 4, 1.0, stream(0, Purpose.AUGMENT, i)) for i in range(400)]
    spans = {int(frames[-1] - frames[0]) for frames in draws if len(frames) == 2}
    assert spans >= {1, 2, 4, 8, 11}


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.data())
def test_merged_durations_keep_the_time_between_the_chosen(durations, data):
    count = len(durations)
    chosen = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    frames = np.array(sorted(chosen))
    merged = merge_durations(np.array(durations), frames)
    assert len(merged) == len(frames) and merged.min() >= 1
    assert merged[:-1].sum() == sum(durations[frames[0] : frames[-1]])
    behind = int(frames[-1] - frames[-2]) if len(frames) > 1 else 1
    assert merged[-1] == sum(durations[frames[-1] : frames[-1] + behind])


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([0, 1, 2], [10, 10, 10]),  # neighbours
        ([0, 3, 6], [30, 30, 30]),  # a stretch: its last frame lasts as long as the others
        ([0, 4, 8], [40, 40, 20]),  # the clip ends
        ([9], [10]),
    ],
)
def test_durations_of_a_stretch(frames, expected):
    assert merge_durations(np.full(10, 10), np.array(frames)).tolist() == expected


# ------------------------------------------------------------------------ backwards


def test_reversal_turns_frames_around_and_nothing_else():
    config = tiny_config(data__still_share=0.0)
    forwards = builder(config)
    backwards = builder(override(config, {"data.reverse_probability": 1.0}))
    for position in range(20):
        a, b = (batches.sample(position, WEIGHTS) for batches in (forwards, backwards))
        assert torch.equal(a.stored["mean"].flip(0), b.stored["mean"])
        first, second = collate([a]), collate([replace(b, stored=a.stored)])
        assert_same_batch(first, second)


@pytest.mark.parametrize("probability", [0.0, 0.5])
def test_clips_are_reversed_as_often_as_said(probability):
    config = tiny_config(data__still_share=0.0, data__reverse_probability=probability)
    batches = builder(config)
    firsts = [batches.sample(p, WEIGHTS).stored["mean"][:, 0, 0, 0] for p in range(200)]
    reverse = sum(bool(frames[0] > frames[-1]) for frames in firsts)
    assert (reverse == 0) if probability == 0 else (70 < reverse < 130)


# --------------------------------------------------------------------------- text


def test_texts_are_padded_per_encoder():
    first = [torch.ones(2, 3), torch.ones(1, 5)]
    second = [torch.full((4, 3), 2.0), torch.full((3, 5), 2.0)]
    states, masks = pad_text([first, [], second], (3, 5))
    assert [tuple(state.shape) for state in states] == [(3, 4, 3), (3, 3, 5)]
    assert masks[0].sum(dim=1).tolist() == [2, 0, 4] and masks[1].sum(dim=1).tolist() == [1, 0, 3]
    assert not states[0][~masks[0]].any() and states[0][2].eq(2).all()


def test_no_text_at_all_is_one_masked_token():
    """So that the parameters that read text take part in every batch."""
    states, masks = pad_text([[], []], (3, 5))
    assert [tuple(state.shape) for state in states] == [(2, 1, 3), (2, 1, 5)]
    assert not any(mask.any() for mask in masks)


# -------------------------------------------------------------------------- ranks


@settings(max_examples=40)
@given(
    st.integers(0, 50),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
    st.integers(0, 5),
)
def test_the_same_samples_whatever_the_ranks_and_micro_batches(step, world, share, micro):
    batch_size = 4 * share
    batches = builder(tiny_config(batch_size=batch_size, micro_batch_size=micro))
    dealt = [batches.deal(step, rank, world) for rank in range(world)]
    alone = [p for group in batches.deal(step) for p in group]
    together = [p for passes in zip(*dealt, strict=True) for group in passes for p in group]
    assert together == alone == batches.positions(step)
    sizes = [[len(group) for group in groups] for groups in dealt]
    assert all(size == sizes[0] and sum(size) == batch_size // world for size in sizes)
    assert all(len(group) <= (micro or batch_size) for group in dealt[0])


def test_steps_cover_every_position_once():
    batches = builder(tiny_config(batch_size=6))
    seen = [
        p for step in range(32) for rank in range(2) for g in batches.deal(step, rank, 2) for p in g
    ]
    assert sorted(seen) == list(range(192))


def test_a_batch_that_ranks_cannot_share_is_refused():
    with pytest.raises(ConfigError, match=r"8 can't be shared by 3 ranks.*multiple of 3"):
        builder(tiny_config(batch_size=8)).deal(0, 0, 3)


def test_noise_is_the_samples_own():
    """It depends neither on the batch nor on the longest clip in it."""
    batches = builder(tiny_config(batch_size=4))
    samples = [batches.sample(position, WEIGHTS) for position in range(12)]
    together = collate(samples)
    for row, sample in enumerate(samples):
        alone = collate([sample])
        assert torch.equal(together.noise[row, :, : sample.num_frames], alone.noise[0])
    values = together.noise[together.conditions.valid[:, None].expand(-1, CHANNELS, -1)]
    assert abs(float(values.mean())) < 0.01 and abs(float(values.std()) - 1) < 0.01


def test_latents_are_drawn_anew_from_their_posterior():
    class Uncertain(MemoryStore):
        def to_latents(self, stored):
            return torch.zeros_like(stored["mean"]), torch.full_like(
                stored["mean"], 2 * math.log(3)
            )

    store = Uncertain(LENGTHS)
    batches = builder(tiny_config(), store)
    first, again, other = (collate([batches.sample(p, WEIGHTS)], store) for p in (3, 3, 4))
    assert (
        torch.equal(first.conditions.clean, again.conditions.clean)
        and abs(float(first.conditions.clean.std()) - 3) < 0.2
    )
    assert not torch.equal(first.conditions.clean[:, :, :1], other.conditions.clean[:, :, :1])
    assert not torch.equal(first.conditions.clean, 3 * first.noise)


def test_what_travels_is_small(training_set):
    """Pixels as bytes, text in half precision: no float latents, no noise."""
    config = tiny_config(batch_size=4)
    store = open_stores(training_set, config)[1]
    assert isinstance(store, PreparedStore)
    packed = BatchBuilder(store, config, build_objective(config.objective)).step_batches(0, WEIGHTS)
    assert isinstance(packed[0], PackedBatch)
    assert packed[0].stored["pixels"].dtype == torch.uint8
    assert packed[0].text[0].dtype == torch.float16
