"""Half precision and offload: what diffusers' switches promise, on the processor at hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from fixtures_runs import CANVAS, tiny_config
from fixtures_service import moving_disc
from models.networks import perturb
from rdtf.models.representation import RGBAAutoencoder, as_representation
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.stickers import Sticker
from rdtf.training.device import resolve_precision
from rdtf.training.presets import build_denoiser, build_scheduler

HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(scope="module")
def saved(pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("precision") / "pipeline"
    pipeline.save_pretrained(folder)
    return folder


def half(folder: Path, dtype: torch.dtype) -> StickerPipeline:
    return StickerPipeline.from_pretrained(folder, torch_dtype=dtype)


def filled(pipe: StickerPipeline, size: int = CANVAS, **options: Any) -> Sticker:
    generator = torch.Generator().manual_seed(0)
    clip = moving_disc(size, 4)
    return pipe.fill(
        clip, [0, 3], prompt="a cat", generator=generator, num_inference_steps=2, **options
    )


# ---------------------------------------------------------------------- half precision


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_pipeline_of_half_precision_makes_nearly_the_same(pipeline, saved, dtype):
    pipe = half(saved, dtype)
    assert {weight.dtype for weight in pipe.denoiser.parameters()} == {dtype}
    whole, made = filled(pipeline), filled(pipe)
    assert np.array_equal(made.frames[[0, 3]], whole.frames[[0, 3]])
    assert np.abs(made.premultiplied() - whole.premultiplied()).mean() < 0.01


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_half_precision_above_the_canvas_and_with_both_guidances(saved, dtype):
    made = filled(
        half(saved, dtype),
        2 * CANVAS,
        output_size="input",
        guidance_scale=2.0,
        image_guidance_scale=2.0,
        negative_prompt="a dog",
    )
    clip = moving_disc(2 * CANVAS, 4)
    assert made.frames.shape == clip.frames.shape
    assert np.array_equal(made.frames[[0, 3]], clip.frames[[0, 3]])


def learned(kind: str) -> nn.Module:
    """A small autoencoder, 8× down: RGBA of this program, or a public one."""
    torch.manual_seed(0)
    if kind == "rgba":
        return RGBAAutoencoder.create(channels=(8, 8, 8, 8), latent_channels=4)
    down: Any = ("DownEncoderBlock2D",) * 4
    up: Any = ("UpDecoderBlock2D",) * 4
    channels: Any = (8, 8, 8, 8)
    return AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=channels, norm_num_groups=4
    )


@pytest.mark.parametrize("kind", ["rgba", "public"])
def test_half_precision_with_a_learned_representation(pipeline, kind):
    autoencoder = learned(kind)
    representation = as_representation(autoencoder)
    config = tiny_config(model__compose=False, model__motion="none")
    denoiser = build_denoiser(
        config,
        latent_channels=representation.latent_channels,
        downsampling=representation.downsampling,
        text_widths=pipeline.text_encoders.widths,
    )
    perturb(denoiser, std=0.05).eval()
    pipe = StickerPipeline(denoiser, autoencoder, pipeline.text_encoders, build_scheduler(config))
    whole = filled(pipe)
    for part in (denoiser, autoencoder):
        part.to(torch.bfloat16)
    made = filled(pipe)
    assert np.array_equal(made.frames[[0, 3]], whole.frames[[0, 3]])
    assert np.abs(made.premultiplied() - whole.premultiplied()).mean() < 0.05


@pytest.mark.parametrize(("major", "precision"), [(7, "fp32"), (8, "bf16"), (9, "bf16")])
def test_bf16_only_where_the_gpu_multiplies_it(monkeypatch, major, precision):
    """Older GPUs emulate it; torch calls that supported, too."""
    properties = type("Properties", (), {"major": major})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert resolve_precision("auto", torch.device("cuda")) == precision


# -------------------------------------------------------------------------------- offload


class Counted(ModelHook):
    """Notes how often a component is about to be used, as an offload hook hears of it."""

    def __init__(self, name: str, used: Counter[str]) -> None:
        self.name, self.used = name, used

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        self.used[self.name] += 1
        return args, kwargs


def test_every_use_of_a_component_goes_through_its_hook(saved):
    """What is called beside `forward` would meet weights that are still on the host."""
    pipe, used = StickerPipeline.from_pretrained(saved), Counter()
    for name in ("text_encoders", "denoiser", "autoencoder"):
        add_hook_to_module(pipe.components[name], Counted(name, used))
    filled(pipe, 2 * CANVAS, output_size="input", guidance_scale=1.0)
    # One text; two steps and one composition above the canvas; in and out again.
    assert used == {"text_encoders": 1, "denoiser": 3, "autoencoder": 2}


def test_model_offload_makes_the_same(pipeline, saved):
    """On a processor nothing moves, but the hooks, their order and the device are the same."""
    pipe = StickerPipeline.from_pretrained(saved)
    pipe.enable_model_cpu_offload(device="cpu")
    for _ in range(2):
        assert np.array_equal(filled(pipe).frames, filled(pipeline).frames)


def test_text_encoders_move_with_the_component(saved):
    """Their weights are not saved with it, but lie where it lies, in their own precision."""
    encoders = StickerPipeline.from_pretrained(saved, torch_dtype=torch.bfloat16).text_encoders
    encoders.encode(["a cat"])
    encoders.to("meta")
    (loaded,) = encoders.encoders
    weights = list(loaded.parts[1].parameters())
    assert {(str(weight.device), weight.dtype) for weight in weights} == {("meta", torch.float32)}
