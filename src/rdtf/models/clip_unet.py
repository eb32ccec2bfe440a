"""The U-Net of DFGN stages by itself: frames of a clip in, features of every frame out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.dfgn import Stage
from rdtf.models.layers import ClipShape


class ClipUNet(nn.Module):
    """Residual block → STI → attention, down and up again (paper §3.2, overview figure).

    Args:
        config: needs `channels`, `layers_per_level`, `attention_levels` and what `Stage` reads.
        input_channels: of the frames.
    """

    def __init__(self, config: Any, input_channels: int) -> None:
        super().__init__()
        channels, per_level = tuple(config.channels), int(config.layers_per_level)
        self.per_level, self.levels = per_level, len(channels)
        self.conv_in = nn.Conv2d(input_channels, channels[0], 3, padding=1)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips, width = [], channels[0]
        for level, out in enumerate(channels):
            for _ in range(per_level):
                self.down.append(Stage(width, out, level in config.attention_levels, config))
                width = out
                skips.append(width)
            if level < len(channels) - 1:
                self.downsample.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = nn.ModuleList(Stage(width, width, True, config) for _ in range(2))
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(per_level):
                self.up.append(
                    Stage(width + skips.pop(), out, level in config.attention_levels, config)
                )
                width = out
            if level > 0:
                self.upsample.append(nn.Conv2d(width, width, 3, padding=1))
        self.out_channels, self.middle_channels = width, channels[-1]

    def forward(
        self, x: Tensor, embedding: Tensor, text: Tensor, text_mask: Tensor, clip: ClipShape
    ) -> tuple[Tensor, Tensor]:
        """Features of every frame.

        Args:
            x: `[B·F, C, h, w]`; embedding: `[B, E]`, or one per frame, `[B·F, E]`.
            text, text_mask: `[B, T, D]`, bool `[B, T]`.

        Returns:
            (at the input's resolution `[B·F, out_channels, h, w]`, of the coarsest level
            `[B·F, middle_channels, h', w']`).
        """
        h = self.conv_in(x)
        skips: list[Tensor] = []
        for index, stage in enumerate(self.down):
            h = stage(h, embedding, text, text_mask, clip)
            skips.append(h)
            level, last_of_level = index // self.per_level, (index + 1) % self.per_level == 0
            if last_of_level and level < self.levels - 1:
                h = self.downsample[level](h)
        for stage in self.middle:
            h = stage(h, embedding, text, text_mask, clip)
        coarse = h
        for index, stage in enumerate(self.up):
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding, text, text_mask, clip)
            level, last_of_level = index // self.per_level, (index + 1) % self.per_level == 0
            if last_of_level and level < self.levels - 1:
                h = F.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
                h = self.upsample[level](h)
        return h, coarse
