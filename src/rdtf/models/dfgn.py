"""The discrete frame generation network, DFGN (paper §3.2, overview figure).

A U-Net over the frames of a short clip (`models/unet.py`). It is told the noise level t, the number
of frames and their mean duration, and sees the dual mask's input: noisy latents, given latents, and
the condition mask as a channel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
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
from rdtf.models.layers import ClipShape, group_norm, sinusoidal_embedding, zero_init
from rdtf.models.loading import OwnMemory
from rdtf.models.unet import UNetLayers, embed_text_layers, joined_text
from rdtf.models.warp import Composition, WarpDecoder

# Spread of premultiplied sticker pixels in [-1, 1].
_DATA_STD = 0.7


class DFGN(OwnMemory, ModelMixin, UNetLayers, ConfigMixin):
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

    # ------------------------------------------------------------------ forward

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
            out = self.conv_out(nn.functional.silu(self.norm_out(h)))
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
        out = self.conv_motion(nn.functional.silu(self.norm_motion(h))).float()
        residual, gain = out.split([self.motion_channels, 1], dim=1)
        spread = _estimate_error(t).repeat_interleave(len(h) // len(t)).view(-1, 1, 1, 1)
        extrapolated = features.extrapolated[:, None, None, None]
        motion = torch.where(extrapolated, estimate * (1 + gain) + spread * residual, 0.0)
        flow = flow_of_motion(motion.detach())
        fine = nn.functional.interpolate(flow, size=features.flow.shape[-2:], mode="bilinear")
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

    # --------------------------------------------------------------- conditions

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
