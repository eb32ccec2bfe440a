"""Refine flows and masks on a finer grid, by looking at what they do (beyond the paper).

A stage warps the references by the flow so far, sees in detail how well they fit each other and the
noisy frame, and corrects.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.matching import warp


def possible_widths(widths: tuple[int, ...], patch: int) -> tuple[int, ...]:
    """The last of `widths`: one for each stage that cells of `patch` pixels leave room for.

    Every stage halves the cells, and the finest, like all others, have two halves of whole pixels.
    """
    stages = 0
    while patch % 2 ** (stages + 2) == 0:
        stages += 1
    return widths[max(len(widths) - stages, 0) :]


def in_units(out: Tensor, side: int) -> Tensor:
    """What a head says, in the units of the state: flows in half cells of a grid of `side` cells.

    Otherwise one step of the optimizer at the start moves pixels across the picture.
    """
    return torch.cat([out[:, :4] / side, out[:, 4:]], dim=1)


def total_flow(flow: Tensor, base: Tensor) -> Tensor:
    """Corrections `[N, 4, h, w]` on top of `base [N, 2, 2, h', w']`: `[N, 2, 2, h, w]`.

    The backward pass of grid_sample crashes the process on NaN. Where the flow is NaN, so are the
    mask and what is added, and the loss tells.
    """
    base = F.interpolate(base.flatten(1, 2), size=flow.shape[-2:], mode="bilinear")
    return (base + flow).nan_to_num().unflatten(1, (2, 2))


class RefinementStage(nn.Module):
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
        scaled = in_units(out[:, :corrections], state.shape[-1])
        return torch.cat([torch.cat(coarse, dim=1) + scaled, out[:, corrections:]], dim=1)

    def _look(self, flow: Tensor, base: Tensor, references: Tensor, noisy: Tensor) -> Tensor:
        """Warped references and noisy frame at two pixels per cell, folded."""
        if self.half_cell > 1:
            pooled = F.avg_pool2d(references.flatten(0, 1), self.half_cell)
            references = pooled.unflatten(0, references.shape[:2])
            noisy = F.avg_pool2d(noisy, self.half_cell)
        moved = warp(references, total_flow(flow, base))
        return F.pixel_unshuffle(torch.cat([moved.flatten(1, 2), noisy], dim=1), 2)
