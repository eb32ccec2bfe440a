"""Compose a frame by moving pixels of the given frames (beyond the paper).

A sticker is flat colour and sharp line: what a small denoiser has to invent comes out soft, what it
moves stays crisp. So for every hidden frame the network also predicts where each of two reference
frames (the nearest given ones) went, and a soft mask that picks per pixel between the first
reference, the second, and what the network generated itself:

    x̂_f = m_0 · warp(ref_0, flow_0) + m_1 · warp(ref_1, flow_1) + m_2 · generated

It starts as the blend of the two references, weighted by distance in time; what is generated is
that blend plus what the network adds. With nothing given the mask leaves only the generated part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.layers import group_norm

NUM_REFERENCES = 2
# The generated part starts with a small share, so that gradients reach it from the first step.
_GENERATED_LOGIT = -2.0


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


class FrameComposer(nn.Module):
    """Predicts flows, masks and generated latents from features, and composes the frame.

    Latents may be pixels folded by `patch` (pixel patches) or learned ones (`patch = 1`): warping
    happens on the unfolded grid.
    """

    def __init__(self, channels: int, latent_channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.latent_channels = latent_channels
        self.norm = group_norm(channels)
        self.generate = nn.Conv2d(channels, latent_channels, 3, padding=1)
        self.flow = nn.Conv2d(channels, 2 * NUM_REFERENCES, 3, padding=1)
        self.mask = nn.Conv2d(channels, (NUM_REFERENCES + 1) * patch**2, 3, padding=1)
        for head in (self.generate, self.flow, self.mask):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias) if head.bias is not None else None

    def forward(self, features: Tensor, references: Tensor, distances: Tensor) -> Tensor:
        """Composed clean frames.

        Args:
            features: `[B·F, C, h, w]`.
            references: latents `[B·F, 2, c, h, w]`; distances: `[B·F, 2]` (inf = no reference).

        Returns:
            `[B·F, c, h, w]`.
        """
        h = F.silu(self.norm(features))
        prior = _prior_logits(distances)
        # What is generated starts from the blend too: the network adds, it need not repaint.
        shares = prior[:, :NUM_REFERENCES].softmax(dim=1)[:, :, None, None, None]
        canvas = self._unfold((shares * references).sum(dim=1) + self.generate(h))
        warped = self._warp(self._unfold(references.flatten(0, 1)), self.flow(h), canvas)

        logits = F.pixel_shuffle(self.mask(h), self.patch).float()
        weights = (logits + prior[:, :, None, None]).softmax(dim=1)
        layers = torch.cat([warped, canvas[:, None]], dim=1)
        composed = (weights[:, :, None] * layers).sum(dim=1)
        return F.pixel_unshuffle(composed, self.patch)

    def _unfold(self, latents: Tensor) -> Tensor:
        return F.pixel_shuffle(latents.float(), self.patch)

    def _warp(self, references: Tensor, flow: Tensor, like: Tensor) -> Tensor:
        """Sample references at displaced places; flow is in units of eighths of the canvas."""
        height, width = like.shape[-2:]
        # The backward pass of grid_sample crashes the process on NaN. Where the flow is NaN, so are
        # the mask and the generated part, and the loss tells.
        flow = flow.float().nan_to_num().unflatten(1, (NUM_REFERENCES, 2)).flatten(0, 1)
        flow = F.interpolate(flow, size=(height, width), mode="bilinear") * 0.25
        grid = _identity_grid(height, width, flow) + flow.permute(0, 2, 3, 1)
        warped = F.grid_sample(references, grid, padding_mode="border", align_corners=False)
        return warped.unflatten(0, (-1, NUM_REFERENCES))


def _prior_logits(distances: Tensor) -> Tensor:
    """Starting logits `[N, 3]`: references by inverse distance in time, generated small."""
    finite = distances.isfinite()
    references = torch.where(finite, -distances.clamp(min=0.25).log(), -1e4)
    share = torch.logsumexp(references, dim=1, keepdim=True).clamp(min=-1e3)
    references = torch.where(finite, references - share, -1e4)
    generated = torch.full_like(references[:, :1], _GENERATED_LOGIT)
    return torch.cat([references, generated], dim=1)


def _identity_grid(height: int, width: int, like: Tensor) -> Tensor:
    """Sampling grid that changes nothing, `[1, H, W, 2]` in [-1, 1] (x, y)."""
    ys = (torch.arange(height, device=like.device) + 0.5) * 2 / height - 1
    xs = (torch.arange(width, device=like.device) + 0.5) * 2 / width - 1
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)[None].to(like.dtype)
