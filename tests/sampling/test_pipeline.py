from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import (
    FlowMatchEulerDiscreteScheduler,
)
from diffusers.schedulers.scheduling_flow_match_heun_discrete import (
    FlowMatchHeunDiscreteScheduler,
)
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_runs import CANVAS, MAX_FRAMES, tiny_config
from misaligned import misalign, misaligned
from models.networks import perturb
from rdtf.errors import CheckpointError, ConfigError, UserError
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.stickers import Sticker
from rdtf.training.presets import build_models, build_scheduler
from rdtf.training.run import load_pipeline


def clip(num_frames: int = 4, size: int = CANVAS, **fields: Any) -> Sticker:
    """A soft disc that moves and changes its colour; no two frames are alike."""
    rows, columns = np.indices((size, size))
    frames = np.zeros((num_frames, size, size, 4), np.uint8)
    for index, frame in enumerate(frames):
        distance = np.hypot(rows - size / 2, columns - size / 4 - index)
        frame[..., :3] = (200, (40 * index) % 256, 30)
        frame[..., 3] = np.clip((size / 4 - distance) * 100 + 128, 0, 255)
    frames[frames[..., 3] == 0] = 0
    return Sticker(frames, np.arange(num_frames) * 10 + 60, **fields)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(first: Sticker, second: Sticker) -> bool:
    return np.array_equal(first.frames, second.frames) and np.array_equal(
        first.durations_ms, second.durations_ms
    )


FAST = {"num_inference_steps": 2}

# ------------------------------------------------------------------- given frames stay


@settings(max_examples=25)
@given(st.integers(1, 9), st.data())
def test_filling_keeps_the_given_frames(pipeline, num_frames, data):
    known = sorted(data.draw(st.sets(st.integers(0, num_frames - 1), min_size=1)))
    sticker = clip(num_frames)
    result = pipeline.fill(sticker, known, generator=seeded(), **FAST)
    assert np.array_equal(result.frames[known], sticker.frames[known])
    assert result.durations_ms.tolist() == sticker.durations_ms.tolist()
    hidden = sorted(set(range(num_frames)) - set(known))
    assert all(not np.array_equal(result.frames[i], sticker.frames[i]) for i in hidden)


@settings(max_examples=10)
@given(st.integers(2, 5), st.integers(2, 4))
def test_interpolation_keeps_frames_and_time(pipeline, num_frames, factor):
    sticker = clip(num_frames)
    result = pipeline.interpolate(sticker, factor, generator=seeded(), **FAST)
    assert result.num_frames == (num_frames - 1) * factor + 1
    assert np.array_equal(result.frames[::factor], sticker.frames)
    assert result.total_ms == sticker.total_ms


@settings(max_examples=10)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 5))
def test_prediction_keeps_the_clip(pipeline, num_frames, before, after):
    if before + after == 0:
        return
    sticker = clip(num_frames)
    result = pipeline.predict(sticker, after, before, generator=seeded(), **FAST)
    assert result.num_frames == before + num_frames + after
    inner = slice(before, before + num_frames)
    assert np.array_equal(result.frames[inner], sticker.frames)
    assert result.durations_ms[inner].tolist() == sticker.durations_ms.tolist()


@settings(max_examples=10)
@given(st.integers(1, 7), st.data())
def test_generation_keeps_the_still(pipeline, num_frames, data):
    index = data.draw(st.integers(0, num_frames - 1))
    still = clip(1)
    result = pipeline(
        "a cat", still, num_frames=num_frames, image_index=index, generator=seeded(), **FAST
    )
    assert result.num_frames == num_frames
    assert np.array_equal(result.frames[index], still.frames[0])


def test_transparent_colours_of_given_frames_stay_too(pipeline):
    sticker = clip(3)
    sticker.frames[..., :3] = np.random.default_rng(0).integers(0, 256, (3, CANVAS, CANVAS, 3))
    result = pipeline.fill(sticker, [0, 2], generator=seeded(), **FAST)
    assert np.array_equal(result.frames[[0, 2]], sticker.frames[[0, 2]])


@pytest.mark.parametrize("size", [(20, 50), (64, 64), (7, 7)])
def test_other_sizes_are_fitted_to_the_canvas_or_kept(pipeline, size):
    sticker = clip(3, 64).fit_canvas(size)
    fitted = pipeline.fill(sticker, [0, 2], generator=seeded(), output_size="canvas", **FAST)
    expected = sticker.fit_canvas(pipeline.canvas)
    assert fitted.frames.shape == (3, CANVAS, CANVAS, 4)
    assert np.array_equal(fitted.frames[[0, 2]], expected.frames[[0, 2]])
    kept = pipeline.fill(sticker, [0, 2], generator=seeded(), **FAST)
    assert kept.frames.shape == (3, *size, 4)
    assert np.array_equal(kept.frames[[0, 2]], sticker.frames[[0, 2]])


# ------------------------------------------------------------------------------ lengths


def test_what_the_model_says_of_itself(pipeline):
    assert (pipeline.canvas, pipeline.max_frames) == (CANVAS, MAX_FRAMES)


@pytest.mark.parametrize("num_frames", [1, 2, MAX_FRAMES, MAX_FRAMES + 1, 3 * MAX_FRAMES + 2])
def test_any_length(pipeline, num_frames):
    result = pipeline("a cat", num_frames=num_frames, generator=seeded(), **FAST)
    assert result.frames.shape == (num_frames, CANVAS, CANVAS, 4)
    assert result.durations_ms.tolist() == [100] * num_frames
    assert len({frame.tobytes() for frame in result.frames}) == num_frames


def test_a_long_clip_continues_what_its_first_window_made(pipeline):
    """The first frames of a long clip are those of a clip of one window, with the same noise."""
    short = pipeline("a cat", num_frames=MAX_FRAMES, generator=seeded(), **FAST)
    long = pipeline("a cat", num_frames=3 * MAX_FRAMES, generator=seeded(), **FAST)
    assert np.array_equal(long.frames[:MAX_FRAMES], short.frames)


def test_nothing_to_make_makes_nothing(pipeline):
    calls = []
    sticker = clip(3)
    result = pipeline.fill(
        sticker, [0, 1, 2], callback_on_step_end=lambda *told: calls.append(told), **FAST
    )
    assert same(result, sticker) and not calls


def test_the_default_length_is_that_of_the_model(pipeline):
    assert pipeline("a cat", **FAST).num_frames == MAX_FRAMES


# --------------------------------------------------------------------------- randomness


def test_the_generator_settles_the_result(pipeline):
    first, again, other = (
        pipeline("a cat", clip(1), generator=seeded(seed), **FAST) for seed in (3, 3, 4)
    )
    assert same(first, again) and not same(first, other)


def test_several_stickers_for_one_prompt(pipeline):
    both = pipeline("a cat", num_stickers_per_prompt=2, generator=seeded(), **FAST)
    assert isinstance(both, list) and len(both) == 2 and not same(*both)
    each = pipeline("a cat", num_stickers_per_prompt=2, generator=[seeded(5), seeded(6)], **FAST)
    alone = [pipeline("a cat", generator=seeded(seed), **FAST) for seed in (5, 6)]
    assert all(same(a, b) for a, b in zip(each, alone, strict=True))


def test_asking_leaves_the_inputs_as_they_are(pipeline):
    sticker = clip(4, captions=("a disc",))
    frames, state = sticker.frames.copy(), torch.get_rng_state()
    pipeline.fill(sticker, [0], generator=seeded(), **FAST)
    assert np.array_equal(sticker.frames, frames)
    assert torch.equal(torch.get_rng_state(), state)


# ------------------------------------------------------------------------ text and image


def test_text_guidance_and_steps_matter(pipeline):
    def made(prompt: str, **options: Any) -> Sticker:
        return pipeline(prompt, clip(1), generator=seeded(), **{**FAST, **options})

    base = made("a cat")
    for other in (
        made("a green fish swims"),
        made("a cat", guidance_scale=1.0),
        made("a cat", image_guidance_scale=2.0),
        made("a cat", num_inference_steps=3),
    ):
        assert not same(base, other)


def test_no_prompt_and_an_empty_prompt(pipeline):
    nothing, empty, blank = (
        pipeline(prompt, clip(1), generator=seeded(), **FAST) for prompt in (None, "", "  ")
    )
    assert same(nothing, empty) and same(empty, blank)
    assert nothing.captions == ()


def test_the_captions_of_a_clip_are_its_prompt_unless_one_is_given(pipeline):
    sticker = clip(4, captions=("a red disc rolls", "a ball"))
    own = pipeline.fill(sticker, [0], generator=seeded(), guidance_scale=3.0, **FAST)
    said = pipeline.fill(
        clip(4), [0], prompt="a red disc rolls", generator=seeded(), guidance_scale=3.0, **FAST
    )
    without = pipeline.fill(sticker, [0], prompt="", generator=seeded(), guidance_scale=3.0, **FAST)
    assert same(own, said) and own.captions == ("a red disc rolls",)
    assert not same(own, without) and without.captions == ()


def test_the_ways_to_give_an_image(pipeline, tmp_path):
    still = clip(1)
    path = still.save(tmp_path / "still.png")
    results = [
        pipeline("a cat", image, num_frames=3, generator=seeded(), **FAST)
        for image in (still, path, str(path), still.frames[0], still.frames, clip(5).select([0]))
    ]
    assert all(same(result, results[0]) for result in results)


def test_the_ways_to_give_a_clip(pipeline, tmp_path):
    sticker = clip(3).with_durations(100)
    path = sticker.save(tmp_path / "clip.webp")
    results = [
        pipeline.fill(source, [0, 2], generator=seeded(), **FAST)
        for source in (sticker, path, str(path), sticker.frames, list(sticker.frames))
    ]
    assert all(same(result, results[0]) for result in results)


def test_key_frames_alone_are_placed(pipeline):
    keys = clip(3).with_durations(80)
    result = pipeline.fill(keys, [0, 3, 5], num_frames=7, generator=seeded(), **FAST)
    assert result.num_frames == 7 and result.durations_ms.tolist() == [80] * 7
    assert np.array_equal(result.frames[[0, 3, 5]], keys.frames)


def test_the_callback_sees_every_step(pipeline):
    seen: list[tuple[int, float, tuple[int, ...]]] = []

    def callback(pipe, index, timestep, tensors):
        seen.append((index, float(timestep), tuple(tensors["latents"].shape)))

    pipeline("a cat", num_frames=3, num_inference_steps=4, callback_on_step_end=callback)
    assert [index for index, _, _ in seen] == [0, 1, 2, 3]
    timesteps = [timestep for _, timestep, _ in seen]
    assert timesteps[0] == 1000 and timesteps == sorted(timesteps, reverse=True)
    assert {shape for _, _, shape in seen} == {(1, 64 + 2, 3, 8, 8)}  # and motion


# --------------------------------------------------------------------- saved and loaded


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


def make(pipeline: StickerPipeline) -> Sticker:
    sticker = pipeline("a cat", clip(1), generator=seeded(), **FAST)
    assert isinstance(sticker, Sticker)
    return sticker


def test_a_saved_pipeline_makes_the_same(pipeline, saved):
    assert same(make(StickerPipeline.from_pretrained(saved)), make(pipeline))
    assert same(make(load_pipeline(saved)), make(pipeline))


def test_loaded_weights_lie_like_new_ones(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    misalign(tmp_path)
    loaded = StickerPipeline.from_pretrained(tmp_path)
    modules = [part for part in loaded.components.values() if isinstance(part, torch.nn.Module)]
    assert len(modules) == 3 and not [name for part in modules for name in misaligned(part)]


def test_the_run_and_its_pipeline_folder_are_the_same_model(tiny_run, pipeline):
    assert same(make(load_pipeline(tiny_run / "pipeline")), make(pipeline))


def test_saved_files_are_data_only(saved):
    suffixes = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "denoiser/config.json",
        "denoiser/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
    ],
)
@pytest.mark.parametrize("how", ["missing", "cut off"])
def test_a_damaged_pipeline_is_one_clear_error(saved, tmp_path, name, how):
    folder = tmp_path / "pipeline"
    shutil.copytree(saved, folder)
    if how == "missing":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:20])
    with pytest.raises(CheckpointError, match=str(folder)) as caught:
        load_pipeline(folder)
    assert "\n" not in str(caught.value)


def test_models_that_are_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load_pipeline(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="neither a run directory nor a saved pipeline"):
        load_pipeline(tmp_path)
    with pytest.raises(UserError):
        StickerPipeline.from_pretrained(tmp_path)


# --------------------------------------------------------------------------- schedulers


def flow_scheduler(kind: Any, **options: Any) -> Any:
    return kind.from_config(FlowMatchEulerDiscreteScheduler().config, **options)


MULTISTEP_FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
SCHEDULERS = {
    "heun": lambda: flow_scheduler(FlowMatchHeunDiscreteScheduler),
    "shifted": lambda: flow_scheduler(FlowMatchEulerDiscreteScheduler, shift=2.0),
    "stochastic": lambda: flow_scheduler(FlowMatchEulerDiscreteScheduler, stochastic_sampling=True),
    "dpm": lambda: flow_scheduler(DPMSolverMultistepScheduler, **MULTISTEP_FLOW),
    "unipc": lambda: flow_scheduler(UniPCMultistepScheduler, **MULTISTEP_FLOW),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_schedulers_can_be_exchanged(tiny_run, name):
    pipeline = load_pipeline(tiny_run)
    euler = make_clip(pipeline, 8)
    pipeline.scheduler = SCHEDULERS[name]()
    result, again = make_clip(pipeline, 8), make_clip(pipeline, 8)
    assert same(result, again) and not same(result, euler)
    assert np.array_equal(result.frames[0], clip(1).frames[0])
    # They solve the same equation, so they arrive near each other; another objective would not.
    # Not quite as near as pixels alone would: few steps lose some of the motion, each its own part.
    difference = result.premultiplied()[1:] - euler.premultiplied()[1:]
    assert np.abs(difference).mean() < 0.12


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (DDIMScheduler, {}, "trained on a rectified flow"),
        (DPMSolverMultistepScheduler, {}, "trained on a rectified flow"),
        (DPMSolverMultistepScheduler, {"prediction_type": "epsilon"}, "a rectified flow"),
    ],
)
def test_a_scheduler_of_another_process_is_refused(saved, kind, options, message):
    pipeline = StickerPipeline.from_pretrained(saved)
    pipeline.scheduler = flow_scheduler(kind, **options)
    with pytest.raises(ConfigError, match=message) as caught:
        make(pipeline)
    assert "\n" not in str(caught.value)


def test_a_scheduler_of_another_prediction_is_refused(ddpm_pipeline):
    pipeline = ddpm_pipeline("eps")
    for kind in (DDIMScheduler, EulerDiscreteScheduler):  # their own schedule is another
        pipeline.scheduler = kind()
        with pytest.raises(ConfigError, match="from_config"):
            make(pipeline)


def test_a_composing_model_of_the_papers_process_is_refused(pipeline):
    """Its composer weighs noisy frames by the levels of a flow."""
    scheduler = build_scheduler(
        tiny_config(objective__kind="ddpm", objective__prediction="eps", model__compose=False)
    )
    parts = {**pipeline.components, "scheduler": scheduler}
    with pytest.raises(ConfigError, match="rectified flow"):
        StickerPipeline(**parts)
    with pytest.raises(ConfigError, match="needs objective"):
        tiny_config(objective__kind="ddpm")


def make_clip(pipeline: StickerPipeline, steps: int) -> Sticker:
    result = pipeline("a cat", clip(1), generator=seeded(), num_inference_steps=steps)
    assert isinstance(result, Sticker)
    return result


@pytest.fixture(scope="module")
def ddpm_pipeline(pipeline) -> Callable[[str], StickerPipeline]:
    """A tiny model of the paper's process, as it comes out of a run that has learned nothing."""

    def build(prediction: str) -> StickerPipeline:
        config = tiny_config(
            objective__kind="ddpm", objective__prediction=prediction, model__compose=False
        )
        torch.manual_seed(0)
        denoiser, autoencoder, text_encoders = build_models(config)
        perturb(denoiser, std=0.05).eval()
        return StickerPipeline(denoiser, autoencoder, text_encoders, build_scheduler(config))

    return build


@pytest.mark.parametrize("prediction", ["eps", "v", "x"])
def test_the_schedule_of_the_paper(ddpm_pipeline, prediction):
    pipeline = ddpm_pipeline(prediction)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    for kind in (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler):
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
        result = pipeline.fill(clip(4), [0, 3], generator=seeded(), num_inference_steps=3)
        assert np.array_equal(result.frames[[0, 3]], clip(4).frames[[0, 3]])


# ------------------------------------------------------------------------------- errors

_STEPLESS: dict[str, Any] = {"num_inference_steps": 0}
MISTAKES = {
    "nothing to start from": lambda pipe: pipe(),
    "give a prompt": lambda pipe: pipe("  "),
    "steps must be at least 1": lambda pipe: pipe("a cat", **_STEPLESS),
    "steps must be at least": lambda pipe: pipe.fill(clip(), [0], **_STEPLESS),
    "at least 1 frame": lambda pipe: pipe("a cat", num_frames=0, **FAST),
    "-3 were asked for": lambda pipe: pipe("a cat", num_frames=-3, **FAST),
    "at least 1 ms": lambda pipe: pipe("a cat", duration_ms=0, **FAST),
    "0…2": lambda pipe: pipe("a cat", clip(1), num_frames=3, image_index=3, **FAST),
    "does not exist": lambda pipe: pipe("a cat", "no/such/file.png", **FAST),
    "a sticker, a file, an image or RGBA": lambda pipe: pipe("a cat", 17, **FAST),
    "uint8": lambda pipe: pipe("a cat", np.zeros((8, 8, 4)), **FAST),
    "must be [F, H, W, 4]": lambda pipe: pipe("a cat", np.zeros((8, 8, 3), np.uint8), **FAST),
    "factor must be 2 or more": lambda pipe: pipe.interpolate(clip(), 1, **FAST),
    "2 frames or more": lambda pipe: pipe.interpolate(clip(1), 2, **FAST),
    "frame 4 can't be given": lambda pipe: pipe.fill(clip(), [0, 4], **FAST),
    "frame -1 can't be given": lambda pipe: pipe.fill(clip(), [-1], **FAST),
    "ascending and distinct": lambda pipe: pipe.fill(clip(), [2, 1], **FAST),
    "at least one index": lambda pipe: pipe.fill(clip(), [], **FAST),
    "how many frames to predict": lambda pipe: pipe.predict(clip(), **FAST),
    "before it: at least 1": lambda pipe: pipe.predict(clip(), after=-1, **FAST),
    "output size": lambda pipe: pipe.fill(clip(), [0], output_size="huge", **FAST),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_mistakes_are_told_in_one_line(pipeline, message):
    with pytest.raises(UserError) as caught:
        MISTAKES[message](pipeline)
    assert message in str(caught.value) and "\n" not in str(caught.value)
