"""Compose a frame by moving pixels of the given frames (beyond the paper).

A sticker is flat colour and sharp line: what a small denoiser has to invent comes out soft, what it
moves stays crisp. So for every hidden frame the network also predicts where each of two reference
frames (the nearest given ones) went, and a soft mask that picks per pixel between the first
reference, the second, and what the network generated itself:

    x̂_f = m_0 · warp(ref_0, flow_0) + m_1 · warp(ref_1, flow_1) + m_2 · generated

Flows and masks are found coarse to fine: first on the network's own grid, then by stages that look
at the warped references in ever more detail (`models/refinement.py`). Flows are corrections of what
plain matching finds (`models/matching.py`), as far as a frame lies between its references; how
things go on beyond them is for the network to say.

It starts as the blend of the two references as matched, weighted by distance in time; what is
generated is the blend of the moved references plus what the network adds. With nothing given the
mask leaves only the generated part. Flows know no pixels: the same composition can be applied to
references of any resolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.layers import group_norm
from rdtf.models.lean import silu_of_norm
from rdtf.models.matching import warp
from rdtf.models.refinement import RefinementStage, in_units, possible_widths, total_flow

NUM_REFERENCES = 2
# The generated part starts with a small share: gradients reach it from the first step, and what it
# draws while it can't draw yet does no harm.
_GENERATED_LOGIT = -5.0
# A difference, in [-1, 1], from which on two moved references contradict each other.
_CONFLICT = 0.3
# Premultiplied pixels in [-1, 1], as `PixelPatches` folds them.
_RGBA, _TRANSPARENT = 4, -1.0
# What differs by up to 2 levels of 8 bits is still, by 16 it is not; and how near, as a share of
# the canvas.
_STILL_DIFFERENCE, _STILL_REACH = (4.5 / 255, 32 / 255), 1 / 64


def reference_frames(given: Tensor) -> tuple[Tensor, Tensor]:
    """For each frame the two given frames to look at: nearest before, nearest after.

    Where one side has none (prediction), the second nearest of the other side steps in, and where
    a single frame is given, it serves twice.

    Args:
        given: condition mask, bool `[B, F]`.

    Returns:
        (indices int64 `[B, F, 2]`, distances in frames float `[B, F, 2]`, infinite where a clip has
        no given frame at all).
    """
    frames = given.shape[1]
    index = torch.arange(frames, device=given.device)
    offset = (index[None, :] - index[:, None]).float()  # [f, k] = k − f
    distance = offset.abs().expand(len(given), -1, -1)
    distance = distance.masked_fill(~given[:, None, :], torch.inf)

    before = distance.masked_fill(offset > 0, torch.inf)
    after = distance.masked_fill(offset <= 0, torch.inf)
    before_distance, before_index = before.min(dim=2)
    after_distance, after_index = after.min(dim=2)

    count = min(NUM_REFERENCES, frames)
    nearest_distance, nearest_index = distance.topk(count, dim=2, largest=False)
    second_index, second_distance = nearest_index[..., -1], nearest_distance[..., -1]
    alone = second_distance.isinf()
    second_index = torch.where(alone, nearest_index[..., 0], second_index)
    second_distance = torch.where(alone, nearest_distance[..., 0], second_distance)

    both = before_distance.isfinite() & after_distance.isfinite()
    first_index = torch.where(both, before_index, nearest_index[..., 0])
    first_distance = torch.where(both, before_distance, nearest_distance[..., 0])
    second_index = torch.where(both, after_index, second_index)
    second_distance = torch.where(both, after_distance, second_distance)
    return (
        torch.stack([first_index, second_index], dim=-1),
        torch.stack([first_distance, second_distance], dim=-1),
    )


def gather_references(clean: Tensor, indices: Tensor) -> Tensor:
    """Latents of the reference frames: `[B, C, F, h, w]`, `[B, F, 2]` → `[B, F, 2, C, h, w]`."""
    batch = torch.arange(len(clean), device=clean.device)[:, None, None]
    return clean.transpose(1, 2)[batch, indices]


@dataclass(frozen=True)
class Composition:
    """How frames come about, apart from the references' pixels.

    flow: where to look in each reference, `[N, 2, 2, h, w]` (x, y) in halves of the canvas;
    weights: share of each reference and of what is generated, `[N, 3, H, W]`, sum 1;
    share: of the first reference in the blend, `[N]`;
    added: what the network adds to the blend, `[N, c, H, W]`;
    between: whether a frame lies between its references, bool `[N]`. There, what is the same in
        both stays exactly that, and something is drawn only where they contradict each other.
    """

    flow: Tensor
    weights: Tensor
    share: Tensor
    added: Tensor
    between: Tensor

    def rows(self, index: int) -> Composition:
        """That of one frame."""
        pick = slice(index, index + 1)
        return Composition(
            self.flow[pick],
            self.weights[pick],
            self.share[pick],
            self.added[pick],
            self.between[pick],
        )

    def in_float32(self) -> Composition:
        """The same in float32."""
        return replace(
            self,
            flow=self.flow.float(),
            weights=self.weights.float(),
            share=self.share.float(),
            added=self.added.float(),
        )

    def apply(self, references: Tensor) -> Tensor:
        """The frames: references `[N, 2, c, H', W']` of any size → `[N, c, H', W']`."""
        size = references.shape[-2:]
        weights, added = self.weights, self.added
        if weights.shape[-2:] != size:
            weights = F.interpolate(weights, size=size, mode="bilinear")
            added = F.interpolate(added, size=size, mode="bilinear")
        pixels = references.shape[2] == _RGBA
        moved = warp(references, self.flow, _TRANSPARENT if pixels else None)
        between = self.between[:, None, None, None]
        share = self.share[:, None, None, None]
        first, second, own = weights[:, :, None].unbind(1)
        if pixels:  # where only one reference has pixels, it serves for both
            seen = warp(torch.ones_like(references[:, :, :1]), self.flow, 0.0).unbind(1)
            only = seen[0] * (1 - seen[1]), seen[1] * (1 - seen[0])
            share = share * (1 - only[1]) + (1 - share) * only[0]
            change = second * only[0] - first * only[1]
            first, second = first + change, second - change
        generated = torch.lerp(moved[:, 1], moved[:, 0], share)
        generated = generated + added * torch.where(between, _conflict(moved), 1.0)
        composed = first * moved[:, 0] + second * moved[:, 1] + own * generated
        still = _alike(references) * between
        return torch.lerp(composed, self._blend(references), still)

    def _blend(self, pair: Tensor) -> Tensor:
        return torch.lerp(pair[:, 1], pair[:, 0], self.share[:, None, None, None])


def _conflict(moved: Tensor) -> Tensor:
    """How much the two references, as moved, contradict each other: `[N, 1, H, W]` in [0, 1]."""
    differ = (moved[:, 0] - moved[:, 1]).abs().amax(dim=1, keepdim=True)
    return (differ / _CONFLICT).clamp(max=1)


def _alike(references: Tensor) -> Tensor:
    """How surely nothing moves, `[N, 1, H, W]`: 1 where the references hardly differ near by."""
    differ = (references[:, 0] - references[:, 1]).abs().amax(dim=1, keepdim=True)
    reach = 2 * max(1, round(references.shape[-1] * _STILL_REACH)) + 1
    differ = F.max_pool2d(differ, reach, stride=1, padding=reach // 2)
    still, moving = _STILL_DIFFERENCE
    return ((moving - differ) / (moving - still)).clamp(0, 1)


class FrameComposer(nn.Module):
    """Predicts flows, masks and additions from features, coarse to fine.

    Latents may be pixels folded by `patch` (pixel patches) or learned ones (`patch = 1`): warping
    happens on the unfolded grid.

    Args:
        channels: of the features, which lie on the latents' grid.
        latent_channels, patch: of the latents.
        refine_widths: channels of each refinement stage; each halves the cells of the grid, down to
            2 pixels at most.
    """

    def __init__(
        self, channels: int, latent_channels: int, patch: int, refine_widths: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self.patch = patch
        self.pixel_channels = latent_channels // patch**2
        self.cell = patch // 2 ** len(refine_widths)  # pixels per side of the finest grid's cells
        if possible_widths(refine_widths, patch) != refine_widths:
            raise ValueError(
                f"{len(refine_widths)} refinement stages need patches of a multiple of "
                f"{2 ** (len(refine_widths) + 1)} pixels, not of {patch}"
            )
        self.norm = group_norm(channels)
        # What stage i gets besides the state is as wide as itself; behind the last nothing is.
        contexts = (*refine_widths, 0)
        per_cell = 1 if refine_widths else self.cell**2
        state = 2 * NUM_REFERENCES + (NUM_REFERENCES + 1 + self.pixel_channels) * per_cell
        self.head = nn.Conv2d(channels, state + contexts[0], 3, padding=1)
        with torch.no_grad():
            self.head.weight[:state] = 0.0
            self.head.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]
        self.stages = nn.ModuleList(
            RefinementStage(
                self.pixel_channels,
                width,
                contexts[index + 1],
                cell=patch // 2 ** (index + 1),
                last=index == len(refine_widths) - 1,
            )
            for index, width in enumerate(refine_widths)
        )

    def forward(
        self,
        features: Tensor,
        references: Tensor,
        distances: Tensor,
        base: Tensor,
        noisy: Tensor,
        between: Tensor,
        motion_scale: Tensor,
    ) -> Tensor:
        """Composed clean frames as latents.

        Args:
            features: `[N, C, h, w]`, one row per frame.
            references: latents `[N, 2, c, h, w]`; distances: `[N, 2]` (inf = no reference).
            base: flow as matched, `[N, 2, 2, h', w']`.
            noisy: the noisy latents as the network sees them, `[N, c, h, w]`.
            between: whether a frame lies between its references, bool `[N]`.
            motion_scale: makes all flows of a frame longer or shorter, `[N]`.

        Returns:
            `[N, c, h, w]`.
        """
        references = self.unfold(references)
        composition = self.compose(
            features, references, distances, base, noisy, between, motion_scale
        )
        composed = composition.apply(references)
        return F.pixel_unshuffle(composed, self.patch)

    def unfold(self, references: Tensor) -> Tensor:
        """Reference latents as pixels: `[N, 2, c, h, w]` → `[N, 2, c / p², H, W]`."""
        return F.pixel_shuffle(references.float(), self.patch)

    def compose(
        self,
        features: Tensor,
        references: Tensor,
        distances: Tensor,
        base: Tensor,
        noisy: Tensor,
        between: Tensor,
        motion_scale: Tensor,
    ) -> Composition:
        """As `forward`, with references as pixels `[N, 2, c, H, W]`."""
        state = in_units(self.head(silu_of_norm(self.norm, features)).float(), features.shape[-1])
        noisy = F.pixel_shuffle(noisy.float(), self.patch)
        for stage in self.stages:
            state = stage(state, base, references, noisy)
        pixels, cell = self.pixel_channels, self.cell
        sizes = [2 * NUM_REFERENCES, (NUM_REFERENCES + 1) * cell**2, pixels * cell**2]
        flow, logits, added = state.split(sizes, dim=1)
        flow = total_flow(flow, base) * motion_scale[:, None, None, None, None]
        prior = _prior_logits(distances)
        logits = F.pixel_shuffle(logits, cell) + prior[:, :, None, None]
        return Composition(
            flow=flow,
            weights=logits.softmax(dim=1),
            share=prior[:, :NUM_REFERENCES].softmax(dim=1)[:, 0],
            added=F.pixel_shuffle(added, cell),
            between=between,
        )


def _prior_logits(distances: Tensor) -> Tensor:
    """Starting logits `[N, 3]`: references by inverse distance in time, generated small."""
    finite = distances.isfinite()
    references = torch.where(finite, -distances.clamp(min=0.25).log(), -1e4)
    share = torch.logsumexp(references, dim=1, keepdim=True).clamp(min=-1e3)
    references = torch.where(finite, references - share, -1e4)
    generated = torch.full_like(references[:, :1], _GENERATED_LOGIT)
    return torch.cat([references, generated], dim=1)
