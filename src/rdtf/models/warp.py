"""The warp decoder: frames made by moving pixels of the given frames (not in the paper).

A sticker is flat colour and sharp line: what a small denoiser has to invent comes out soft, what it
moves stays crisp. So for every hidden frame the network also predicts where each of two reference
frames (the nearest given ones) went, and a soft mask that picks per pixel between the first
reference, the second, and what the network generated itself:

    x̂_f = m_0 · warp(ref_0, flow_0) + m_1 · warp(ref_1, flow_1) + m_2 · generated

Flows and masks are found coarse to fine: first on the network's own grid, then by refinement
stages, each of which warps the references by the flow so far, compares them with each other and
with the noisy frame on a finer grid, and corrects. Flows are corrections of what plain matching
finds (`models/matching.py`) for interpolated frames; for others the network predicts them.

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

from rdtf.method.dual_mask import NUM_REFERENCES
from rdtf.models.conditions import ReferenceFeatures, pick_rows
from rdtf.models.layers import group_norm, silu_of_norm
from rdtf.models.matching import warp

# The generated part starts with a small share: gradients reach it from the first step, and what it
# draws while it can't draw yet does no harm.
_GENERATED_LOGIT = -5.0
# A difference, in [-1, 1], from which on two moved references contradict each other.
_CONFLICT = 0.3
# Premultiplied pixels in [-1, 1], as `PixelPatches` folds them.
TRANSPARENT = -1.0
# What differs by up to 2 levels of 8 bits is still, by 16 it is not; and how near, as a share of
# the canvas.
_STILL_DIFFERENCE, _STILL_REACH = (4.5 / 255, 32 / 255), 1 / 64


@dataclass(frozen=True)
class Composition:
    """How frames come about, apart from the references' pixels.

    flow: where to look in each reference, `[N, 2, 2, h, w]` (x, y) in normalised coordinates;
    weights: share of each reference and of what is generated, `[N, 3, H, W]`, sum 1;
    share: of the first reference in the blend, `[N]`;
    added: what the network adds to the blend, `[N, c, H, W]`;
    interpolated: whether a frame lies between its references, bool `[N]`. Pixels that are equal in
        both references then stay as they are, and only where the references contradict each other
        something is drawn.
    """

    flow: Tensor
    weights: Tensor
    share: Tensor
    added: Tensor
    interpolated: Tensor

    def rows(self, index: int) -> Composition:
        """That of one frame."""
        return pick_rows(self, slice(index, index + 1))

    def in_float32(self) -> Composition:
        """The same in float32."""
        return replace(
            self,
            flow=self.flow.float(),
            weights=self.weights.float(),
            share=self.share.float(),
            added=self.added.float(),
        )

    def apply(self, references: Tensor, outside: float | Tensor | None = None) -> Tensor:
        """The frames: references `[N, 2, c, H', W']` of any size → `[N, c, H', W']`.

        Args:
            outside: value beyond the canvas, `TRANSPARENT` for pixels; None = the border's.
        """
        size = references.shape[-2:]
        weights, added = self.weights, self.added
        if weights.shape[-2:] != size:
            weights = F.interpolate(weights, size=size, mode="bilinear")
            added = F.interpolate(added, size=size, mode="bilinear")
        moved = warp(references, self.flow, outside)
        interpolated = self.interpolated[:, None, None, None]
        share = self.share[:, None, None, None]
        first, second, own = weights[:, :, None].unbind(1)
        if outside is not None:  # where only one reference has pixels, it serves for both
            seen = warp(torch.ones_like(references[:, :, :1]), self.flow, 0.0).unbind(1)
            only = seen[0] * (1 - seen[1]), seen[1] * (1 - seen[0])
            share = share * (1 - only[1]) + (1 - share) * only[0]
            change = second * only[0] - first * only[1]
            first, second = first + change, second - change
        generated = torch.lerp(moved[:, 1], moved[:, 0], share)
        generated = generated + added * torch.where(interpolated, _conflict(moved), 1.0)
        composed = first * moved[:, 0] + second * moved[:, 1] + own * generated
        still = _alike(references) * interpolated
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


class WarpDecoder(nn.Module):
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
            _RefinementStage(
                self.pixel_channels,
                width,
                contexts[index + 1],
                cell=patch // 2 ** (index + 1),
                last=index == len(refine_widths) - 1,
            )
            for index, width in enumerate(refine_widths)
        )

    def forward(self, h: Tensor, features: ReferenceFeatures, noisy: Tensor) -> Tensor:
        """Composed clean frames as latents.

        Args:
            h: what the U-Net says of each frame, `[N, C, h, w]`.
            features: of the same N frames.
            noisy: the noisy latents as the network sees them, `[N, c, h, w]`.

        Returns:
            `[N, c, h, w]`.
        """
        composition = self.compose(h, features, noisy)
        outside = None  # learned latents have no value for it
        if self.patch > 1:  # where nothing is given, references are zero everywhere
            known = features.distances.isfinite().any(dim=1)
            outside = torch.where(known, TRANSPARENT, 0.0)[:, None, None, None, None]
        composed = composition.apply(self.unfold(features.references), outside)
        return F.pixel_unshuffle(composed, self.patch)

    def unfold(self, references: Tensor) -> Tensor:
        """Reference latents as pixels: `[N, 2, c, h, w]` → `[N, 2, c / p², H, W]`."""
        return F.pixel_shuffle(references.float(), self.patch)

    def compose(self, h: Tensor, features: ReferenceFeatures, noisy: Tensor) -> Composition:
        """How `forward` puts the frames together."""
        state = _in_units(self.head(silu_of_norm(self.norm, h)).float(), h.shape[-1])
        noisy = F.pixel_shuffle(noisy.float(), self.patch)
        references = self.unfold(features.references)
        for stage in self.stages:
            state = stage(state, features.flow, references, noisy)
        pixels, cell = self.pixel_channels, self.cell
        sizes = [2 * NUM_REFERENCES, (NUM_REFERENCES + 1) * cell**2, pixels * cell**2]
        flow, logits, added = state.split(sizes, dim=1)
        flow = _total_flow(flow, features.flow) * features.motion_scale[:, None, None, None, None]
        prior = _prior_logits(features.distances)
        logits = F.pixel_shuffle(logits, cell) + prior[:, :, None, None]
        return Composition(
            flow=flow,
            weights=logits.softmax(dim=1),
            share=prior[:, :NUM_REFERENCES].softmax(dim=1)[:, 0],
            added=F.pixel_shuffle(added, cell),
            interpolated=features.interpolated,
        )


def _prior_logits(distances: Tensor) -> Tensor:
    """Starting logits `[N, 3]`: references by inverse distance in time, generated small."""
    finite = distances.isfinite()
    references = torch.where(finite, -distances.clamp(min=0.25).log(), -1e4)
    share = torch.logsumexp(references, dim=1, keepdim=True).clamp(min=-1e3)
    references = torch.where(finite, references - share, -1e4)
    generated = torch.full_like(references[:, :1], _GENERATED_LOGIT)
    return torch.cat([references, generated], dim=1)


# -------------------------------------------------------------------------- refinement


def possible_widths(widths: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """The last of `widths`: one for each stage that cells of `patch` pixels leave room for.

    Every stage halves the cells, and the finest, like all others, have two halves of whole pixels.
    """
    stages = 0
    while patch % 2 ** (stages + 2) == 0:
        stages += 1
    return widths[max(len(widths) - stages, 0) :]


def _in_units(out: Tensor, side: int) -> Tensor:
    """What a head says, in the units of the state: flows in half cells of a grid of `side` cells.

    Otherwise one step of the optimizer at the start moves pixels across the picture.
    """
    return torch.cat([out[:, :4] / side, out[:, 4:]], dim=1)


def _total_flow(flow: Tensor, base: Tensor) -> Tensor:
    """Corrections `[N, 4, h, w]` on top of `base [N, 2, 2, h', w']`: `[N, 2, 2, h, w]`.

    The backward pass of grid_sample crashes the process on NaN. Where the flow is NaN, so are the
    mask and what is added, and the loss tells.
    """
    base = F.interpolate(base.flatten(1, 2), size=flow.shape[-2:], mode="bilinear")
    return (base + flow).nan_to_num().unflatten(1, (2, 2))


class _RefinementStage(nn.Module):
    """Corrects flows, mask logits and additions on a grid of cells half as large.

    Args:
        pixel_channels: of the references, c.
        width: of its convolutions, and of the context that comes in behind the state.
        context: channels that go out behind the state.
        cell: pixels per side of a cell of its grid.
        last: whether logits and additions go out for each pixel of a cell.
    """

    def __init__(
        self, pixel_channels: int, width: int, context: int, cell: int, last: bool
    ) -> None:
        super().__init__()
        self.half_cell = cell // 2
        self.per_cell = cell**2 if last else 1
        self.state_channels = 4 + 3 + pixel_channels
        # Both references and the noisy frame in detail, and what came in.
        seen = 3 * 4 * pixel_channels + self.state_channels + width
        self.conv_in = nn.Conv2d(seen, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            )
            for _ in range(1 if last else 2)
        )
        corrections = 4 + (3 + pixel_channels) * self.per_cell
        self.conv_out = nn.Conv2d(width, corrections + context, 3, padding=1)
        with torch.no_grad():
            self.conv_out.weight[:corrections] = 0.0
            self.conv_out.bias.zero_()  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, state: Tensor, base: Tensor, references: Tensor, noisy: Tensor) -> Tensor:
        """`state [N, 4 + 3 + c + width, h, w]` → the next, `[N, ..., 2h, 2w]`.

        Args:
            base: what the state's flows are added to, `[N, 2, 2, h', w']`.
            references: `[N, 2, c, H, W]`; noisy: `[N, c, H, W]`.
        """
        state = F.interpolate(state, scale_factor=2, mode="bilinear")
        flow, logits, added, _ = state.split(
            [4, 3, self.state_channels - 7, state.shape[1] - self.state_channels], dim=1
        )
        h = self.conv_in(torch.cat([self._look(flow, base, references, noisy), state], dim=1))
        for block in self.blocks:
            h = h + block(h)
        out = self.conv_out(F.silu(h))
        coarse = [flow, *(x.repeat_interleave(self.per_cell, dim=1) for x in (logits, added))]
        corrections = sum(part.shape[1] for part in coarse)
        scaled = _in_units(out[:, :corrections], state.shape[-1])
        return torch.cat([torch.cat(coarse, dim=1) + scaled, out[:, corrections:]], dim=1)

    def _look(self, flow: Tensor, base: Tensor, references: Tensor, noisy: Tensor) -> Tensor:
        """Warped references and noisy frame at two pixels per cell, folded."""
        if self.half_cell > 1:
            pooled = F.avg_pool2d(references.flatten(0, 1), self.half_cell)
            references = pooled.unflatten(0, references.shape[:2])
            noisy = F.avg_pool2d(noisy, self.half_cell)
        moved = warp(references, _total_flow(flow, base))
        return F.pixel_unshuffle(torch.cat([moved.flatten(1, 2), noisy], dim=1), 2)
