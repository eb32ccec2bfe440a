"""Continues a movement: the motion of hidden frames from that of given ones, in one pass.

Frames lie side by side as channels, by their distance from the reference, so that a clip costs as
much as a picture. What comes next is, more often than not, something that was there: the way back,
the next round of a loop. So the network says, for every hidden frame, how much of each given
frame's motion it takes over, signed, and adds what is new:

    motion_f = Σ_g copy[f, g] · motion_g + new_f

It is trained by the absolute error. Where several continuations are possible its best answer is a
small motion, not a blur: pixels are moved by the answer, never averaged. `MotionDFGN` draws motion
instead, by chance.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from diffusers.models.modeling_utils import ModelMixin  # noqa: F401 (diffusers looks it up here)
from torch import Tensor, nn

from rdtf.models.dfgn import ClipUNet, embed_text_layers
from rdtf.models.layers import ClipShape, group_norm, sinusoidal_embedding, zero_init
from rdtf.models.motion_dfgn import MotionConditions, MotionNetwork
from rdtf.models.motion_latents import (
    GRID,
    NUM_PARAMETERS,
    pack,
    unpack,
)

_FIELDS = 5  # channels of a frame: residual and affine motion as fields, and whether it is given
_TIME_FREQUENCIES = (3.0, 9.0, 27.0)  # per second
_PER_FRAME = NUM_PARAMETERS + 2 + 2 + 2 * len(_TIME_FREQUENCIES)


class MotionPredictor(MotionNetwork):
    """Motion latents of hidden frames from those of given ones.

    Args:
        channels: width of each level, finest (16 × 16) first.
        layers_per_level, attention_levels, attention_head_dim, expansion: as in `MotionDFGN`.
        embedding_dim, text_dim: widths of the conditioning vector and of the text inside.
        text_widths: width of the token states of each text encoder.
        stem_width: channels of the reference picture's features.
        canvas: side of the reference picture in pixels; a multiple of 16.
        max_offset: farthest frame from the reference that there is a channel for.
        max_frames: longest clip that it was trained on.
    """

    @register_to_config
    def __init__(
        self,
        channels: tuple[int, ...] = (96, 160, 224),
        layers_per_level: int = 1,
        attention_levels: tuple[int, ...] = (1, 2),
        attention_head_dim: int = 32,
        expansion: int = 2,
        embedding_dim: int = 256,
        text_dim: int = 192,
        text_widths: tuple[int, ...] = (384,),
        stem_width: int = 64,
        canvas: int = 128,
        max_offset: int = 16,
        max_frames: int = 8,
    ) -> None:
        super().__init__()
        self._make_stem(canvas, stem_width)
        self.max_offset, self.places = max_offset, 2 * max_offset + 1
        self.embedding_dim = embedding_dim
        # A picture has no frames to exchange anything between.
        stages: Any = SimpleNamespace(**cast(Any, self.config), temporal_layer="none")
        self.unet = ClipUNet(stages, self.places * _FIELDS + stem_width)
        self.numbers = nn.Linear(2 * embedding_dim + self.places * _PER_FRAME, embedding_dim)
        self.embed = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_dim, embedding_dim), nn.SiLU(),
            nn.Linear(embedding_dim, embedding_dim),
        )  # fmt: skip
        self.embed_text = embed_text_layers(text_widths, text_dim)
        self.pooled_text = nn.Linear(text_dim, embedding_dim)
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_dim))
        width = self.unet.out_channels
        pooled = width + self.unet.middle_channels + embedding_dim
        self.norm_out = group_norm(width)
        self.conv_out = zero_init(nn.Conv2d(width, 2 * self.places, 3, padding=1))
        self.affine_out = _head(pooled, NUM_PARAMETERS * self.places)
        self.copy_out = _head(pooled, 2 * self.places**2)

    def forward(self, conditions: MotionConditions, anchor: Tensor) -> Tensor:
        """Predict the motion latents of every frame.

        Args:
            conditions: their clean latents are motion, zero in the reference.
            anchor: index of the reference, `[B]`; no frame is farther than `max_offset` from it.

        Returns:
            `[B, F, D]`; frames outside `valid` hold nothing meaningful.
        """
        valid, times_ms = conditions.valid, conditions.times_ms
        reference, centre = conditions.reference, conditions.centre
        batch, frames = valid.shape
        offset = torch.arange(-self.max_offset, self.max_offset + 1, device=valid.device)
        index = offset + anchor[:, None]
        exists = (index >= 0) & (index < frames)
        index = index.clamp(0, frames - 1)

        def placed(x: Tensor) -> Tensor:
            """By frame → by distance from the reference, `[B, P, …]`."""
            where = index.view(batch, -1, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
            return torch.gather(x, 1, where)

        exists = exists & placed(valid)
        known = exists & placed(conditions.given)
        motion = torch.where(known[..., None], placed(conditions.clean.float()), 0.0)
        times_s = torch.where(exists, placed(times_ms.float()), 0.0) / 1000
        states, keys, text = self._text(conditions)
        numbers = self._numbers(motion, known, exists, times_s, valid, times_ms)
        numbers = self.numbers(numbers.to(self.null_text.dtype))
        embedding = self.embed(numbers + self.pooled_text(text))
        x = self._fields(motion, known, reference, centre).to(self.null_text.dtype)
        one = ClipShape(batch, 1, torch.ones(batch, 1, dtype=torch.bool, device=x.device), False)
        h, coarse = self.unet(x, embedding, states, keys, one)

        field = self.conv_out(F.silu(self.norm_out(h))).float().unflatten(1, (self.places, 2))
        pooled = torch.cat([h.mean((2, 3)), coarse.mean((2, 3)), embedding], dim=1)
        affine = self.affine_out(pooled).float().unflatten(1, (self.places, NUM_PARAMETERS))
        copy = self.copy_out(pooled).float().view(batch, 2, self.places, self.places)
        taken = [
            torch.einsum("bfg,bgd->bfd", share, part)
            for share, part in zip(copy.unbind(1), _split(motion), strict=True)
        ]
        found = pack(affine, field) + torch.cat(taken, dim=-1)
        back = torch.arange(frames, device=valid.device) - anchor[:, None] + self.max_offset
        return torch.gather(found, 1, back[..., None].expand(-1, -1, found.shape[-1]))

    def _fields(self, motion: Tensor, known: Tensor, reference: Tensor, centre: Tensor) -> Tensor:
        """Given motion as fields, which frames are given, and features of the reference."""
        affine, residual = unpack(motion)
        plane = known[:, :, None, None, None].float()
        fields = torch.cat([residual, self._affine_fields(affine, centre)], dim=2) * plane
        fields = torch.cat([fields, plane.expand(-1, -1, 1, GRID, GRID)], dim=2).flatten(1, 2)
        return torch.cat([fields, self._picture(reference, centre).float()], dim=1)

    def _numbers(
        self,
        motion: Tensor,
        known: Tensor,
        exists: Tensor,
        times_s: Tensor,
        valid: Tensor,
        times_ms: Tensor,
    ) -> Tensor:
        """What there is to say of the clip and of each place in numbers, `[B, N]`."""
        there = exists.float()
        waves = [
            wave(times_s * frequency)
            for frequency in _TIME_FREQUENCIES
            for wave in (torch.sin, torch.cos)
        ]
        times = torch.stack([times_s, times_s.abs().sqrt(), *waves], dim=-1) * there[..., None]
        flags = torch.stack([known.float(), there], dim=-1)
        per_frame = torch.cat([_split(motion)[0] * flags[..., :1], flags, times], dim=-1)
        clip = torch.stack(self._clip_numbers(times_ms, valid), dim=1)
        clip = sinusoidal_embedding(clip, self.embedding_dim).flatten(1)
        return torch.cat([clip, per_frame.flatten(1)], dim=1)


def _head(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, 384), nn.SiLU(), zero_init(nn.Linear(384, out))
    )


def _split(latents: Tensor) -> tuple[Tensor, Tensor]:
    """The affine part `[…, 6]` and the residual field, flat."""
    return latents[..., :NUM_PARAMETERS], latents[..., NUM_PARAMETERS:]
