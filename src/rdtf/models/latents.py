"""The space that a denoiser works in: latents of the pixels and, behind them, of motion.

Motion (not in the paper): between two given frames plain matching finds what moved. For
extrapolated frames motion has to be drawn by chance, and in pixels that is hard to learn, because a
small network sees a picture in the noise long before it sees a movement. So each of them carries
two more channels, where its pixels come from in the nearest given frame. They are noised, predicted
and sampled like all latents, are few and smooth, and the warp decoder moves the given pixels by
them. Units are logarithmic: of a point that moved by d pixels of a canvas of 128, along each axis,

    motion = 2 · sign(d) · log(1 + |d|)

so that clips that creep and clips that leap lie on one scale. Motion of stickers is smooth: nearly
all of it is whole things that shift, turn and grow. Its noise is as smooth, so that a network that
has learned nothing draws motion of the right size that sways softly, and noise hides coarse and
fine motion alike at the same noise level.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.method.dual_mask import extrapolated_frames, reference_frames
from rdtf.method.loss import blend_error, frame_weights, masked_error_sum, motion_errors
from rdtf.models.conditions import Conditions
from rdtf.models.matching import EXACT, match
from rdtf.models.motion_latents import cosines
from rdtf.models.representation import Representation

MOTION_CHANNELS = 2
# Over real stickers, on any grid and for clips of 8 frames (docs/LOG.md): spread of motion in its
# own units, frequency (half waves per canvas) where its spectrum bends, likeness of neighbours.
MOTION_STD = 2.4
_BEND, _LIKENESS = 1.3, 0.65
_GAIN = 2.0
_UNIT = 1 / 64  # of half the canvas: a pixel of 128
_LARGEST = 10.0  # about a whole canvas of 128
_FINEST_SIDE = 64  # cells of the matching


def _motion_of_flow(flow: Tensor) -> Tensor:
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
def _clip_motion(clean: Tensor, given: Tensor, valid: Tensor, patch: int) -> Tensor:
    """Motion latents of whole clips: true motion of extrapolated frames, zero in the others.

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
    return _motion_of_flow(F.adaptive_avg_pool2d(found[:, 1], size))


@dataclass(frozen=True)
class LatentSpace:
    """Latents `[B, C + M, F, h, w]`: C channels of the pixels, M of motion (0 or 2).

    patch: pixels that a cell of the pixels' latents folds per side.
    """

    motion_channels: int = 0
    patch: int = 1

    @classmethod
    def of(cls, denoiser: Any) -> LatentSpace:
        """That of a network; adapted U-Nets know no motion."""
        motion_channels = int(getattr(denoiser, "motion_channels", 0))
        return cls(motion_channels, int(denoiser.config.patch) if motion_channels else 1)

    # ------------------------------------------------------------------ sampling

    def encode(
        self, representation: Representation, pixels: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Clean latents of the known frames of one clip.

        Args:
            pixels: premultiplied in [-1, 1], `[F, 4, S, S]`; known: bool `[F]`.

        Returns:
            (latents float32 `[1, C + M, F, h, w]`, zero where not known; condition mask bool
            `[1, F]`).
        """
        encoded, _ = representation.encode(pixels)
        behind = [0] * 6 + [0, self.motion_channels]
        clean, given = F.pad(encoded.transpose(0, 1)[None].float(), behind), known[None]
        return torch.where(given[:, None, :, None, None], clean, 0.0), given

    def decode(self, representation: Representation, latents: Tensor) -> Tensor:
        """Latents `[1, C + M, F, h, w]` → premultiplied pixels in [-1, 1], `[F, 4, H, W]`."""
        return representation.decode(self.pixels(latents)[0].transpose(0, 1))

    def start_noise(self, like: Tensor, given: Tensor, generator: torch.Generator | None) -> Tensor:
        """Noise of the shape and device of `like`; that of motion latents is smooth.

        It is drawn where the generator lives, so that a CPU generator gives the same on every
        device.
        """
        source = torch.device("cpu") if generator is None else generator.device
        white = torch.randn(like.shape, generator=generator, device=source).to(like.device)
        pixels = self.pixels(white)
        return self.noise(pixels, white[:, pixels.shape[1] :], given)

    def pixels(self, latents: Tensor) -> Tensor:
        """The channels of the pixels."""
        return latents[:, : latents.shape[1] - self.motion_channels]

    def noise(self, pixels: Tensor, motion: Tensor, given: Tensor) -> Tensor:
        """White noise of pixels and motion → noise of this space."""
        if not self.motion_channels:
            return pixels
        return torch.cat([pixels, shape_noise(motion, given)], dim=1)

    # ------------------------------------------------------------------ training

    def clean(self, known: Conditions) -> Tensor:
        """What is to be predicted: clean latents of all frames, and their true motion."""
        if not self.motion_channels:
            return known.clean
        motion = _clip_motion(known.clean, known.given, known.valid, self.patch)
        return torch.cat([known.clean, motion], dim=1)

    def errors(
        self,
        prediction: Tensor,
        target: Tensor,
        known: Conditions,
        weight: Tensor,
        *,
        given_frame_weight: float = 0.0,
        relative_loss_floor: float = 0.0,
        learn: str = "all",
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weighted error sum, unweighted error sum and element count per sample, each `[B]`.

        The error of motion is in the weighted sum only, for it is no error of pixels; unless it is
        all that is learned.

        Args:
            prediction: in this space, or motion alone with learn="motion"; weight: of each
                sample's pixels by its noise level, `[B]`; the rest: see `TrainConfig`.
        """
        channels, weighted = known.clean.shape[1], torch.zeros_like(weight, dtype=torch.float32)
        if self.motion_channels:
            predicted = prediction[:, -self.motion_channels :]
            weighted, errors, counts = motion_errors(
                predicted, target[:, channels:], known.given, known.valid
            )
            weighted = weighted * (channels / self.motion_channels)
            if learn == "motion":
                return weighted, errors, counts
        weights = frame_weights(known.valid, known.given, given_frame_weight)
        errors, counts = masked_error_sum(prediction[:, :channels], target[:, :channels], weights)
        if relative_loss_floor:
            to_do = blend_error(known.clean, known.given, known.valid)
            weight = weight / (to_do + relative_loss_floor)
        return weighted + errors * weight, errors, counts
