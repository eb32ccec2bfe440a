"""The U-Net of stages: residual block → STI → attention, down and up again (paper §3.2).

Frames of clips in, features of every frame out. Inside, a clip is `[B·F, C, H, W]`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rdtf.models.conditions import Conditions
from rdtf.models.layers import ClipShape, ResidualBlock, SpatialTransformer
from rdtf.models.sti import SpatioTemporalInteraction, TemporalConvolution, _NoTemporalLayer


class Stage(nn.Module):
    """Residual block → STI → (at coarser levels) spatial and text attention."""

    def __init__(self, in_channels: int, out_channels: int, attend: bool, config: Any) -> None:
        super().__init__()
        self.residual = ResidualBlock(in_channels, out_channels, config.embedding_dim)
        self.temporal = _temporal_layer(out_channels, config)
        self.transformer = (
            SpatialTransformer(
                out_channels, config.attention_head_dim, config.text_dim, config.expansion
            )
            if attend
            else None
        )

    def forward(
        self, x: Tensor, embedding: Tensor, text: Tensor, text_mask: Tensor | None, clip: ClipShape
    ) -> Tensor:
        x = self.temporal(self.residual(x, embedding), clip)
        return x if self.transformer is None else self.transformer(x, text, text_mask)


def _temporal_layer(channels: int, config: Any) -> nn.Module:
    if config.temporal_layer == "none":
        return _NoTemporalLayer()
    kernel = tuple(config.sti_kernel)
    if config.temporal_layer == "conv3d":
        return TemporalConvolution(channels, kernel, config.sti_conv_layers)
    return SpatioTemporalInteraction(
        channels, config.sti_heads, config.sti_head_dim, kernel, config.sti_conv_layers
    )


def embed_text_layers(text_widths: tuple[int, ...], text_dim: int) -> nn.ModuleList:
    """An MLP per text encoder, from the width of its token states to `text_dim`."""
    return nn.ModuleList(
        nn.Sequential(nn.Linear(width, 2 * text_dim), nn.SiLU(), nn.Linear(2 * text_dim, text_dim))
        for width in text_widths
    )


def joined_text(
    null_text: Tensor, embed_text: nn.ModuleList, conditions: Conditions
) -> tuple[Tensor, list[Tensor]]:
    """Token states of all encoders `[B, T, D]`, and the mask of each part, bool `[B, T']`.

    They are joined behind a learned null token `[1, 1, D]` that is always there.
    """
    batch = len(conditions.valid)
    states = [null_text.expand(batch, -1, -1)]
    for embed, state in zip(embed_text, conditions.text, strict=False):
        states.append(embed(state.to(null_text.dtype)))
    always = torch.ones(batch, 1, dtype=torch.bool, device=null_text.device)
    return torch.cat(states, dim=1), [always, *conditions.text_mask[: len(states) - 1]]


class UNetLayers(nn.Module):
    """The layers of the U-Net, for a network to have as its own (a mixin) or as a part.

    Its parameters are called conv_in, down, downsample, middle, up, upsample.
    """

    gradient_checkpointing = False

    def build_unet(self, config: Any, input_channels: int, kernel: int) -> tuple[int, int]:
        """Make the layers.

        Args:
            config: needs `channels` (finest level first), `layers_per_level`, `attention_levels`,
                what `Stage` reads, and maybe `extra_up_stage`: one more stage per level on the way
                up, with skips from the level's input too.
            input_channels, kernel: of the first convolution.

        Returns:
            Channels of what comes out at the finest and at the coarsest level.
        """
        channels, per_level = tuple(config.channels), int(config.layers_per_level)
        extra = bool(getattr(config, "extra_up_stage", False))
        self._shape = len(channels), per_level, extra
        self.conv_in = nn.Conv2d(input_channels, channels[0], kernel, padding=kernel // 2)
        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips, width = [channels[0]] * extra, channels[0]
        for level, out in enumerate(channels):
            for _ in range(per_level):
                self.down.append(Stage(width, out, level in config.attention_levels, config))
                width = out
                skips.append(width)
            if level < len(channels) - 1:
                self.downsample.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips += [width] * extra
        self.middle = nn.ModuleList(Stage(width, width, True, config) for _ in range(2))
        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(per_level + extra):
                width += skips.pop()
                self.up.append(Stage(width, out, level in config.attention_levels, config))
                width = out
            if level > 0:
                self.upsample.append(nn.Conv2d(width, width, 3, padding=1))
        return width, channels[-1]

    def run_unet(
        self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor | None, clip: ClipShape
    ) -> tuple[Tensor, Tensor]:
        """Features of every frame.

        Args:
            x: `[B·F, C, h, w]`; embedding: `[B, E]`, or one per frame, `[B·F, E]`.
            text, mask: `[B, T, D]`, bool `[B, T]`; None = all may be read.

        Returns:
            (at the input's resolution `[B·F, C', h, w]`, of the coarsest level
            `[B·F, C'', h', w']`).
        """
        levels, per_level, extra = self._shape
        h = self.conv_in(x)
        skips = [h] if extra else []
        for index, stage in enumerate(self.down):
            h = self.run_block(stage, h, embedding, text, mask, clip)
            skips.append(h)
            level, last_of_level = index // per_level, (index + 1) % per_level == 0
            if last_of_level and level < levels - 1:
                h = self.downsample[level](h)
                skips += [h] if extra else []
        for stage in self.middle:
            h = self.run_block(stage, h, embedding, text, mask, clip)
        coarse = h
        per_level += extra
        for index, stage in enumerate(self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            h = self.run_block(stage, h, embedding, text, mask, clip)
            level, last_of_level = index // per_level, (index + 1) % per_level == 0
            if last_of_level and level < levels - 1:
                # The grid of the skip that comes next, so that odd sizes fit as well.
                h = F.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
                h = self.upsample[level](h)
        return h, coarse

    def run_block(self, block: nn.Module, *inputs: Any) -> Tensor:
        """A block, recomputed in the backward pass if gradient checkpointing is on."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            checkpoint: Any = self._gradient_checkpointing_func  # of diffusers
            return checkpoint(block, *inputs)
        return block(*inputs)


class ClipUNet(UNetLayers):
    """The U-Net as a part of another network."""

    def __init__(self, config: Any, input_channels: int) -> None:
        super().__init__()
        self.out_channels, self.middle_channels = self.build_unet(config, input_channels, kernel=3)

    def forward(
        self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor | None, clip: ClipShape
    ) -> tuple[Tensor, Tensor]:
        """See `run_unet`."""
        return self.run_unet(x, embedding, text, mask, clip)
