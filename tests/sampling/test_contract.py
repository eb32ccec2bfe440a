"""What diffusers promises of any pipeline, as far as it applies to stickers."""

from __future__ import annotations

import inspect
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures_runs import CANVAS, MAX_FRAMES
from fixtures_service import moving_disc, still
from rdtf.errors import UserError
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.stickers import Sticker

FAST = {"num_inference_steps": 2, "num_frames": 2}
PROMPTS = ["a cat", "a dog jumps", "a red disc rolls"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def generators(count: int) -> list[torch.Generator]:
    return [seeded(seed) for seed in range(count)]


def stills(count: int) -> list[Sticker]:
    return [still(CANVAS, seed) for seed in range(count)]


def same(first: Any, second: Any) -> bool:
    """Stickers, or lists of them, frame by frame and time by time."""
    first, second = ([one] if isinstance(one, Sticker) else one for one in (first, second))
    return len(first) == len(second) and all(
        np.array_equal(a.frames, b.frames) and np.array_equal(a.durations_ms, b.durations_ms)
        for a, b in zip(first, second, strict=True)
    )


# ------------------------------------------------------------------------- the signature


def test_the_call_has_the_arguments_that_tools_look_for(pipeline):
    arguments = inspect.signature(pipeline.__call__).parameters
    assert {
        "prompt",
        "image",
        "negative_prompt",
        "num_inference_steps",
        "guidance_scale",
        "generator",
        "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
    } <= set(arguments)
    shared = set(inspect.signature(SamplingOptions).parameters)
    assert {"num_inference_steps", "generator", "callback_on_step_end", "loop"} <= shared
    assert pipeline._callback_tensor_inputs == ("latents",)


def test_components_build_the_same_pipeline(pipeline):
    again = StickerPipeline(**pipeline.components)
    parts = {"denoiser", "autoencoder", "text_encoders", "scheduler"} | {
        "motion",
        "predictor",
        "recurrence",
        "drawer",
    }
    assert set(pipeline.components) == parts
    made = [pipe("a cat", generator=seeded(), **FAST) for pipe in (pipeline, again)]
    assert same(*made)


def test_a_saved_pipeline_has_the_same_config(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "a")
    loaded = StickerPipeline.from_pretrained(tmp_path / "a")
    loaded.save_pretrained(tmp_path / "b")
    first, second = (
        json.loads((tmp_path / name / "model_index.json").read_text()) for name in "ab"
    )
    second.pop("_name_or_path", None)
    assert first == second


# ------------------------------------------------------------------------------- batches


def test_a_batch_of_prompts_is_each_of_them(pipeline):
    batch = pipeline(PROMPTS, generator=generators(3), **FAST)
    alone = [
        pipeline(prompt, generator=seeded(index), **FAST) for index, prompt in enumerate(PROMPTS)
    ]
    assert isinstance(batch, list) and same(batch, alone)
    assert [sticker.captions for sticker in batch] == [(prompt,) for prompt in PROMPTS]


def test_a_batch_of_images_is_each_of_them(pipeline):
    images = stills(2)
    batch = pipeline(PROMPTS[:2], images, generator=generators(2), **FAST)
    alone = [
        pipeline(PROMPTS[index], images[index], generator=seeded(index), **FAST)
        for index in range(2)
    ]
    assert same(batch, alone)
    for sticker, image in zip(batch, images, strict=True):
        assert np.array_equal(sticker.frames[0], image.frames[0])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_stickers_as_asked_for(pipeline, count):
    per_prompt = pipeline("a cat", num_stickers_per_prompt=count, generator=seeded(), **FAST)
    assert (count == 1) == isinstance(per_prompt, Sticker)
    listed = pipeline(PROMPTS[:2], num_stickers_per_prompt=count, generator=seeded(), **FAST)
    assert len(listed) == 2 * count
    assert [s.captions[0] for s in listed] == [p for p in PROMPTS[:2] for _ in range(count)]
    assert isinstance(pipeline(["a cat"], **FAST), list)
    assert len(pipeline(None, stills(count), **FAST)) == count  # no text, or one for all
    assert len(pipeline("a cat", stills(count), **FAST)) == count
    assert len(pipeline(PROMPTS[:count], still(CANVAS, 0), **FAST)) == count


def test_one_generator_serves_all_one_after_the_other(pipeline):
    batch = pipeline(PROMPTS[:2], generator=seeded(), **FAST)
    again = pipeline(PROMPTS[:2], generator=seeded(), **FAST)
    generator = seeded()
    alone = [pipeline(prompt, generator=generator, **FAST) for prompt in PROMPTS[:2]]
    assert same(batch, again) and same(batch, alone)


def test_other_methods_take_a_list_of_one_generator(pipeline):
    clip = moving_disc(CANVAS, 3)
    options = {"num_inference_steps": 1}
    one = pipeline.fill(clip, [0, 2], generator=seeded(), **options)
    assert same(one, pipeline.fill(clip, [0, 2], generator=[seeded()], **options))


# -------------------------------------------------------------------------------- images


def test_pil_images_are_stills(pipeline):
    image = still(CANVAS, 1)
    picture = Image.fromarray(image.frames[0])
    made = [pipeline("a cat", given, generator=seeded(), **FAST) for given in (image, picture)]
    assert same(*made)
    assert len(pipeline("a cat", [picture, picture], **FAST)) == 2


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "1", "I;16"])
def test_pil_images_of_any_mode(pipeline, mode):
    picture = Image.fromarray(still(CANVAS, 1).frames[0])
    picture = Image.new("I;16", picture.size, 40_000) if mode == "I;16" else picture.convert(mode)
    made = pipeline("a cat", picture, generator=seeded(), **FAST)
    expected = (
        picture.convert("RGBA") if mode != "I;16" else Image.new("RGBA", picture.size, "#9c9c9c")
    )
    assert np.array_equal(made.frames[0], np.asarray(expected))


def test_pil_images_are_turned_as_their_camera_says(pipeline):
    picture = Image.fromarray(moving_disc(CANVAS, 3).frames[2])
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    made = pipeline("a cat", turned, generator=seeded(), **FAST)
    assert np.array_equal(made.frames[0], np.asarray(picture))


def test_a_clip_of_pil_images(pipeline):
    clip = moving_disc(CANVAS, 3)
    pictures = [Image.fromarray(frame) for frame in clip.frames]
    made = [
        pipeline.fill(source, [0, 2], generator=seeded(), num_inference_steps=1)
        for source in (clip, pictures)
    ]
    assert same(*made)


# ----------------------------------------------------------------------- durations, text


@pytest.mark.parametrize("duration_ms", [33.3, 1000 / 30, np.float32(12.5), np.int64(40), 100])
def test_durations_of_parts_of_milliseconds_add_up(pipeline, duration_ms):
    sticker = pipeline("a cat", num_frames=6, duration_ms=duration_ms, num_inference_steps=1)
    assert sticker.total_ms == round(6 * float(duration_ms))
    assert np.abs(sticker.durations_ms - float(duration_ms)).max() < 1


def test_durations_of_each_frame_may_be_parts_too(pipeline):
    made = pipeline.fill(
        moving_disc(CANVAS, 4), [0, 3], durations_ms=[33.3] * 4, num_inference_steps=1
    )
    assert made.durations_ms.tolist() == [33, 34, 33, 33]


def test_a_negative_prompt_is_what_guidance_leads_away_from(pipeline):
    disc = still(CANVAS, 0)
    soft = disc.replace(frames=np.minimum(disc.frames, 200))  # no pixel art

    def made(prompt: str = "a cat", **options: Any) -> Sticker:
        return pipeline(prompt, soft, generator=seeded(), **FAST, **options)

    plain = made(guidance_scale=3.0)
    away = made(guidance_scale=3.0, negative_prompt="a dog jumps")
    assert not same(plain, away)
    assert same(plain, made(guidance_scale=3.0, negative_prompt=""))
    # Away from the same text there is nothing to lead; and without guidance nobody leads.
    np.testing.assert_allclose(
        made(guidance_scale=3.0, negative_prompt="a cat").premultiplied(),
        made(guidance_scale=1.0).premultiplied(),
        atol=1.01 / 255,
    )
    assert same(made(guidance_scale=1.0), made(guidance_scale=1.0, negative_prompt="a dog"))
    # It needs no text beside it.
    assert not same(made("", guidance_scale=3.0), made("", guidance_scale=3.0, negative_prompt="x"))


def test_negative_prompts_of_a_batch(pipeline):
    options = {**FAST, "guidance_scale": 3.0}
    negatives = ["a dog", "a fish"]
    batch = pipeline(
        PROMPTS[:2],
        negative_prompt=negatives,
        num_stickers_per_prompt=2,
        generator=generators(4),
        **options,
    )
    alone = [
        pipeline(
            PROMPTS[index // 2],
            negative_prompt=negatives[index // 2],
            generator=seeded(index),
            **options,
        )
        for index in range(4)
    ]
    assert same(batch, alone)


# ----------------------------------------------------------------------------- callbacks


def test_the_callback_gets_the_tensors_that_it_asks_for(pipeline):
    told: list[tuple[int, float, list[str]]] = []

    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        assert pipe is pipeline
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
        told.append((index, float(timestep), list(tensors)))
        return tensors

    plain = pipeline("a cat", generator=seeded(), **FAST)
    heard = pipeline("a cat", generator=seeded(), callback_on_step_end=callback, **FAST)
    assert same(plain, heard) and pipeline.num_timesteps == 2
    assert [(index, names) for index, _, names in told] == [(0, ["latents"]), (1, ["latents"])]
    assert [timestep for _, timestep, _ in told] == sorted((t for _, t, _ in told), reverse=True)
    told.clear()
    options = {**FAST, "callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": []}
    pipeline("a cat", **options)
    assert [names for _, _, names in told] == [[], []]


def test_tensors_that_the_callback_returns_replace_those_of_the_pipeline(pipeline):
    def blank(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == pipe.num_timesteps - 1:
            tensors["latents"] = torch.zeros_like(tensors["latents"])
        return tensors

    made = pipeline("a cat", generator=seeded(), callback_on_step_end=blank, **FAST)
    assert len(np.unique(made.frames.reshape(-1, 4), axis=0)) == 1  # latents of zero are grey
    nothing = pipeline("a cat", generator=seeded(), callback_on_step_end=lambda *_: None, **FAST)
    assert same(nothing, pipeline("a cat", generator=seeded(), **FAST))


def test_steps_count_over_windows_and_stickers(pipeline):
    told: list[int] = []
    pipeline(
        PROMPTS[:2],
        num_frames=MAX_FRAMES + 1,
        num_inference_steps=2,
        callback_on_step_end=lambda pipe, index, timestep, tensors: told.append(index),
    )
    assert told == list(range(pipeline.num_timesteps)) and len(told) == 8


def test_the_progress_bar_is_that_of_diffusers(pipeline, capsys):
    own = StickerPipeline(**pipeline.components)
    own("a cat", **FAST)
    assert "2/2" in capsys.readouterr().err
    own.set_progress_bar_config(disable=True)
    own("a cat", **FAST)
    assert not capsys.readouterr().err


# -------------------------------------------------------------------------------- errors

CLIP = moving_disc(CANVAS, 3)
WRONG: dict[str, Any] = {
    "generator is a list of 1, for 2 stickers": lambda pipe: pipe(
        PROMPTS[:2], generator=[seeded()]
    ),
    "generator is a list of 3, for 2 stickers": lambda pipe: pipe(
        "a", num_stickers_per_prompt=2, generator=generators(3)
    ),
    "for 1 stickers": lambda pipe: pipe.interpolate(CLIP, generator=generators(2)),
    "generator must be a torch.Generator": lambda pipe: pipe("a", generator=7),
    "3 prompts and 2 images": lambda pipe: pipe(PROMPTS, stills(2)),
    "empty list": lambda pipe: pipe([]),
    "empty list of prompts or images": lambda pipe: pipe("a", []),
    "give a prompt, an image": lambda pipe: pipe(["a", ""]),
    "prompt must be text, got 5": lambda pipe: pipe(5),
    "prompt must be text, got b'a'": lambda pipe: pipe([b"a"]),
    "prompt must be text, got 1.5": lambda pipe: pipe.fill(CLIP, [0], prompt=1.5),
    "negative_prompt must be text": lambda pipe: pipe("a", negative_prompt=5),
    "negative_prompt is a list of 3": lambda pipe: pipe("a", negative_prompt=["a"] * 3),
    "num_stickers_per_prompt must be at least 1": lambda pipe: pipe("a", num_stickers_per_prompt=0),
    "num_stickers_per_prompt must be a whole": lambda pipe: pipe("a", num_stickers_per_prompt=1.5),
    "number of frames must be a whole number": lambda pipe: pipe("a", num_frames=2.5),
    "number of frames must be a whole number, got '8'": lambda pipe: pipe("a", num_frames="8"),
    "position of a given frame must be": lambda pipe: pipe("a", CLIP, image_index="first"),
    "frame duration must be a number, got 'long'": lambda pipe: pipe("a", duration_ms="long"),
    "frame duration must be a number, got nan": lambda pipe: pipe("a", duration_ms=float("nan")),
    "steps must be a whole number": lambda pipe: pipe("a", num_inference_steps=2.5),
    "steps must be a whole number, got True": lambda pipe: pipe("a", num_inference_steps=True),
    "guidance_scale must be a number": lambda pipe: pipe("a", guidance_scale="much"),
    "guidance_scale must be a number, got nan": lambda pipe: pipe("a", guidance_scale=np.nan),
    "image_guidance_scale must be": lambda pipe: pipe("a", image_guidance_scale=[1.0]),
    "eta must be at most 1": lambda pipe: pipe("a", eta=2),
    "motion_scale must be a number": lambda pipe: pipe("a", motion_scale=None),
    "callback_on_step_end must be a function": lambda pipe: pipe("a", callback_on_step_end="x"),
    "can't get 'noise'": lambda pipe: pipe("a", callback_on_step_end_tensor_inputs=["noise"]),
    "must give back latents of shape": lambda pipe: pipe(
        "a", callback_on_step_end=lambda *_: {"latents": torch.zeros(1)}, **FAST
    ),
    "must give back a dictionary": lambda pipe: pipe(
        "a", callback_on_step_end=lambda *_: 3, **FAST
    ),
    "of one size": lambda pipe: pipe.fill([still(8, 0).frames[0], still(9, 0).frames[0]], [0]),
    "must be there, and of one size": lambda pipe: pipe.fill([], [0]),
    "an image or RGBA frames": lambda pipe: pipe("a", [torch.zeros(4, 8, 8)]),
    "an image or RGBA frames are needed": lambda pipe: pipe.interpolate(None),
    "known frame must be a whole number": lambda pipe: pipe.fill(CLIP, ["first"]),
    "factor must be a whole number": lambda pipe: pipe.interpolate(CLIP, 2.5),
    "after must be a whole number": lambda pipe: pipe.predict(CLIP, after="two"),
    "a request, not": lambda pipe: pipe.complete(CLIP),
    "output size": lambda pipe: pipe("a", output_size=None, **FAST),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_told_in_one_line(pipeline, message):
    with pytest.raises(ValueError) as caught:
        WRONG[message](pipeline)
    assert isinstance(caught.value, UserError)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_argument_that_there_is_not(pipeline):
    for call in (pipeline, pipeline.interpolate):
        with pytest.raises(TypeError, match="no option 'num_images_per_prompt'"):
            call(CLIP, num_images_per_prompt=2)


def test_after_an_error_the_pipeline_works(pipeline):
    before = pipeline("a cat", generator=seeded(), **FAST)
    with pytest.raises(UserError):
        pipeline("a cat", callback_on_step_end=lambda *_: {"latents": 0}, **FAST)
    assert same(before, pipeline("a cat", generator=seeded(), **FAST))
