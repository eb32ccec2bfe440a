"""The discrete frame generation network, DFGN (paper §3.2, overview figure).

A U-Net over the frames of a short clip. Every residual block is followed by a spatio-temporal
interaction layer; the coarser levels add attention within the frame and to the text. It is told
the noise level, the number of frames and their mean duration, and sees the dual mask's input:
noisy latents, given latents, and the condition mask as a channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from rdtf.method.dual_mask import denoiser_input
from rdtf.models.composer import NUM_REFERENCES, Composition, FrameComposer, reference_frames
from rdtf.models.guide import (
    NUM_HINTS,
    Guide,
    Known,
    by_frame,
    guide_by,
    may_be_padded,
    rows_of,
    without_padding,
)
from rdtf.models.layers import (
    ClipShape,
    ResidualBlock,
    SpatialTransformer,
    group_norm,
    sinusoidal_embedding,
    zero_init,
)
from rdtf.models.loading import OwnMemory
from rdtf.models.motion import MOTION_CHANNELS, flow_of_motion
from rdtf.models.sti import NoTemporalLayer, SpatioTemporalInteraction, TemporalConvolution
from rdtf.models.wiener import guess_error, input_scale

# Spread of premultiplied sticker pixels in [-1, 1].
_DATA_STD = 0.7


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


class DFGN(OwnMemory, ModelMixin, ConfigMixin):
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
        compose: move pixels of the given frames (`models/composer.py`); needs prediction "x".
        refine_widths: channels of the composer's refinement stages, coarse to fine.
        motion: latents for motion beyond the given frames (`models/motion.py`), by which the
            composer moves pixels: "none"; "joint": diffused together with the pixels; "alone":
            there only motion is diffused, and what the network draws follows from it, which a
            small network does more cleanly.
        patch: how many pixels a latent cell folds per side; the composer warps unfolded.
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
        config: Any = self.config
        self.gradient_checkpointing = False
        input_channels = 2 * latent_channels + 1
        if compose:
            input_channels += NUM_REFERENCES * latent_channels
            input_channels += NUM_HINTS
        self.motion_channels = MOTION_CHANNELS if compose and motion != "none" else 0
        input_channels += self.motion_channels

        self.embed_condition = nn.Sequential(
            nn.Linear(3 * embedding_dim, embedding_dim),
            nn.SiLU(),
            nn.Linear(embedding_dim, embedding_dim),
        )
        self.embed_text = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, 2 * text_dim), nn.SiLU(), nn.Linear(2 * text_dim, text_dim)
            )
            for width in text_widths
        )
        self.null_text = nn.Parameter(torch.zeros(1, 1, text_dim))
        self.conv_in = nn.Conv2d(input_channels, channels[0], 1)

        self.down, self.downsample = nn.ModuleList(), nn.ModuleList()
        skips = [channels[0]] if extra_up_stage else []
        width = channels[0]
        for level, out in enumerate(channels):
            for _ in range(layers_per_level):
                self.down.append(Stage(width, out, level in attention_levels, config))
                width = out
                skips.append(width)
            if level < len(channels) - 1:
                self.downsample.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
                skips += [width] * extra_up_stage

        self.middle = nn.ModuleList(Stage(width, width, True, config) for _ in range(2))

        self.up, self.upsample = nn.ModuleList(), nn.ModuleList()
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(layers_per_level + extra_up_stage):
                self.up.append(Stage(width + skips.pop(), out, level in attention_levels, config))
                width = out
            if level > 0:
                self.upsample.append(nn.Conv2d(width, width, 3, padding=1))

        if compose:
            self.composer = FrameComposer(width, latent_channels, patch, tuple(refine_widths))
            if self.motion_channels:
                self.norm_motion = group_norm(width)
                self.conv_motion = zero_init(nn.Conv2d(width, MOTION_CHANNELS + 1, 3, padding=1))
        else:
            self.norm_out = group_norm(width)
            self.conv_out = zero_init(nn.Conv2d(width, latent_channels, 3, padding=1))

    # ------------------------------------------------------------------ forward

    def forward(
        self,
        noisy: Tensor,
        level: Tensor,
        *,
        clean: Tensor,
        given: Tensor,
        valid: Tensor,
        text: list[Tensor] | Tensor | None = None,
        text_mask: list[Tensor] | Tensor | None = None,
        mean_duration_ms: Tensor | None = None,
        motion_scale: float = 1.0,
        motion_only: bool = False,
        known: Known | None = None,
    ) -> Tensor:
        """Predict `x`, `v` or `eps` (see `prediction`) for every frame.

        Args:
            noisy: latents at noise level `level`, `[B, C + M, F, h, w]`; behind the C channels of
                the pixels follow the M = 2 of motion, if the model has them.
            level: noise level in [0, 1], `[B]`.
            clean: clean latents; only the pixels of given frames are read.
            given, valid: condition and validity mask, bool `[B, F]`, given ≤ valid.
            text, text_mask: token states `[B, T, D]` and bool `[B, T]` per encoder; a mask that is
                all False means no text.
            mean_duration_ms: mean frame duration, `[B]`; 100 ms if absent.
            motion_scale: how much further than predicted things move in frames that do not lie
                between given ones. Only a model that composes knows what moves.
            motion_only: predict motion latents and no pixels, `[B, M, F, h, w]`.
            known: what `prepare` found of the same conditions, or what else is known of them.

        Returns:
            `[B, C + M, F, h, w]`. Frames outside `valid` hold nothing meaningful.
        """
        told = (text, text_mask, mean_duration_ms)
        padded = may_be_padded(valid, known)
        given, noisy, clean = self._inputs(given, valid, noisy, clean, padded)
        guide = self._guide(clean, given, valid, motion_scale, known)
        h, seen = self._features(noisy, level, clean, given, valid, padded, guide, *told)
        if guide is None:
            out = self.conv_out(nn.functional.silu(self.norm_out(h)))
        else:
            guide, out = self._moved(h, guide, seen, level)
            if motion_only:
                # So that all parameters take part in every step, as data-parallel training needs.
                out = out + 0.0 * sum(parameter.sum() for parameter in self.composer.parameters())
            else:
                pixels = self._composed(h, guide, seen, clean, valid & ~given)
                out = torch.cat([pixels, out.to(pixels.dtype)], dim=1)
        return out.unflatten(0, valid.shape).transpose(1, 2)

    @apply_forward_hook
    def composition(
        self,
        noisy: Tensor,
        level: Tensor,
        *,
        clean: Tensor,
        given: Tensor,
        valid: Tensor,
        text: list[Tensor] | Tensor | None = None,
        text_mask: list[Tensor] | Tensor | None = None,
        mean_duration_ms: Tensor | None = None,
        motion_scale: float = 1.0,
        known: Known | None = None,
    ) -> tuple[Composition, Tensor]:
        """How `forward` puts each frame together, to do the same at another resolution.

        Args are those of `forward`; the model must have been built with `compose`.

        Returns:
            (composition with rows `[B·F]`, indices of the two reference frames int64 `[B·F, 2]`).
        """
        padded = may_be_padded(valid, known)
        given, noisy, clean = self._inputs(given, valid, noisy, clean, padded)
        guide = self._guide(clean, given, valid, motion_scale, known)
        if guide is None:
            raise ValueError("only a model that composes can tell how")
        told = (text, text_mask, mean_duration_ms)
        h, seen = self._features(noisy, level, clean, given, valid, padded, guide, *told)
        guide, _ = self._moved(h, guide, seen, level)
        composition = self.composer.compose(
            h,
            self.composer.unfold(guide.references),
            guide.distances,
            guide.flow,
            self._pixels(by_frame(seen)),
            guide.between,
            guide.motion_scale,
        )
        return composition, reference_frames(given)[0].flatten(0, 1)

    def prepare(
        self, *, clean: Tensor, given: Tensor, valid: Tensor, motion_scale: float = 1.0
    ) -> dict[str, Known]:
        """What stays the same over all steps of sampling, as arguments of `forward`.

        Args are those of `forward`. The host waits for the device.
        """
        padded = not bool(valid.all())
        given, _, clean = without_padding(given, valid, clean, clean, padded)
        guide = self._guide(self._pixels(clean), given, valid, motion_scale)
        return {"known": Known(padded, guide)}

    def _features(
        self,
        noisy: Tensor,
        level: Tensor,
        clean: Tensor,
        given: Tensor,
        valid: Tensor,
        padded: bool,
        guide: Guide | None,
        text: list[Tensor] | Tensor | None,
        text_mask: list[Tensor] | Tensor | None,
        mean_duration_ms: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Features `[B·F, C, h, w]`, and the noisy latents as the network sees them."""
        clip = ClipShape(valid.shape[0], valid.shape[1], valid, padded)
        embedding = self._condition(level, valid, mean_duration_ms)
        text_states, text_keys = self._text(text, text_mask, clip.batch)

        # The noise is part of what "v" and "eps" ask for: there it is shown as it is.
        pixels, motion = noisy.split([clean.shape[1], self.motion_channels], dim=1)
        if self.config["prediction"] == "x":
            pixels = pixels * input_scale(level, noisy, _DATA_STD)
        if guide is not None and self.motion_channels:
            pixels, motion = self._seen_beyond(pixels, motion, level, guide)
        seen = torch.cat([pixels, motion], dim=1)
        folded = by_frame(denoiser_input(pixels, clean, given))
        if guide is not None:
            folded = torch.cat(
                [folded, guide.references.flatten(1, 2), guide.hints, by_frame(motion)], dim=1
            )
        return self._unet(folded, embedding, text_states, text_keys, clip), seen

    def _seen_beyond(
        self, pixels: Tensor, motion: Tensor, level: Tensor, guide: Guide
    ) -> tuple[Tensor, Tensor]:
        """Motion counts beyond the given frames; if it is alone there, noisy pixels don't."""
        beyond = guide.beyond.view(len(pixels), 1, -1, 1, 1)
        motion = motion * input_scale(level, motion, 1.0)  # data and noise alike
        if self.config["motion"] == "alone":
            pixels = torch.where(beyond, 0.0, pixels)
        return pixels, torch.where(beyond, motion, 0.0)

    def _moved(self, h: Tensor, guide: Guide, seen: Tensor, level: Tensor) -> tuple[Guide, Tensor]:
        """The guide with flows beyond the given frames, and motion latents `[B·F, M, h, w]`.

        The network says how much of the linear guess from the noisy motion to believe at each
        place, for much stands still, and what it lacks. The composer takes motion as it is: what
        would make its pixels right on average is to move less.
        """
        guess = by_frame(seen[:, seen.shape[1] - self.motion_channels :]).float()
        if not self.motion_channels:
            return guide, guess
        out = self.conv_motion(nn.functional.silu(self.norm_motion(h))).float()
        lacks, belief = out.split([self.motion_channels, 1], dim=1)
        spread = guess_error(level).repeat_interleave(len(h) // len(level)).view(-1, 1, 1, 1)
        beyond = guide.beyond[:, None, None, None]
        motion = torch.where(beyond, guess * (1 + belief) + spread * lacks, 0.0)
        flow = flow_of_motion(motion.detach())
        fine = nn.functional.interpolate(flow, size=guide.flow.shape[-2:], mode="bilinear")
        flow = torch.where(beyond[..., None], fine[:, None], guide.flow)
        return replace(guide, flow=flow), motion

    def _inputs(
        self, given: Tensor, valid: Tensor, noisy: Tensor, clean: Tensor, padded: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        if noisy.shape[1] != self.state_channels:
            raise ValueError(
                f"noisy latents have {noisy.shape[1]} channels, this model takes "
                f"{self.state_channels}: those of the pixels and {self.motion_channels} of motion"
            )
        given, noisy, clean = without_padding(given, valid, noisy, clean, padded)
        return given, noisy, self._pixels(clean)

    def _pixels(self, latents: Tensor) -> Tensor:
        """The channels of the pixels."""
        return latents[:, : self.config["latent_channels"]]

    @property
    def state_channels(self) -> int:
        """Channels of what is noised and denoised: those of the pixels and of motion."""
        return int(self.config["latent_channels"]) + self.motion_channels

    def _guide(
        self,
        clean: Tensor,
        given: Tensor,
        valid: Tensor,
        motion_scale: float,
        known: Known | None = None,
    ) -> Guide | None:
        """What the given frames say, for a network that composes."""
        if not self.config["compose"]:
            return None
        if known is not None and known.guide is not None:
            return known.guide
        patch, moves = self.config["patch"], self.motion_channels > 0
        return guide_by(clean, given, valid, motion_scale, patch=patch, moves=moves)

    def _composed(
        self, h: Tensor, guide: Guide, seen: Tensor, clean: Tensor, hidden: Tensor
    ) -> Tensor:
        """The composer's frames; on a CPU the hidden ones only, the others are as given."""
        rows = rows_of(hidden)
        clean = by_frame(clean)
        if isinstance(rows, Tensor) and len(rows) == 0:
            return clean
        parts = (
            h,
            guide.references,
            guide.distances,
            guide.flow,
            self._pixels(by_frame(seen)),
            guide.between,
            guide.motion_scale,
        )
        composed = self._run(self.composer, *(part[rows] for part in parts))
        if not isinstance(rows, Tensor):
            return composed
        return clean.float().index_copy(0, rows, composed)

    @property
    def config_(self) -> Any:
        """The registered config, untyped: diffusers' FrozenDict has no static attributes.

        Not for the forward pass: torch.compile sees a dict there, without attributes.
        """
        return cast(Any, self.config)

    def _unet(
        self, x: Tensor, embedding: Tensor, text: Tensor, mask: Tensor | None, clip: ClipShape
    ) -> Tensor:
        config = self.config
        extra_up_stage, num_levels = config["extra_up_stage"], len(config["channels"])
        h = self.conv_in(x)
        skips = [h] if extra_up_stage else []
        per_level = config["layers_per_level"]
        for index, stage in enumerate(self.down):
            h = self._run(stage, h, embedding, text, mask, clip)
            skips.append(h)
            level, last_of_level = index // per_level, (index + 1) % per_level == 0
            if last_of_level and level < num_levels - 1:
                h = self.downsample[level](h)
                skips += [h] if extra_up_stage else []

        for stage in self.middle:
            h = self._run(stage, h, embedding, text, mask, clip)

        per_level += extra_up_stage
        for index, stage in enumerate(self.up):
            h = torch.cat([h, skips.pop()], dim=1)
            h = self._run(stage, h, embedding, text, mask, clip)
            level, last_of_level = index // per_level, (index + 1) % per_level == 0
            if last_of_level and level < num_levels - 1:
                # The grid of the skip that comes next, so that odd sizes fit as well.
                h = nn.functional.interpolate(h, size=skips[-1].shape[-2:], mode="nearest")
                h = self.upsample[level](h)
        return h

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        """A block, recomputed in the backward pass if gradient checkpointing is on."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            checkpoint: Any = self._gradient_checkpointing_func
            return checkpoint(block, *inputs)
        return block(*inputs)

    # --------------------------------------------------------------- conditions

    def _condition(self, level: Tensor, valid: Tensor, duration_ms: Tensor | None) -> Tensor:
        """Noise level, number of frames, mean duration → `[B, E]`."""
        dim = self.config["embedding_dim"]
        if duration_ms is None:
            duration_ms = torch.full_like(level, 100.0)
        numbers = torch.stack(
            [
                level.float() * 1000,
                valid.sum(dim=1).float() * 10,
                duration_ms.float().clamp(1, 60_000).log() * 100,
            ],
            dim=1,
        )
        embedded = sinusoidal_embedding(numbers, dim).flatten(1)
        return self.embed_condition(embedded.to(self.null_text.dtype))

    def _text(
        self,
        text: list[Tensor] | Tensor | None,
        text_mask: list[Tensor] | Tensor | None,
        batch: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Token states of all encoders joined behind a learned null token that is always there.

        The mask is None where all may be read.
        """
        states = [self.null_text.expand(batch, -1, -1)]
        masks = [torch.ones(batch, 1, dtype=torch.bool, device=states[0].device)]
        texts = [text] if isinstance(text, Tensor) else text or []
        text_masks = [text_mask] if isinstance(text_mask, Tensor) else text_mask or []
        for embed, state, mask in zip(self.embed_text, texts, text_masks, strict=False):
            states.append(embed(state.to(self.null_text.dtype)))
            masks.append(mask)
        mask = torch.cat(masks, dim=1) if any(map(may_be_padded, masks[1:])) else None
        return torch.cat(states, dim=1), mask


def _temporal_layer(channels: int, config: Any) -> nn.Module:
    if config.temporal_layer == "none":
        return NoTemporalLayer()
    kernel = tuple(config.sti_kernel)
    if config.temporal_layer == "conv3d":
        return TemporalConvolution(channels, kernel, config.sti_conv_layers)
    return SpatioTemporalInteraction(
        channels, config.sti_heads, config.sti_head_dim, kernel, config.sti_conv_layers
    )
