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
from rdtf.models.lean import silu_of_norm

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
        generated, flow, logits = self._heads(silu_of_norm(self.norm, features))
        references = references.float()
        prior = _prior_logits(distances)
        # What is generated starts from the blend too: the network adds, it need not repaint.
        share = prior[:, :NUM_REFERENCES].softmax(dim=1)[:, 0, None, None, None]
        blend = torch.lerp(references[:, 1], references[:, 0], share)
        canvas = (blend + generated).unflatten(1, (-1, self.patch**2))
        warped = self._warp(references, flow)

        # Pixels stay folded here, [N, channel, place in the patch, h, w]: nothing depends on where
        # they are.
        logits = logits.float().unflatten(1, (NUM_REFERENCES + 1, -1))
        weights = (logits + prior[:, :, None, None, None]).softmax(dim=1)[:, :, None]
        moved, own = weights.split([NUM_REFERENCES, 1], dim=1)
        return torch.addcmul((moved * warped).sum(dim=1), own[:, 0], canvas).flatten(1, 2)

    def _heads(self, h: Tensor) -> list[Tensor]:
        """Generated latents, flows and masks: one convolution, as one of four channels is slow."""
        heads = (self.generate, self.flow, self.mask)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([head.bias for head in heads if head.bias is not None])
        out = F.conv2d(h, weight, bias, padding=1)
        return list(out.split([head.out_channels for head in heads], dim=1))

    def _warp(self, references: Tensor, flow: Tensor) -> Tensor:
        """Sample references `[N, 2, c, h, w]` at displaced places: `[N, 2, c / p², p², h, w]`.

        Flow is in units of eighths of the canvas.
        """
        pixels = F.pixel_shuffle(references.flatten(0, 1), self.patch)
        # The backward pass of grid_sample crashes the process on NaN. Where the flow is NaN, so are
        # the mask and the generated part, and the loss tells.
        flow = flow.float().nan_to_num().unflatten(1, (NUM_REFERENCES, 2)).flatten(0, 1) * 0.25
        height, width = pixels.shape[-2:]
        flow = F.interpolate(flow, size=(height, width), mode="bilinear")
        grid = _identity_grid(height, width, flow) + flow.permute(0, 2, 3, 1)
        warped = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
        folded = F.pixel_unshuffle(warped, self.patch).unflatten(1, (-1, self.patch**2))
        return folded.unflatten(0, (-1, NUM_REFERENCES))


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
