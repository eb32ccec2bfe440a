"""Frames made by moving a given one: plans, named motions, the pipeline with all its stages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rdtf.errors import ConfigError, UserError
from rdtf.models.motion_latents import LATENT_DIM, alpha_box, backward_warp, flow_of_latents
from rdtf.models.motion_predictor import MotionPredictor
from rdtf.models.recurrence import RecurrencePredictor
from rdtf.sampling.moving import Motion, known_motion, plan_motion, to_pixels
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.sampling.windows import plan_stages
from rdtf.stickers import Sticker
from rdtf.synthetic import VERBS
from rdtf.synthetic.characters import SyntheticStickers
from sampling.moving import CANVAS, whole_pipeline


@pytest.fixture(scope="module")
def pipe() -> StickerPipeline:
    return whole_pipeline()


@pytest.fixture(scope="module")
def still() -> Sticker:
    return SyntheticStickers(seed=5, count=9, canvas=CANVAS, max_frames=8)[7].select([0])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------- plans


@settings(max_examples=200, deadline=None)
@given(
    known=st.lists(st.booleans(), min_size=1, max_size=40),
    longest=st.integers(2, 16),
    window=st.integers(3, 8),
    loop=st.booleans(),
)
def test_every_frame_is_made_once_by_windows_that_fit(known, longest, window, loop):
    stages = list(plan_stages(np.array(known), longest=window, longest_motion=longest, loop=loop))
    done = list(known)
    for stage in stages:
        if stage.window is None:
            assert not any(done)
            done[0] = True
            continue
        make = [slot % len(known) for slot in stage.window.make]
        assert not any(done[slot] for slot in make) and len(set(make)) == len(make)
        if stage.family != "interpolation":
            assert len(stage.window.slots) <= longest + loop
            assert all(done[slot % len(known)] for slot in stage.window.given)
            assert stage.window.anchor in stage.window.given
        for slot in make:
            done[slot] = True
    assert all(done)


def test_only_what_lies_beyond_the_given_frames_is_moved():
    moved = list(plan_motion([False, True, False, True, False, False], 8, loop=False))
    assert sorted(slot for window in moved for slot in window.make) == [0, 4, 5]
    assert {window.anchor for window in moved} == {1, 3}


def test_a_loop_of_one_still_closes_on_itself():
    (window,) = plan_motion([True, False, False, False], 8, loop=True)
    assert window.slots == (0, 1, 2, 3, 4) and window.given == (0, 4)


# ---------------------------------------------------------------- known motion


def test_motion_of_known_frames_moves_the_reference_onto_them():
    """A square that slides: where the latents say that its pixels come from, they do."""
    frames = np.zeros((3, CANVAS, CANVAS, 4), dtype=np.uint8)
    for index in range(3):
        frames[index, 10:22, 6 + 3 * index : 16 + 3 * index] = (200, 40, 40, 255)
        frames[index, 12:16, 8 + 3 * index : 11 + 3 * index] = (20, 40, 240, 255)
    pixels = to_pixels(frames)
    centre = alpha_box((pixels[:1, 3] + 1) / 2)[:, :2]
    known = torch.tensor([True, True, True])
    latents = known_motion(pixels, known, pixels[:1], centre)
    flow = flow_of_latents(latents, centre, (CANVAS, CANVAS))[0]
    moved = backward_warp(pixels[:1].expand(3, -1, -1, -1), flow)
    assert (moved - pixels).abs().mean() < 0.03
    assert (pixels[:1] - pixels[2]).abs().mean() > 0.1
    assert not latents[0, 0].any()


# ---------------------------------------------------------------- named motions


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("name", [name for name in VERBS if name != "stand"])
def test_a_motion_by_name_moves_the_still(pipe, still, name, loop):
    made = pipe("", image=still, motion=name, num_frames=6, loop=loop, generator=seeded())
    np.testing.assert_array_equal(made.frames[0], still.frames[0])
    assert np.abs(made.premultiplied()[1:] - made.premultiplied()[0]).max() > 0.1
    again = pipe("", image=still, motion=name, num_frames=6, loop=loop, generator=seeded())
    np.testing.assert_array_equal(made.frames, again.frames)


def test_sliding_goes_where_it_says(pipe, still):
    def centres(name: str) -> np.ndarray:
        frames = pipe("", image=still, motion=name, motion_scale=0.5, generator=seeded()).frames
        alpha = frames[..., 3].astype(float)
        return (alpha.sum(1) * np.arange(CANVAS)).sum(1) / alpha.sum((1, 2))

    assert (np.diff(centres("slide right")) >= -0.05).all()
    assert centres("slide right")[-1] > centres("slide right")[0] + 1
    assert centres("slide left")[-1] < centres("slide left")[0] - 1


def test_a_name_that_there_is_not_is_refused_with_a_suggestion(pipe, still):
    with pytest.raises(UserError, match="did you mean jump"):
        pipe("", image=still, motion="jumpp")


# ------------------------------------------------------------------ the pipeline


def test_text_alone_draws_a_still_and_moves_it(pipe):
    made = pipe("a cat jumping", num_frames=4, num_inference_steps=2, generator=seeded())
    assert made.frames.shape == (4, CANVAS, CANVAS, 4)
    assert made.captions == ("a cat jumping",)


def test_everyday_words_move_a_still_and_what_was_understood_is_told(pipe, still):
    made = {
        words: pipe(words, image=still, num_frames=6, generator=seeded())
        for words in ("a cat fainting", "a pink cat", "not moving", "fading away")
    }
    told = {words: clip.metadata["motion"] for words, clip in made.items()}
    assert told["a cat fainting"] == "fainting → topple"
    assert told["a pink cat"] == "no motion named → sway + breathe"
    step = {
        words: np.abs(clip.premultiplied()[1:] - clip.premultiplied()[0]).mean()
        for words, clip in made.items()
    }
    assert step["not moving"] < 1e-3 < step["a pink cat"] < 0.5 * step["a cat fainting"]
    seen = made["fading away"].frames[..., 3].sum((1, 2))
    assert (np.diff(seen.astype(int)) < 0).all() and seen[-1] == 0


def test_a_phrase_is_a_motion_by_name_too(pipe, still):
    by_name = pipe("", image=still, motion="waving hello", generator=seeded())
    by_words = pipe("waving hello", image=still, generator=seeded())
    np.testing.assert_array_equal(by_name.frames, by_words.frames)


def test_what_the_network_moves_stays_in_the_canvas(pipe, still):
    """Latents that would throw the still far away keep it where all of it is seen."""
    pixels = to_pixels(still.frames)[0]
    centre = alpha_box((pixels[None, 3] + 1) / 2)[:, :2]
    latents = torch.zeros(1, 3, LATENT_DIM)
    latents[0, 1, 0], latents[0, 2, 2] = 4.0, 3.0
    motion = Motion(latents, centre).kept_in_canvas(pixels)
    seen = motion.frames(pixels, [0, 1, 2], 1.0)[:, 3].add(1).sum((1, 2))
    assert seen[1] > 0.9 * seen[0] and not motion.latents[0, 0].any()
    assert Motion(latents, centre).frames(pixels, [1], 1.0)[:, 3].add(1).sum() < 0.1 * seen[0]


def test_given_frames_come_back_whatever_is_made(pipe, still):
    clip = SyntheticStickers(seed=3, count=4, canvas=CANVAS, max_frames=8)[2]
    frames = np.resize(clip.frames, (7, CANVAS, CANVAS, 4))
    sticker = Sticker(frames, np.full(7, 90))
    made = pipe.fill(sticker, [1, 4], num_inference_steps=2, generator=seeded())
    np.testing.assert_array_equal(made.frames[[1, 4]], frames[[1, 4]])


def test_steps_are_counted_over_all_stages(pipe):
    seen = []
    pipe(
        "a cat",
        motion="network",
        num_frames=20,
        num_inference_steps=2,
        callback_on_step_end=lambda *step: seen.append(step[1]),
        generator=seeded(),
    )
    assert len(seen) == pipe.num_timesteps == 2 * (1 + 2)  # a still, 15 frames more, 4 more


def test_large_frames_are_the_large_still_moved(pipe):
    still = SyntheticStickers(seed=5, count=9, canvas=96, max_frames=8)[7].select([0])
    made = pipe("", image=still, motion="slide right", output_size="input", generator=seeded())
    assert made.frames.shape[1:3] == (96, 96)
    np.testing.assert_array_equal(made.frames[0], still.frames[0])
    # As sharp as the still: its steepest edges survive.
    edges = np.abs(np.diff(made.premultiplied(), axis=1)).max((1, 2, 3))
    assert edges[1:-1].min() > 0.6 * edges[0]


def test_nothing_smears_beyond_the_canvas(pipe):
    """A still that touches the border and slides away leaves nothing behind."""
    full = np.full((1, CANVAS, CANVAS, 4), 255, dtype=np.uint8)
    made = pipe("", image=Sticker(full, np.array([100])), motion="slide right", generator=seeded())
    assert not made.frames[-1, :, :4, 3].any()


def test_a_saved_pipeline_keeps_all_its_parts(pipe, still, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    again = StickerPipeline.from_pretrained(tmp_path / "pipe")
    again.set_progress_bar_config(disable=True)
    options = {"image": still, "num_frames": 4, "num_inference_steps": 2, "motion": "network"}
    first = pipe("waving", generator=seeded(), **options)
    second = again("waving", generator=seeded(), **options)
    np.testing.assert_array_equal(first.frames, second.frames)


def test_parts_must_fit_one_another(pipe):
    parts = {**pipe.components, "motion": None}
    with pytest.raises(ConfigError, match="needs one that moves"):
        StickerPipeline(**parts)


def test_a_model_without_a_motion_network_takes_no_named_motion(pipe, still):
    plain = StickerPipeline(**{**pipe.components, "motion": None, "drawer": None})
    with pytest.raises(UserError, match="no motion network"):
        plain("", image=still, motion="jump")


def test_many_turns_end_upright(pipe, still):
    """Latents hold no more than some turns."""
    made = pipe("spins five times", image=still, num_frames=12)
    np.testing.assert_allclose(made.frames[-1].astype(int), made.frames[0].astype(int), atol=2)
    assert (made.frames[6] != made.frames[0]).any()


# ------------------------------------------------------------------ going on


@pytest.fixture(scope="module")
def predicting() -> StickerPipeline:
    return whole_pipeline(predicts=True)


@pytest.fixture(scope="module")
def moving() -> Sticker:
    """A square that slides by two pixels a frame."""
    frames = np.zeros((4, CANVAS, CANVAS, 4), np.uint8)
    for frame in range(4):
        frames[frame, 8:20, 4 + 2 * frame : 14 + 2 * frame] = (200, 60, 40, 255)
    return Sticker(frames, np.full(4, 80))


def test_several_given_frames_are_continued_without_chance(predicting, moving):
    steps: list[float] = []
    options: dict[str, Any] = {
        "after": 7,
        "before": 2,
        "callback_on_step_end": lambda pipe, index, t, tensors: steps.append(float(t)),
    }
    one = predicting.predict(moving, generator=seeded(1), **options)
    two = predicting.predict(moving, generator=seeded(2), **options)
    np.testing.assert_array_equal(one.frames, two.frames)
    np.testing.assert_array_equal(one.frames[2:6], moving.frames)
    assert len(one.frames) == 13
    assert steps == [0.0] * 6  # one for each window


def test_a_prediction_is_interrupted_between_its_windows(predicting, moving):
    told: list[tuple[int, int]] = []

    def stop(pipe, index, timestep, tensors):
        told.append((index, pipe.num_timesteps))
        pipe._interrupt = True

    made = predicting.predict(moving, after=12, callback_on_step_end=stop)
    assert told == [(0, 3)]
    assert made.frames[7].any()
    assert not made.frames[8:].any()


def test_the_network_draws_the_rest_by_chance_where_that_is_asked_for(predicting, moving):
    options = {"after": 3, "motion": "network", "num_inference_steps": 2}
    one = predicting.predict(moving, generator=seeded(1), **options)
    two = predicting.predict(moving, generator=seeded(2), **options)
    assert (one.frames != two.frames).any()


def test_one_still_is_moved_as_before(predicting, pipe, still):
    options = {"image": still, "num_frames": 4, "num_inference_steps": 2, "motion": "network"}
    one = predicting("waving", generator=seeded(), **options)
    two = pipe("waving", generator=seeded(), **options)
    np.testing.assert_array_equal(one.frames, two.frames)


def test_a_saved_pipeline_keeps_its_predictor(predicting, moving, tmp_path):
    predicting.save_pretrained(tmp_path / "pipe")
    again = StickerPipeline.from_pretrained(tmp_path / "pipe")
    again.set_progress_bar_config(disable=True)
    first, second = predicting.predict(moving, after=3), again.predict(moving, after=3)
    np.testing.assert_array_equal(first.frames, second.frames)


@pytest.fixture(scope="module")
def returning(predicting) -> StickerPipeline:
    """Goes back the way that it came."""
    recurrence = RecurrencePredictor(width=8).eval()
    places = torch.arange(recurrence.places - 1)
    with torch.no_grad():
        errors = recurrence.layers[-1].bias.view(recurrence.places, recurrence.places)
        errors[places, places + 1] = -1.0
    made = StickerPipeline(**{**predicting.components, "recurrence": recurrence})
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("size", ["model", "large"])
def test_frames_that_come_back_are_the_given_ones(returning, moving, size, tmp_path):
    clip = moving if size == "model" else moving.fit_canvas(48)
    options: dict[str, Any] = {"output_size": clip.width}
    there = clip.frames.tolist()
    after = returning.predict(clip, after=3, **options)
    assert after.frames.tolist() == [*there, there[2], there[1], there[0]]
    before = returning.predict(clip, before=3, **options)
    assert before.frames.tolist() == [there[3], there[2], there[1], *there]
    less = returning.predict(clip, after=3, motion_scale=0.5, **options)
    assert less.frames[4].tolist() != there[2]
    returning.save_pretrained(tmp_path / "pipe")
    again = StickerPipeline.from_pretrained(tmp_path / "pipe")
    np.testing.assert_array_equal(again.predict(clip, after=3, **options).frames, after.frames)


def test_what_comes_back_needs_a_predictor(returning):
    with pytest.raises(ConfigError, match="needs a predictor"):
        StickerPipeline(**{**returning.components, "predictor": None})


def test_a_predictor_of_another_canvas_is_refused(predicting):
    other = MotionPredictor(channels=(16, 32), attention_levels=(1,), canvas=64)
    with pytest.raises(ConfigError, match="of 64 px"):
        StickerPipeline(**{**predicting.components, "predictor": other})
