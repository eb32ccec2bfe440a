"""Between a clip's frames and what is sampled: latents of given frames, start noise, and back."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from rdtf.models.motion import shape_noise
from rdtf.models.representation import Representation
from rdtf.stickers import Sticker


def clean_latents(
    representation: Representation,
    frames: np.ndarray,
    known: np.ndarray,
    motion_channels: int,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Latents of the known frames of a window, batch of one.

    Args:
        frames: straight RGBA uint8 `[F, S, S, 4]` at the model's canvas; known: bool `[F]`.
        motion_channels: of motion latents behind those of the pixels; zero in given frames.

    Returns:
        (latents float32 `[1, C, F, h, w]`, zero where not known; condition mask bool `[1, F]`).
    """
    sticker = Sticker(frames, np.ones(len(frames), dtype=np.int64))
    pixels = torch.from_numpy(sticker.premultiplied() * 2 - 1).permute(0, 3, 1, 2)
    encoded, _ = representation.encode(pixels.to(device))
    clean = F.pad(encoded.transpose(0, 1)[None].float(), [0] * 6 + [0, motion_channels])
    given = torch.from_numpy(known)[None].to(device)
    return torch.where(given[:, None, :, None, None], clean, 0.0), given


def start_noise(
    like: Tensor, given: Tensor, motion_channels: int, generator: torch.Generator | None
) -> Tensor:
    """Noise of the shape and device of `like`; that of motion latents is smooth.

    It is drawn where the generator lives, so that a CPU generator gives the same on every device.
    """
    source = torch.device("cpu") if generator is None else generator.device
    noise = torch.randn(like.shape, generator=generator, device=source).to(like.device)
    if motion_channels == 0:
        return noise
    pixels, motion = noise.split([noise.shape[1] - motion_channels, motion_channels], dim=1)
    return torch.cat([pixels, shape_noise(motion, given)], dim=1)


def to_frames(pixels: Tensor) -> np.ndarray:
    """Premultiplied pixels in [-1, 1], `[F, 4, H, W]` → straight RGBA uint8 `[F, H, W, 4]`."""
    pixels = (pixels.float().clamp(-1, 1) + 1) / 2
    array = pixels.permute(0, 2, 3, 1).cpu().numpy()
    return Sticker.from_premultiplied(array, np.ones(len(array), dtype=np.int64)).frames
