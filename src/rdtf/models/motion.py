"""Motion latents beside the pixels, for extrapolated frames (beyond the paper).

Between two given frames plain matching finds what moved. Beyond them nothing does: there motion
has to be drawn by chance, and in pixels that is hard to learn, because a small network sees a
picture in the noise long before it sees a movement. So each extrapolated frame carries two
more channels, where its pixels come from in the nearest given frame. They are noised, predicted and
sampled like all latents, are few and smooth, and the warp decoder moves the given pixels by them.

Units are logarithmic: of a point that moved by d pixels of a canvas of 128, along each axis,

    motion = 2 · sign(d) · log(1 + |d|)

so that clips that creep and clips that leap lie on one scale.

Motion of stickers is smooth: nearly all of it is whole things that shift, turn and grow. Its noise
is as smooth (`shape_noise`), so that a network that has learned nothing draws motion of the right
size that sways softly, and noise hides coarse and fine motion alike at the same noise level.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.method.dual_mask import extrapolated_frames, reference_frames
from rdtf.models.matching import EXACT, match
from rdtf.models.motion_latents import cosines

MOTION_CHANNELS = 2
# Over real stickers, on any grid and for clips of 8 frames (docs/LOG.md): spread of motion in its
# own units, frequency (half waves per canvas) where its spectrum bends, likeness of neighbours.
MOTION_STD = 2.4
_BEND, _LIKENESS = 1.3, 0.65
_GAIN = 2.0
_UNIT = 1 / 64  # of half the canvas: a pixel of 128
_LARGEST = 10.0  # about a whole canvas of 128
_FINEST_SIDE = 64  # cells of the matching


def motion_of_flow(flow: Tensor) -> Tensor:
    """Flow in normalised coordinates → motion, any shape."""
    return flow.sign() * (flow.abs() / _UNIT).log1p() * _GAIN


def flow_of_motion(motion: Tensor) -> Tensor:
    """Motion → flow in normalised coordinates, any shape."""
    size = (motion.abs() / _GAIN).clamp(max=_LARGEST / _GAIN)
    return motion.sign() * size.expm1() * _UNIT


def shape_noise(noise: Tensor, given: Tensor) -> Tensor:
    """White noise → noise with the spectrum of motion.

    Args:
        noise: standard normal, `[B, 2, F, h, w]`.
        given: bool `[B, F]`.

    Returns:
        Same shape, of spread `MOTION_STD` in the mean. Outwards from the given frames each frame's
        noise resembles the one before it; in frames that motion says nothing of it is anything.
    """
    height, width = noise.shape[-2:]
    rows, columns = cosines(height).to(noise), cosines(width).to(noise)
    smooth = rows.T @ (_spectrum(height, width).to(noise) * noise) @ columns
    after = (given.cumsum(dim=1) > 0)[:, None, :, None, None]
    back = _follow(smooth.flip(2), given.flip(1)).flip(2)
    return torch.where(after, _follow(smooth, given), back)


def _follow(noise: Tensor, given: Tensor) -> Tensor:
    """Each frame resembles the one before, unless that is given: `[B, 2, F, h, w]`.

    The variance stays.
    """
    likeness = torch.where(given, 0.0, _LIKENESS)[:, None, :, None, None]
    frames = list(noise.unbind(2))
    for index in range(1, len(frames)):
        like = likeness[:, :, index - 1]
        frames[index] = like * frames[index - 1] + (1 - like**2).sqrt() * frames[index]
    return torch.stack(frames, dim=2)


@functools.cache
def _spectrum(height: int, width: int) -> Tensor:
    """Spread of each cosine's share, `[height, width]`."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    spread = 1 / (1 + (rows**2 + columns**2) / _BEND**2)
    return spread * MOTION_STD / spread.square().mean().sqrt()


@torch.no_grad()
def clip_motion(clean: Tensor, given: Tensor, valid: Tensor, patch: int) -> Tensor:
    """Motion latents of whole clips: true motion of extrapolated frames, elsewhere zero.

    Args:
        clean: latents `[B, C, F, h, w]`, pixels folded by `patch` (1 = learned latents).
        given, valid: bool `[B, F]`.

    Returns:
        `[B, 2, F, h, w]`, float32.
    """
    size = (clean.shape[3], clean.shape[4])
    moves = (extrapolated_frames(given) & valid).flatten()
    motion = clean.new_zeros(len(moves), MOTION_CHANNELS, *size, dtype=torch.float32)
    # On a GPU to ask which frames these are would make the host wait: there all are matched.
    rows = moves.nonzero()[:, 0] if moves.device.type == "cpu" else slice(None)
    if moves.device.type != "cpu" or bool(moves.any()):
        nearest = reference_frames(given)[0][..., 0]
        batch = torch.arange(len(clean), device=clean.device)[:, None]
        frames = clean.transpose(1, 2)
        seen, before = frames.flatten(0, 1)[rows], frames[batch, nearest].flatten(0, 1)[rows]
        unfolded = (F.pixel_shuffle(latents.float(), patch) for latents in (seen, before))
        motion[rows] = true_motion(*unfolded, size=size)
    motion = torch.where(moves[:, None, None, None], motion, 0.0)
    return motion.unflatten(0, given.shape).transpose(1, 2)


@torch.no_grad()
def true_motion(frames: Tensor, references: Tensor, size: tuple[int, int]) -> Tensor:
    """Motion of known frames, found by matching: what training predicts.

    Args:
        frames: pixels `[N, c, H, W]` in [-1, 1].
        references: the given frame nearest to each, same shape.
        size: the latents' grid (h, w).

    Returns:
        `[N, 2, h, w]` (x, y): where to look in the reference.
    """
    offsets = frames.new_tensor([[0.0, 1.0]]).expand(len(frames), 2)
    found, _ = match(torch.stack([frames, references], dim=1), offsets, _FINEST_SIDE, EXACT)
    return motion_of_flow(F.adaptive_avg_pool2d(found[:, 1], size))
