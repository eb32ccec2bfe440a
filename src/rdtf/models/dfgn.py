"""The discrete frame generation network, DFGN (paper §3.2, overview figure), and its U-Net.

The U-Net is made of stages: residual block → STI → attention, down and up again. Frames of clips
in, features of every frame out; inside, a clip is `[B·F, C, H, W]`. The DFGN is told the noise
level t, the number of frames and their mean duration, and sees the dual mask's input: noisy
latents, given latents, and the condition mask as a channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from rdtf.method.dual_mask import NUM_REFERENCES, denoiser_input, reference_frames
from rdtf.models.conditions import (
    MATCH_CHANNELS,
    Conditions,
    ReferenceFeatures,
    by_frame,
    may_be_masked,
    pick_rows,
    reference_features,
    rows_of,
)
from rdtf.models.latents import MOTION_CHANNELS, MOTION_STD, flow_of_motion
from rdtf.models.layers import (
    ClipShape,
    ResidualBlock,
    SpatialTransformer,
    group_norm,
    sinusoidal_embedding,
    zero_init,
)
from rdtf.models.loading import OwnMemory
from rdtf.models.sti import SpatioTemporalInteraction, TemporalConvolution
from rdtf.models.warp import Composition, WarpDecoder


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


class _NoTemporalLayer(nn.Module):
    """In place of one where a clip is a single picture."""

    def forward(self, x: Tensor, clip: ClipShape) -> Tensor:
        return x


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


class _UNetLayers(nn.Module):
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


class ClipUNet(_UNetLayers):
    """The U-Net as a part of another network."""

    def __init__(self, config: Any, input_channels: int) -> None:
        super().__init__()
        self.out_channels, self.middle_channels = self.build_unet(config, input_channels, kernel=3)

    def forward(
        self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor | None, clip: ClipShape
    ) -> tuple[Tensor, Tensor]:
        """See `run_unet`."""
        return self.run_unet(x, embedding, text, mask, clip)


# Spread of premultiplied sticker pixels in [-1, 1].
_DATA_STD = 0.7


class DFGN(OwnMemory, ModelMixin, _UNetLayers, ConfigMixin):
    """Denoiser for clips of any number of frames.

    Args (the presets in `rdtf.training.presets` set them):
        latent_channels: channels of the latents, C.
        channels: width of each level, finest first; every level halves the grid.
        layers_per_level: stages per level on the way down.
        extra_up_stage: one more stage per level on the way up, with skips from the level's input
            too (as in the paper's base); off, up mirrors down, which is cheaper.
        attention_levels: which levels attend within the frame and to the text.
        text_widths: width of the token states of each text encoder; each goes through its own
            MLP to `text_dim` and all are joined along the token axis (paper: CLIP and T5).
        temporal_layer: "sti" or, for the paper's Table 3 ablation, "conv3d".
        prediction: what comes out: "x" (clean latents), "v" or "eps".
        compose: move pixels of the given frames (`models/warp.py`); needs prediction "x".
        refine_widths: channels of the warp decoder's refinement stages, coarse to fine.
        motion: "alone": in extrapolated frames motion latents are diffused instead of pixels, and
            the warp decoder moves pixels by them (`models/latents.py`); "none": pixels everywhere.
        patch: how many pixels a latent cell folds per side; the warp decoder works unfolded.
        draws: whether it has learned to draw; one that learned motion only needs a given frame.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("Stage",)

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 64,
        channels: tuple[int, ...] = (64, 128, 192),
        layers_per_level: int = 1,
        extra_up_stage: bool = False,
        attention_levels: tuple[int, ...] = (1, 2),
        attention_head_dim: int = 32,
        expansion: int = 2,
        embedding_dim: int = 256,
        text_dim: int = 192,
        text_widths: tuple[int, ...] = (384,),
        temporal_layer: str = "sti",
        sti_heads: int = 4,
        sti_head_dim: int = 32,
        sti_kernel: tuple[int, int, int] = (3, 1, 1),
        sti_conv_layers: int = 2,
        prediction: str = "x",
        compose: bool = True,
        refine_widths: tuple[int, ...] = (),
        motion: str = "none",
        patch: int = 4,
        max_frames: int = 8,
        latent_size: int = 16,
        draws: bool = True,
    ) -> None:
        super().__init__()
        if compose and prediction != "x":
            raise ValueError("compose needs prediction='x': it composes clean frames")
        if motion not in ("none", "alone"):
            raise ValueError(f"motion={motion!r} is not supported; train with motion=alone")
        config: Any = self.config
        input_channels = 2 * latent_channels + 1
        if compose:
            input_channels += NUM_REFERENCES * latent_channels + MATCH_CHANNELS
        self.motion_channels = MOTION_CHANNELS if compose and motion != "none" else 0
        input_channels += self.motion_channels

        self.embed_condition = nn.Sequential(
            nn.Linear(3 * embedding_dim, embedding_dim),
            nn.SiLU(),
            nn.Linear(embedding_dim, embedding_dim),
        )
        self.embed_text = embed_text_layers(text_widths, text_dim)
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_dim))
        width, _ = self.build_unet(config, input_channels, kernel=1)

        if compose:
            self.composer = WarpDecoder(width, latent_channels, patch, tuple(refine_widths))
            if self.motion_channels:
                self.norm_motion = group_norm(width)
                self.conv_motion = zero_init(nn.Conv2d(width, MOTION_CHANNELS + 1, 3, padding=1))
        else:
            self.norm_out = group_norm(width)
            self.conv_out = zero_init(nn.Conv2d(width, latent_channels, 3, padding=1))

    def forward(
        self, noisy: Tensor, t: Tensor, conditions: Conditions, *, motion_only: bool = False
    ) -> Tensor:
        """Predict `x`, `v` or `eps` (see `prediction`) for every frame.

        Args:
            noisy: latents at noise level t, `[B, C + M, F, h, w]`; behind the C channels of the
                pixels follow the M = 2 of motion, if the model has them.
            t: noise level in [0, 1], `[B]`.
            conditions: of clean latents only the pixels of given frames are read.
            motion_only: predict motion latents and no pixels, `[B, M, F, h, w]`.

        Returns:
            `[B, C + M, F, h, w]`. Frames outside `valid` hold nothing meaningful.
        """
        known = self._settled(conditions, conditions.may_be_padded)
        h, seen = self._features(noisy, t, known)
        if known.features is None:
            out = self.conv_out(F.silu(self.norm_out(h)))
        else:
            features, out = self._moved(h, known.features, seen, t)
            if motion_only:
                # So that all parameters take part in every step, as data-parallel training needs.
                out = out + 0.0 * sum(parameter.sum() for parameter in self.composer.parameters())
            else:
                pixels = self._composed(h, features, seen, known)
                out = torch.cat([pixels, out.to(pixels.dtype)], dim=1)
        return out.unflatten(0, known.valid.shape).transpose(1, 2)

    @apply_forward_hook
    def composition(
        self, noisy: Tensor, t: Tensor, conditions: Conditions
    ) -> tuple[Composition, Tensor]:
        """How `forward` puts each frame together, to do the same at another resolution.

        Args are those of `forward`; the model must have been built with `compose`.

        Returns:
            (composition with rows `[B·F]`, indices of the two reference frames int64 `[B·F, 2]`).
        """
        known = self._settled(conditions, conditions.may_be_padded)
        if known.features is None:
            raise ValueError("only a model that composes can tell how")
        h, seen = self._features(noisy, t, known)
        features, _ = self._moved(h, known.features, seen, t)
        composition = self.composer.compose(h, features, self._pixels(by_frame(seen)))
        return composition, reference_frames(known.given)[0].flatten(0, 1)

    def prepare(self, conditions: Conditions) -> Conditions:
        """The same conditions, with what stays the same over all steps of sampling.

        The host waits for the device.
        """
        return self._settled(conditions, not bool(conditions.valid.all()))

    def _settled(self, conditions: Conditions, padded: bool) -> Conditions:
        """Conditions of pixels alone: nothing is given in padded slots, and they are zero."""
        given, clean = conditions.given & conditions.valid, self._pixels(conditions.clean)
        if padded:
            clean = torch.where(conditions.valid[:, None, :, None, None], clean, 0.0)
        known = replace(conditions, given=given, clean=clean, padded=padded)
        if not self.config["compose"] or known.features is not None:
            return known
        moves = self.motion_channels > 0
        return replace(known, features=reference_features(known, self.config["patch"], moves))

    def _features(self, noisy: Tensor, t: Tensor, known: Conditions) -> tuple[Tensor, Tensor]:
        """Features `[B·F, C, h, w]`, and the noisy latents as the network sees them."""
        if noisy.shape[1] != self.state_channels:
            raise ValueError(
                f"noisy latents have {noisy.shape[1]} channels, this model takes "
                f"{self.state_channels}: those of the pixels and {self.motion_channels} of motion"
            )
        valid, features, padded = known.valid, known.features, bool(known.padded)
        if padded:
            noisy = torch.where(valid[:, None, :, None, None], noisy, 0.0)
        clip = ClipShape(valid.shape[0], valid.shape[1], valid, padded)
        embedding = self._condition(t, known)
        text_states, text_keys = self._text(known)

        # The noise is part of what "v" and "eps" ask for: there it is shown as it is.
        pixels, motion = noisy.split([known.clean.shape[1], self.motion_channels], dim=1)
        if self.config["prediction"] == "x":
            pixels = pixels * _estimate_scale(t, noisy, _DATA_STD)
        if features is not None and self.motion_channels:
            # Extrapolated frames are all motion, the others all pixels.
            extrapolated = features.extrapolated.view(len(pixels), 1, -1, 1, 1)
            motion = motion * _estimate_scale(t, motion, 1.0)  # data and noise alike
            pixels = torch.where(extrapolated, 0.0, pixels)
            motion = torch.where(extrapolated, motion, 0.0)
        seen = torch.cat([pixels, motion], dim=1)
        folded = by_frame(denoiser_input(pixels, known.clean, known.given))
        if features is not None:
            references = features.references.flatten(1, 2)
            folded = torch.cat([folded, references, features.matches, by_frame(motion)], dim=1)
        return self.run_unet(folded, embedding, text_states, text_keys, clip)[0], seen

    def _moved(
        self, h: Tensor, features: ReferenceFeatures, seen: Tensor, t: Tensor
    ) -> tuple[ReferenceFeatures, Tensor]:
        """The features with flows of extrapolated frames, and motion latents `[B·F, M, h, w]`.

        The network predicts a gain on the linear denoised estimate of the motion at each place, for
        much stands still, and a residual. The warp decoder takes motion as it is: what would make
        its pixels right on average is to move less.
        """
        estimate = by_frame(seen[:, seen.shape[1] - self.motion_channels :]).float()
        if not self.motion_channels:
            return features, estimate
        out = self.conv_motion(F.silu(self.norm_motion(h))).float()
        residual, gain = out.split([self.motion_channels, 1], dim=1)
        spread = _estimate_error(t).repeat_interleave(len(h) // len(t)).view(-1, 1, 1, 1)
        extrapolated = features.extrapolated[:, None, None, None]
        motion = torch.where(extrapolated, estimate * (1 + gain) + spread * residual, 0.0)
        flow = flow_of_motion(motion.detach())
        fine = F.interpolate(flow, size=features.flow.shape[-2:], mode="bilinear")
        flow = torch.where(extrapolated[..., None], fine[:, None], features.flow)
        return replace(features, flow=flow), motion

    def _composed(
        self, h: Tensor, features: ReferenceFeatures, seen: Tensor, known: Conditions
    ) -> Tensor:
        """The warp decoder's frames; on a CPU the hidden ones only, the others are as given."""
        rows = rows_of(known.valid & ~known.given)
        clean = by_frame(known.clean)
        if isinstance(rows, Tensor) and len(rows) == 0:
            return clean
        noisy = self._pixels(by_frame(seen))[rows]
        composed = self.run_block(self.composer, h[rows], pick_rows(features, rows), noisy)
        if not isinstance(rows, Tensor):
            return composed
        return clean.float().index_copy(0, rows, composed)

    def _pixels(self, latents: Tensor) -> Tensor:
        """The channels of the pixels."""
        return latents[:, : self.config["latent_channels"]]

    @property
    def state_channels(self) -> int:
        """Channels of what is noised and denoised: those of the pixels and of motion."""
        return int(self.config["latent_channels"]) + self.motion_channels

    @property
    def config_(self) -> Any:
        """The registered config, untyped: diffusers' FrozenDict has no static attributes.

        Not for the forward pass: torch.compile sees a dict there, without attributes.
        """
        return cast(Any, self.config)

    def _condition(self, t: Tensor, known: Conditions) -> Tensor:
        """Noise level, number of frames, mean duration → `[B, E]`."""
        dim, duration_ms = self.config["embedding_dim"], known.mean_duration_ms
        if duration_ms is None:
            duration_ms = torch.full_like(t, 100.0)
        numbers = torch.stack(
            [
                t.float() * 1000,
                known.valid.sum(dim=1).float() * 10,
                duration_ms.float().clamp(1, 60_000).log() * 100,
            ],
            dim=1,
        )
        embedded = sinusoidal_embedding(numbers, dim).flatten(1)
        return self.embed_condition(embedded.to(self.null_text.dtype))

    def _text(self, known: Conditions) -> tuple[Tensor, Tensor | None]:
        """Token states, and their mask; None where all may be read."""
        states, masks = joined_text(self.null_text, self.embed_text, known)
        masked = any(map(may_be_masked, masks[1:]))
        return states, torch.cat(masks, dim=1) if masked else None


def _estimate_scale(t: Tensor, like: Tensor, std: float) -> Tensor:
    """Turns noisy latents of a rectified flow into the best linear estimate of the clean ones.

    Where there is only noise the estimate is zero, so that a young network draws nothing that it
    takes for a picture; and it is on the scale of the given frames, which it is compared with
    (Wiener filter).

    Args:
        t: noise level, `[B]`; like: gives the type; std: of clean latents against noise.

    Returns:
        `[B, 1, 1, 1, 1]`.
    """
    t = t.float()[:, None, None, None, None]
    signal = (1 - t) * std**2
    return (signal / ((1 - t) * signal + t**2)).to(like.dtype)


def _estimate_error(t: Tensor) -> Tensor:
    """Spread of motion around that estimate, `[B]`."""
    t = t.float()
    return MOTION_STD * t / ((1 - t) ** 2 + t**2).sqrt()
