from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from rdtf.errors import ConfigError
from rdtf.models.representation import (
    LearnedLatents,
    PixelPatches,
    RGBAAutoencoder,
    _PublicLatents,
    _weights_digest,
    _white_matte,
    as_representation,
)
from rdtf.training.config import RepresentationConfig, TrainConfig
from rdtf.training.presets import build_autoencoder

from .networks import perturb


def rgba_autoencoder(**changes: Any) -> RGBAAutoencoder:
    return RGBAAutoencoder.create(channels=(8, 8, 16, 16), latent_channels=4, **changes)


def public_autoencoder(in_channels: int = 3) -> AutoencoderKL:
    blocks: Any = (8, 16)
    return AutoencoderKL(
        in_channels=in_channels,
        out_channels=in_channels,
        down_block_types=("DownEncoderBlock2D",) * 2,  # pyright: ignore[reportArgumentType]
        up_block_types=("UpDecoderBlock2D",) * 2,  # pyright: ignore[reportArgumentType]
        block_out_channels=blocks,
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=0.5,
    )


def rebuilt(kind: str, folder: Path) -> nn.Module:
    """The autoencoder as a run with this config would load it."""
    return build_autoencoder(
        TrainConfig(representation=RepresentationConfig(kind=kind, path=str(folder)))
    )


def pixels(batch: int = 2, size: int = 32) -> Tensor:
    """Premultiplied RGBA in [-1, 1]."""
    alpha = torch.rand(batch, 1, size, size)
    return torch.cat([torch.rand(batch, 3, size, size) * alpha, alpha], dim=1) * 2 - 1


# ------------------------------------------------------------------ pixel patches


@given(patch=st.sampled_from([1, 2, 4, 8]), cells=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_patches_are_exact_both_ways(patch, cells):
    representation = PixelPatches(patch)
    original = torch.rand(2, 4, patch * cells[0], patch * cells[1])
    latents, logvar = representation.encode(original)
    assert logvar is None
    assert latents.shape == (2, representation.latent_channels, *cells)
    assert representation.downsampling == patch
    assert torch.equal(representation.decode(latents), original)


def test_patches_of_another_size_have_another_fingerprint():
    assert PixelPatches(4).fingerprint == PixelPatches(4).fingerprint
    assert PixelPatches(4).fingerprint != PixelPatches(8).fingerprint


def test_saved_patches(tmp_path):
    PixelPatches(8).save_pretrained(tmp_path)
    assert PixelPatches.from_pretrained(tmp_path).fingerprint == "pixels-8"


# ------------------------------------------------------------------ RGBA autoencoder


def test_rgba_autoencoder_is_eight_times_down():
    representation = LearnedLatents(rgba_autoencoder())
    mean, logvar = representation.encode(pixels())
    assert representation.downsampling == 8 and representation.latent_channels == 4
    assert mean.shape == (2, 4, 4, 4)
    assert logvar is not None and logvar.shape == mean.shape
    decoded = representation.decode(mean)
    assert decoded.shape == (2, 4, 32, 32) and decoded.abs().max() <= 1


def test_default_rgba_autoencoder_has_four_million_parameters():
    with torch.device("meta"):
        count = sum(p.numel() for p in RGBAAutoencoder.create().parameters())
    assert 3e6 < count < 5e6


def test_rgba_autoencoder_comes_back_from_its_folder(tmp_path):
    autoencoder = perturb(rgba_autoencoder())
    autoencoder.register_to_config(scaling_factor=0.7)
    autoencoder.save_pretrained(tmp_path)
    before = LearnedLatents(autoencoder)
    after = as_representation(rebuilt("rgba-autoencoder", tmp_path))
    assert isinstance(after, LearnedLatents) and after.scale == 0.7
    assert after.fingerprint == before.fingerprint
    image = pixels(1)
    torch.testing.assert_close(after.encode(image), before.encode(image), rtol=0, atol=0)


def test_learned_latents_are_scaled():
    autoencoder = rgba_autoencoder()
    autoencoder.register_to_config(scaling_factor=0.25)
    representation, image = LearnedLatents(autoencoder), pixels()
    mean, logvar = autoencoder.posterior(image)
    scaled_mean, scaled_logvar = representation.encode(image)
    torch.testing.assert_close(scaled_mean, mean * 0.25)
    assert scaled_logvar is not None
    torch.testing.assert_close((scaled_logvar / 2).exp(), (logvar / 2).exp() * 0.25)
    torch.testing.assert_close(
        representation.decode(scaled_mean), autoencoder.reconstruct(mean).clamp(-1, 1)
    )


def test_wrapped_autoencoder_is_frozen():
    autoencoder = rgba_autoencoder().train()
    LearnedLatents(autoencoder)
    assert not autoencoder.training
    assert not any(parameter.requires_grad for parameter in autoencoder.parameters())


# ------------------------------------------------------------------ public autoencoder


def test_public_autoencoder_comes_back_from_its_folder(tmp_path):
    autoencoder = public_autoencoder()
    autoencoder.save_pretrained(tmp_path)
    before = _PublicLatents(autoencoder)
    after = as_representation(rebuilt("public-autoencoder", tmp_path))
    assert isinstance(after, _PublicLatents)
    assert (after.downsampling, after.latent_channels, after.scale) == (2, 4, 0.5)
    assert after.fingerprint == before.fingerprint
    image = pixels()
    mean, logvar = after.encode(image)
    torch.testing.assert_close((mean, logvar), before.encode(image), rtol=0, atol=0)
    assert mean.shape == (2, 4, 16, 16)
    decoded = after.decode(mean)
    assert decoded.shape == image.shape and decoded.abs().max() <= 1


def test_public_autoencoder_sees_stickers_on_white():
    """What is transparent is white to it, whatever colour hides there."""
    representation = _PublicLatents(public_autoencoder())
    nothing = -torch.ones(1, 4, 16, 16)
    white = torch.ones(1, 4, 16, 16)
    torch.testing.assert_close(representation.encode(nothing), representation.encode(white))
    expected = representation.autoencoder.encode(torch.ones(1, 3, 16, 16)).latent_dist.mean * 0.5
    torch.testing.assert_close(representation.encode(nothing)[0], expected)


def test_public_autoencoder_must_be_rgb():
    with pytest.raises(ConfigError, match="RGB"):
        _PublicLatents(public_autoencoder(in_channels=4))


# ------------------------------------------------------------------ which one


@pytest.mark.parametrize("kind", ["rgba-autoencoder", "public-autoencoder"])
def test_learned_representation_needs_its_folder(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"--representation\.path FOLDER"):
        rebuilt(kind, tmp_path)


def test_unknown_representation(tmp_path):
    with pytest.raises(ConfigError, match=r"'voxels'; choose from .*rgba-autoencoder"):
        rebuilt("voxels", tmp_path)
    with pytest.raises(ConfigError, match="Linear"):
        as_representation(nn.Linear(1, 1))


def test_digest_follows_the_weights():
    torch.manual_seed(0)
    autoencoder = rgba_autoencoder()
    digest = _weights_digest(autoencoder)
    assert _weights_digest(autoencoder) == digest
    with torch.no_grad():
        next(autoencoder.parameters()).view(-1)[0] += 1e-6
    assert _weights_digest(autoencoder) != digest


def test_digest_knows_names_and_shapes():
    def digest(**tensors: Tensor) -> str:
        module = nn.Module()
        for name, tensor in tensors.items():
            module.register_buffer(name, tensor)
        return _weights_digest(module)

    zeros = torch.zeros(2, 3)
    assert digest(a=zeros) == digest(a=zeros.clone())
    different = [digest(a=zeros), digest(b=zeros), digest(a=zeros.T), digest(a=zeros.int())]
    assert len(set(different)) == 4
    assert digest(a=torch.tensor(1.0)) != digest(a=torch.tensor(2.0))


# ------------------------------------------------------------------ the matte

RED, BLACK = (0.9, 0.1, 0.1), (0.0, 0.0, 0.0)


def radius(size: int = 48) -> Tensor:
    """Distance of every pixel from the centre, `[S, S]`."""
    axis = torch.arange(size) - (size - 1) / 2
    return torch.hypot(axis[:, None], axis[None, :])


def painted(*layers: tuple[Tensor, tuple[float, float, float]]) -> Tensor:
    """Masks painted with colours on white, one over the other: `[1, 3, S, S]`."""
    image = torch.ones(3, *layers[0][0].shape)
    for mask, color in layers:
        image = torch.where(mask, torch.tensor(color)[:, None, None], image)
    return image[None]


def test_white_inside_a_shape_stays_opaque():
    """White eyes in a red face on white paper."""
    r = radius()
    disc, eye = r < 18, torch.roll(r, (-4, 6), (0, 1)) < 4
    rgba = _white_matte(painted((disc, RED), (eye, (1.0, 1.0, 1.0))))[0]
    assert (rgba[3][disc] > 0.999).all()
    assert (rgba[3][r > 21] < 0.001).all()
    torch.testing.assert_close(rgba[:3, eye], torch.ones(3, int(eye.sum())))
    assert (rgba[:3] <= rgba[3:] + 1e-6).all()


@pytest.mark.parametrize("width", [1.0, 2.0, 4.0])
def test_white_shape_with_an_outline_stays_opaque(width):
    """However thin the line that parts it from the paper."""
    r = radius()
    outline = (r - 16).abs() <= width / 2
    rgba = _white_matte(painted((outline, BLACK)))[0]
    assert (rgba[3][r < 16] > 0.999).all()
    assert (rgba[3][r > 16 + width] < 0.001).all()


def test_matte_on_white_gives_the_picture_back():
    """Soft edges too, where the matte can only guess between the least alpha and opaque."""
    alpha = (18.5 - radius()).clamp(0, 1)
    original = torch.tensor(RED)[:, None, None] * alpha + (1 - alpha)
    rgba = _white_matte(original[None])[0]
    on_white = rgba[:3] + 1 - rgba[3]
    torch.testing.assert_close(on_white, original, rtol=0, atol=0.05)
    assert ((rgba[3] - alpha).abs() < 0.5).all()


@pytest.mark.parametrize(("color", "alpha"), [((1.0, 1.0, 1.0), 0.0), (RED, 1.0)])
def test_matte_of_one_colour(color, alpha):
    everywhere = torch.ones(16, 16, dtype=torch.bool)
    rgba = _white_matte(painted((everywhere, color)))
    torch.testing.assert_close(rgba[0, 3], torch.full((16, 16), alpha))
