"""DFGN on motion: says where every frame of a clip comes from in one reference frame.

The same stages as the DFGN on pixels, on the 16 × 16 grid of motion latents
(`models/motion_latents.py`): given frames' motions are given latents, so the dual mask makes one
network continue a movement, lead up to it, fill it in, or invent it from a single still and text.
The picture itself enters through a small stem; pixels are moved, never drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.models.dfgn import ClipUNet, embed_text_layers, joined_text
from rdtf.models.layers import ClipShape, group_norm, sinusoidal_embedding, zero_init
from rdtf.models.loading import OwnMemory
from rdtf.models.matching import grid_positions
from rdtf.models.motion_latents import (
    GRID,
    NUM_PARAMETERS,
    affine_of_latents,
    backward_flow,
    latents_of_residual,
    pack,
    unpack,
)

_TIME_UNIT_MS = 10.0  # one unit of the sinusoidal embedding's argument


@dataclass(frozen=True, eq=False, kw_only=True)
class MotionConditions(Conditions):
    """What the motion network is told; clean latents are motion, `[B, F, D]`.

    reference: the reference frame, premultiplied in [−1, 1], `[B, 4, S, S]`; centre: of its alpha,
    (x, y) in [−1, 1], `[B, 2]`; times_ms: start of each frame relative to it, `[B, F]`, which
    takes the place of the mean duration.
    """

    reference: Tensor
    centre: Tensor
    times_ms: Tensor


class MotionNetwork(OwnMemory, ModelMixin, ConfigMixin):
    """What the networks on motion latents have in common: how they see pictures, text and time."""

    stem: nn.Module
    null_text: Tensor
    embed_text: nn.ModuleList
    patch: int

    @property
    def config_(self) -> Any:
        """The registered config, untyped; not for the forward pass, as in `DFGN`."""
        return cast(Any, self.config)

    def _make_stem(self, canvas: int, width: int) -> None:
        if canvas % GRID:
            raise ValueError(f"canvas {canvas} is no multiple of {GRID}")
        self.patch = canvas // GRID
        self.stem = nn.Sequential(
            nn.Conv2d(4 * self.patch**2 + 2, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def _picture(self, reference: Tensor, centre: Tensor) -> Tensor:
        """Features of the reference, with places relative to its centre, `[B, stem, h, w]`."""
        folded = F.pixel_unshuffle(reference, self.patch)
        places = grid_positions(GRID, GRID, centre) - centre[:, :, None, None]
        seen = torch.cat([folded, places.to(folded.dtype)], dim=1)
        return self.stem(seen.to(self.null_text.dtype))

    def _text(self, conditions: Conditions) -> tuple[Tensor, Tensor, Tensor]:
        """Token states, their mask, and their mean."""
        states, masks = joined_text(self.null_text, self.embed_text, conditions)
        keys = torch.cat(masks, dim=1)
        return states, keys, (states * keys[..., None]).sum(1) / keys.sum(1, keepdim=True)

    @staticmethod
    def _affine_fields(affine: Tensor, centre: Tensor) -> Tensor:
        """Affine latents `[B, F, 6]` as fields `[B, F, 2, 16, 16]`; centre: `[B, 2]`."""
        where = centre[:, None].expand(*affine.shape[:2], 2)
        flow = backward_flow(affine_of_latents(affine), where, GRID, GRID)
        return latents_of_residual(flow).clamp(-8, 8)

    @staticmethod
    def _clip_numbers(times_ms: Tensor, valid: Tensor) -> list[Tensor]:
        """Number of frames and time between them, each `[B]`, as a sinusoid's arguments."""
        count = valid.sum(dim=1)
        last = torch.where(valid, times_ms, -torch.inf).amax(1)
        first = torch.where(valid, times_ms, torch.inf).amin(1)
        step_ms = (last - first) / (count - 1).clamp(min=1)
        return [count.float() * 10, step_ms / _TIME_UNIT_MS]


class MotionDFGN(MotionNetwork):
    """Denoiser of motion latents for clips of any number of frames.

    Args:
        channels: width of each level, finest (16 × 16) first.
        layers_per_level: stages per level, down and up.
        attention_levels: which levels attend within the frame and to the text.
        embedding_dim, text_dim: widths of the conditioning vector and of the text inside.
        text_widths: width of the token states of each text encoder.
        stem_width: channels of the reference picture's features.
        canvas: side of the reference picture in pixels; a multiple of 16.
        max_frames: longest clip that it was trained on.
    """

    _no_split_modules = ("Stage",)

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (96, 160, 224),
        layers_per_level: int = 1,
        attention_levels: tuple[int, ...] = (1, 2),
        attention_head_dim: int = 32,
        expansion: int = 2,
        embedding_dim: int = 256,
        text_dim: int = 224,
        text_widths: tuple[int, ...] = (384,),
        temporal_layer: str = "sti",
        sti_heads: int = 4,
        sti_head_dim: int = 32,
        sti_kernel: tuple[int, int, int] = (3, 1, 1),
        sti_conv_layers: int = 2,
        stem_width: int = 64,
        canvas: int = 128,
        max_frames: int = 16,
    ) -> None:
        super().__init__()
        config: Any = self.config
        self._make_stem(canvas, stem_width)
        # Noisy and given: residual and affine as fields, two channels each; and the mask.
        self.unet = ClipUNet(config, 9 + stem_width)
        self.embed_numbers = nn.Linear(4 * embedding_dim + 2 * NUM_PARAMETERS + 1, embedding_dim)
        self.embed_frame = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_dim, embedding_dim), nn.SiLU(),
            nn.Linear(embedding_dim, embedding_dim),
        )  # fmt: skip
        self.embed_text = embed_text_layers(text_widths, text_dim)
        self.pooled_text = nn.Linear(text_dim, embedding_dim)
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_dim))
        width, coarse = self.unet.out_channels, self.unet.middle_channels
        self.norm_out = group_norm(width)
        self.conv_out = zero_init(nn.Conv2d(width, 4, 3, padding=1))
        self.affine_out = nn.Sequential(
            nn.LayerNorm(width + coarse + embedding_dim),
            nn.Linear(width + coarse + embedding_dim, 256),
            nn.SiLU(),
            zero_init(nn.Linear(256, 2 * NUM_PARAMETERS)),
        )

    def forward(self, noisy: Tensor, t: Tensor, conditions: MotionConditions) -> Tensor:
        """Predict the clean motion latents of every frame.

        Args:
            noisy: latents at noise level t, `[B, F, D]`; t: in [0, 1], `[B]`.
            conditions: their clean latents are motion, zero in the reference; `padded=False`
                promises that all frames are valid.

        Returns:
            `[B, F, D]`; frames outside `valid` hold nothing meaningful.
        """
        valid, times_ms, centre = conditions.valid, conditions.times_ms, conditions.centre
        batch, frames = valid.shape
        given = conditions.given & valid
        keep = given[..., None]
        clean = torch.where(keep, conditions.clean, 0.0)
        noise = t.float()[:, None, None]
        norm = (1 - noise) ** 2 + noise**2
        estimate = torch.where(valid[..., None], noisy.float(), 0.0) * ((1 - noise) / norm)
        shown = torch.where(keep, clean, estimate)

        text_states, text_keys, text = self._text(conditions)
        numbers = self._numbers(t, times_ms, valid)
        affine, _ = unpack(shown)
        flags = given.to(affine.dtype)[..., None]
        numbers = torch.cat([numbers, affine * (1 - flags), affine * flags, flags], dim=-1)
        embedding = self.embed_numbers(numbers.to(self.null_text.dtype))
        embedding = embedding + self.pooled_text(text)[:, None]
        embedding = self.embed_frame(embedding).flatten(0, 1)

        x = self._fields(shown, given, centre)
        seen = self._picture(conditions.reference, centre)
        x = torch.cat([x, seen[:, None].expand(-1, frames, -1, -1, -1).flatten(0, 1)], dim=1)
        clip = ClipShape(batch, frames, valid, conditions.padded is not False)
        h, coarse = self.unet(x.to(self.null_text.dtype), embedding, text_states, text_keys, clip)

        out = self.conv_out(F.silu(self.norm_out(h))).float().unflatten(0, (batch, frames))
        pooled = torch.cat([h.mean((2, 3)), coarse.mean((2, 3)), embedding], dim=-1)
        of_affine = self.affine_out(pooled).float().unflatten(0, (batch, frames))
        gain = pack(of_affine[..., :NUM_PARAMETERS], out[:, :, :2])
        residual = pack(of_affine[..., NUM_PARAMETERS:], out[:, :, 2:])
        return estimate * (1 + gain) + (noise / norm.sqrt()) * residual

    def _fields(self, shown: Tensor, given: Tensor, centre: Tensor) -> Tensor:
        """Affine and residual motion as fields, estimated and given; the mask: `[B·F, 9, h, w]`."""
        affine, residual = unpack(shown)
        with torch.autocast(shown.device.type, enabled=False):
            fields = torch.cat([residual, self._affine_fields(affine, centre)], dim=2)
        mask = given[:, :, None, None, None].to(fields.dtype)
        plane = mask.expand(-1, -1, 1, GRID, GRID)
        return torch.cat([fields * (1 - mask), fields * mask, plane], dim=2).flatten(0, 1)

    def _numbers(self, t: Tensor, times_ms: Tensor, valid: Tensor) -> Tensor:
        """Noise level, time from the reference, clip length and time between frames `[B, F, …]`."""
        dim = self.config["embedding_dim"]
        clip = torch.stack([t.float() * 1000, *self._clip_numbers(times_ms, valid)], dim=1)
        clip = sinusoidal_embedding(clip, dim).flatten(1)[:, None].expand(-1, valid.shape[1], -1)
        frame = sinusoidal_embedding(times_ms / _TIME_UNIT_MS, dim)
        return torch.cat([clip, frame], dim=-1)
