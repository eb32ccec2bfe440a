"""Loaded weights lie like new ones, so that a loaded model computes the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file, save_file

from misaligned import misalign, misaligned
from rdtf.models.dfgn import DFGN
from rdtf.models.loading import (
    ALIGNMENT_BYTES,
    COMPACT_FILE,
    _save_compact,
    load_pretrained,
    load_tensors,
    load_weights_of,
)
from rdtf.models.representation import RGBAAutoencoder
from rdtf.models.text import TextEncoder

from .networks import random_clip, tiny_dfgn

OFFSETS = range(8, ALIGNMENT_BYTES, 8)


def test_torch_puts_new_tensors_there():
    """What everything below is compared with; torch does not say so in its documentation."""
    new = [torch.empty(size) for size in range(1, 200)]
    assert not [tensor for tensor in new if tensor.data_ptr() % ALIGNMENT_BYTES]


@pytest.mark.parametrize("offset_bytes", OFFSETS)
def test_tensors_of_any_file(tmp_path: Path, offset_bytes):
    saved = {"a": torch.randn(3), "b": torch.randn(2, 5), "c": torch.arange(4)}
    save_file(saved, tmp_path / "x.safetensors")
    misalign(tmp_path, offset_bytes)
    views = load_file(tmp_path / "x.safetensors")
    assert any(tensor.data_ptr() % ALIGNMENT_BYTES for tensor in views.values())  # by default
    loaded = load_tensors(tmp_path / "x.safetensors")
    assert not [tensor for tensor in loaded.values() if tensor.data_ptr() % ALIGNMENT_BYTES]
    assert all(loaded[name].equal(tensor) for name, tensor in saved.items())


@pytest.mark.parametrize("offset_bytes", OFFSETS)
def test_a_loaded_network_computes_the_same_bits(tmp_path: Path, offset_bytes):
    network, clip = tiny_dfgn().eval(), random_clip([True, False])
    network.save_pretrained(tmp_path)
    misalign(tmp_path, offset_bytes)
    loaded = DFGN.from_pretrained(tmp_path)
    assert not misaligned(loaded)
    assert clip.through(loaded).equal(clip.through(network))


@pytest.mark.parametrize("kind", [AutoencoderKL, RGBAAutoencoder])
def test_loaded_autoencoders(tmp_path: Path, kind):
    kind(norm_num_groups=8, block_out_channels=(16,)).save_pretrained(tmp_path)
    misalign(tmp_path)
    assert not misaligned(load_pretrained(kind, tmp_path))
    if kind is RGBAAutoencoder:  # ours does it by its own method too
        assert not misaligned(kind.from_pretrained(tmp_path))


def test_with_loading_info(tmp_path: Path):
    tiny_dfgn().save_pretrained(tmp_path)
    misalign(tmp_path)
    loaded, info = DFGN.from_pretrained(tmp_path, output_loading_info=True)
    assert not misaligned(loaded) and not info["missing_keys"]


def test_loaded_text_encoder():
    assert not misaligned(TextEncoder().parts[1])


def test_the_file_may_go(tmp_path: Path):
    """Views of a file that is written over change with it; cut off, they end the process."""
    network = tiny_dfgn()
    network.save_pretrained(tmp_path)
    loaded, file = DFGN.from_pretrained(tmp_path), next(tmp_path.glob("*.safetensors"))
    file.write_bytes(bytes(file.stat().st_size))
    weights = loaded.state_dict()
    assert all(weights[name].equal(tensor) for name, tensor in network.state_dict().items())


def test_weights_in_eight_bits_are_off_by_half_a_step(tmp_path):
    model = tiny_dfgn()
    _save_compact(model, tmp_path)
    again = type(model).from_pretrained(tmp_path)
    stored = load_weights_of(tmp_path)
    for name, tensor in model.state_dict().items():
        loaded = again.state_dict()[name]
        assert torch.equal(loaded, stored[name]) and loaded.dtype == torch.float32
        largest = tensor.flatten(1).abs().amax(1) if tensor.ndim > 1 else tensor.abs().amax()
        error = (loaded - tensor).abs()
        error = error.flatten(1).amax(1) if tensor.ndim > 1 else error.amax()
        assert (error <= largest / 250 + 1e-7).all(), name
    assert (tmp_path / COMPACT_FILE).stat().st_size < 2.1 * sum(
        tensor.numel() for tensor in model.state_dict().values()
    )
