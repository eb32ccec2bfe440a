from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import MotionAdapter

from misaligned import misalign, misaligned
from rdtf.errors import ConfigError
from rdtf.research.adapters import load_base, small_base
from rdtf.research.adapters.common import BASE_CLASSES, spatial_blocks

from .networks import KINDS, clips, plain, published_base, tiny_base


def count(base: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in base.parameters())


@pytest.mark.parametrize(
    ("kind", "parameters"),
    # Stable Diffusion 1.5; with AnimateDiff's modules, middle block included; ModelScope t2v.
    [("image", 859_520_964), ("motion", 859_520_964 + 453_209_280), ("video", 1_411_233_860)],
)
def test_published_sizes(kind, parameters):
    base = published_base(kind)
    assert count(base) == parameters
    assert len(spatial_blocks(base)) == 16


# ------------------------------------------------------------------ small ones


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parameters", [10_000_000, 17_000_000, 28_000_000, 60_000_000])
def test_small_base_has_about_the_wanted_parameters(kind, parameters):
    with torch.device("meta"):
        base = small_base(kind, parameters, latent_channels=64, text_width=384)
    assert count(base) == pytest.approx(parameters, rel=0.12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (6, 9)])
def test_small_base_runs_on_any_grid(kind, size):
    batch = clips([[False] * 3], size=size)
    assert plain(tiny_base(kind), batch).shape == batch.noisy.shape


# ------------------------------------------------------------------ from a folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inside", ["", "unet"])
def test_saved_base_loads(tmp_path: Path, kind, inside):
    """From its own folder, or out of a pipeline's."""
    base: Any = tiny_base(kind)
    base.save_pretrained(tmp_path / inside)
    misalign(tmp_path)
    batch, loaded = clips([[False, False]]), load_base(kind, tmp_path).eval()
    assert not misaligned(loaded)
    torch.testing.assert_close(plain(loaded, batch), plain(base, batch), rtol=0, atol=0)


def test_motion_modules_join_an_image_base(tmp_path: Path):
    """As published: Stable Diffusion in one folder, AnimateDiff's modules in another."""
    image: Any = tiny_base("image")
    motion = MotionAdapter(
        block_out_channels=image.config.block_out_channels,
        motion_layers_per_block=1,
        motion_num_attention_heads=1,
        motion_norm_num_groups=8,
    )
    image.save_pretrained(tmp_path / "sd")
    motion.save_pretrained(tmp_path / "motion")
    joined: Any = load_base("motion", tmp_path / "sd", motion=tmp_path / "motion")
    assert isinstance(joined, BASE_CLASSES["motion"])
    assert joined.conv_in.weight.equal(image.conv_in.weight)
    ours = joined.down_blocks[1].motion_modules[0].proj_in.weight
    assert ours.equal(motion.down_blocks[1].motion_modules[0].proj_in.weight)


def test_pickled_weights_are_refused(tmp_path: Path):
    base: Any = tiny_base("image")
    base.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(ConfigError, match="can't be loaded"):
        load_base("image", tmp_path)


def test_what_is_no_base_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="has no config"):
        load_base("image", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet3DConditionModel"}))
    with pytest.raises(ConfigError, match="holds a UNet3DConditionModel"):
        load_base("image", tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="JSON"):
        load_base("image", tmp_path)
    for call in (
        lambda: load_base("audio", tmp_path),
        lambda: small_base("audio", 1, latent_channels=4, text_width=8),
        lambda: load_base("video", tmp_path, motion=tmp_path),
    ):
        with pytest.raises(ConfigError):
            call()


def test_truncated_weights_are_one_clear_line(tmp_path: Path):
    base: Any = tiny_base("video")
    base.save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="can't be loaded"):
        load_base("video", tmp_path)
