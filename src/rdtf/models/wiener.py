"""The best linear guess of clean latents from noisy ones (rectified flow), and its error."""

from __future__ import annotations

from torch import Tensor

from rdtf.models.motion import MOTION_STD


def input_scale(level: Tensor, like: Tensor, std: float) -> Tensor:
    """Turns noisy latents into the best linear guess of the clean ones (Wiener).

    Where there is only noise the guess is zero, so that a young network does not draw what it
    believes to see in it; and it is on the scale of the given frames, which it is compared with.

    Args:
        level: noise level, `[B]`; like: gives the type; std: of clean latents against noise.

    Returns:
        `[B, 1, 1, 1, 1]`.
    """
    t = level.float()[:, None, None, None, None]
    signal = (1 - t) * std**2
    return (signal / ((1 - t) * signal + t**2)).to(like.dtype)


def guess_error(level: Tensor) -> Tensor:
    """Spread of motion around that guess, `[B]`."""
    t = level.float()
    return MOTION_STD * t / ((1 - t) ** 2 + t**2).sqrt()
