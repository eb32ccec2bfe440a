"""The space that a denoiser works in: latents of the pixels and, behind them, of motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rdtf.method.loss import blend_error, frame_weights, masked_error_sum, motion_errors
from rdtf.models.conditions import Conditions
from rdtf.models.motion import clip_motion, shape_noise
from rdtf.models.representation import Representation


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
        motion = clip_motion(known.clean, known.given, known.valid, self.patch)
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
