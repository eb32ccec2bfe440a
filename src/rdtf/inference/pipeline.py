"""StickerPipeline: text, a still, or part of a clip in; a finished animated sticker out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from rdtf.errors import UserError
from rdtf.inference.large import LargeFrames
from rdtf.inference.requests import (
    DEFAULT_DURATION_MS,
    ClipRequest,
    blank_request,
    fill_request,
    interpolate_request,
    place,
    predict_request,
)
from rdtf.inference.sampling import Conditions, Sampled, StepCallback, sample_traced
from rdtf.inference.windows import plan_windows
from rdtf.method.objective import Objective, ObjectiveConfig, build_objective
from rdtf.models.dfgn import DFGN
from rdtf.models.loading import own_memory
from rdtf.models.motion import shape_noise
from rdtf.models.representation import Representation, as_representation
from rdtf.models.text import TextEncoders
from rdtf.stickers import Sticker

# The model that ships: in the package, so that nothing is downloaded.
SHIPPED_MODEL = Path(__file__).parents[1] / "weights"
# Steps of the scheduler where most frames lie between given ones, where a clip goes on, and where
# one still or nothing is given; docs/model.md says what more or less of them give.
STEPS_BETWEEN, STEPS_BEYOND, DEFAULT_STEPS = 1, 2, 20
DEFAULT_GUIDANCE_SCALE = 2.0


class StickerPipeline(DiffusionPipeline):
    """A diffusers pipeline over a DFGN.

    Every task is the same act: complete a clip of which some frames are given. The methods differ
    only in which. Clips longer than the model was trained on are filled window by window.

    Args:
        denoiser: the DFGN.
        autoencoder: the representation's module (`PixelPatches`, `RGBAAutoencoder`, or a public
            `AutoencoderKL`).
        text_encoders: the frozen text encoders.
        scheduler: a diffusers scheduler that fits the objective; exchangeable by its config.
    """

    model_cpu_offload_seq = "text_encoders->denoiser->autoencoder"

    denoiser: DFGN
    text_encoders: TextEncoders

    def __init__(self, denoiser: Any, autoencoder: Any, text_encoders: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(
            denoiser=denoiser,
            autoencoder=autoencoder,
            text_encoders=text_encoders,
            scheduler=scheduler,
        )

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Load what `save_pretrained` wrote (or `rdtf train`, in RUN/pipeline). Safetensors only.

        Without a path, the model that ships with the package; its card is in docs/model.md.

        Raises:
            UserError: no pipeline there.
        """
        path = Path(pretrained_model_name_or_path or SHIPPED_MODEL)
        if path.exists() and not (path / "model_index.json").is_file():
            raise UserError(f"{path} holds no saved pipeline; a run keeps its own in RUN/pipeline")
        # Without the second, diffusers asks on stderr for a package that these sizes don't need.
        defaults = {"use_safetensors": True, "low_cpu_mem_usage": False}
        loaded = super().from_pretrained(str(path), **{**defaults, **kwargs})
        for component in loaded.components.values():
            own_memory(component)
        return loaded

    # ------------------------------------------------------------- what it is

    @property
    def representation(self) -> Representation:
        return as_representation(cast(Any, self).autoencoder)

    @property
    def canvas(self) -> int:
        """Side of the square canvas in pixels."""
        return int(self._model_config.latent_size) * self.representation.downsampling

    @property
    def max_frames(self) -> int:
        """Frames of one window: the longest clip that was trained on."""
        return int(self._model_config.max_frames)

    @property
    def _model_config(self) -> Any:
        return self.denoiser.config_

    @property
    def draws(self) -> bool:
        """Whether it can do without a given frame; one that learned motion only can't."""
        return bool(getattr(self._model_config, "draws", True))

    @property
    def _motion_channels(self) -> int:
        """Channels of motion latents behind those of the pixels; adapted U-Nets know none."""
        return int(getattr(self.denoiser, "motion_channels", 0))

    @property
    def _scheduler(self) -> Any:
        return cast(Any, self).scheduler

    def _objective(self) -> Objective:
        """The training objective, read back from the scheduler and the denoiser."""
        config = self._scheduler.config
        # Flow-matching schedulers, and others (UniPC, DPM-Solver++) that are set to a flow.
        is_flow = "FlowMatch" in type(self._scheduler).__name__
        if is_flow or config.get("prediction_type") == "flow_prediction":
            return build_objective(ObjectiveConfig("flow", self._model_config.prediction))
        return build_objective(
            ObjectiveConfig(
                "ddpm",
                self._model_config.prediction,
                num_train_timesteps=config.num_train_timesteps,
                beta_start=config.beta_start,
                beta_end=config.beta_end,
            )
        )

    # -------------------------------------------------------------- the tasks

    def __call__(
        self,
        prompt: str | None = None,
        image: Sticker | np.ndarray | str | Path | None = None,
        *,
        num_frames: int | None = None,
        image_index: int = 0,
        duration_ms: int = DEFAULT_DURATION_MS,
        num_stickers_per_prompt: int = 1,
        guidance_scale: float = DEFAULT_GUIDANCE_SCALE,
        **sampling: Any,
    ) -> Sticker | list[Sticker]:
        """Generation: from text (t2v), a still (i2v), or both (it2v).

        Args:
            prompt: what to show; None or "" = no text.
            image: a still, a path to one, or `uint8 [H, W, 4]` RGBA. It becomes frame
                `image_index` and comes back unchanged at the model's canvas.
            num_frames: default 8 or what the model was trained on, whichever is less.
            duration_ms: how long each frame is shown.
            num_stickers_per_prompt: more than one gives a list.
            guidance_scale: text guidance; 1 = off.
            sampling: see `complete`; `loop=True` makes a loop.

        Returns:
            A `Sticker`, or a list of them if more than one was asked for.
        """
        if not (prompt or "").strip() and image is None:
            raise UserError("nothing to start from: give a prompt, an image, or both")
        if num_frames is None:
            num_frames = min(8, self.max_frames)
        request = blank_request(num_frames, (self.canvas, self.canvas), duration_ms)
        if image is not None:
            still = _as_sticker(image).select([0])
            request = place(still, [image_index], num_frames, duration_ms)
        generator = sampling.pop("generator", None)
        stickers = [
            self.complete(
                request,
                prompt,
                guidance_scale=guidance_scale,
                generator=_nth_generator(generator, index),
                **sampling,
            )
            for index in range(num_stickers_per_prompt)
        ]
        return stickers[0] if num_stickers_per_prompt == 1 else stickers

    def fill(
        self,
        sticker: Sticker | Sequence[np.ndarray] | str | Path,
        known: Sequence[int],
        *,
        prompt: str | None = None,
        num_frames: int | None = None,
        durations_ms: Sequence[int] | int | None = None,
        **sampling: Any,
    ) -> Sticker:
        """Keep the frames at `known`, make all others.

        If `sticker` holds just the given frames, they are placed at `known` and `num_frames` (or
        the last of `known`) says how long the clip is.
        """
        request = fill_request(_as_sticker(sticker), known, num_frames, durations_ms)
        return self.complete(request, prompt, **sampling)

    def interpolate(
        self,
        sticker: Sticker | str | Path,
        factor: int = 2,
        *,
        prompt: str | None = None,
        loop: bool = False,
        **sampling: Any,
    ) -> Sticker:
        """`factor − 1` new frames between any two; the total time stays the same.

        With `loop` also between the last and the first. A last frame that repeats the first, as
        many files have, is left out then; its time goes to the first.
        """
        request = interpolate_request(_as_sticker(sticker), factor, loop)
        return self.complete(request, prompt, loop=loop, **sampling)

    def predict(
        self,
        sticker: Sticker | str | Path,
        after: int = 0,
        before: int = 0,
        *,
        prompt: str | None = None,
        **sampling: Any,
    ) -> Sticker:
        """`after` new frames behind the clip, `before` new ones in front of it.

        With `loop=True` they lead from its end back to its beginning.
        """
        request = predict_request(_as_sticker(sticker), after, before)
        return self.complete(request, prompt, **sampling)

    # ------------------------------------------------------------ the one act

    @torch.no_grad()
    def complete(
        self,
        request: ClipRequest,
        prompt: str | None = None,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float = 1.0,
        image_guidance_scale: float = 1.0,
        motion_scale: float = 1.0,
        generator: torch.Generator | None = None,
        callback: StepCallback | None = None,
        output_size: str | int = "canvas",
        loop: bool = False,
    ) -> Sticker:
        """Make the frames of `request` that are not known.

        Args:
            request: the clip's slots, and which are known.
            prompt: text; None = the captions that the sticker carries, "" = none.
            num_inference_steps: steps of the scheduler per window. None = 1 where most frames to
                make lie between given ones, which settle them, 2 where several given ones are gone
                on from, and 20 where motion has to be drawn from one still, or all from text.
            guidance_scale: how strongly to follow the text; 1 = off.
            image_guidance_scale: how strongly to follow the given frames; 1 = off.
            motion_scale: how much further than predicted things move where there is no given
                frame on both sides; 1 = as predicted.
            generator: a CPU generator gives the same sticker on every device.
            callback: called after each step with (index, noise level, latents).
            output_size: "canvas" = all frames at the model's canvas; "input" = at the size of the
                given frames, which then are the very pixels that came in; a number = a square of
                so many pixels. Above the canvas, made frames are composed of the given frames'
                own pixels, as far as they show what was given.
            loop: the last frame leads back to the first, which is not repeated at the end;
                `Sticker.seam_error` says how well it does.

        Returns:
            The clip; its known frames are those of the request (fitted to the canvas, if that is
            the output's size), pixel for pixel.
        """
        if not request.known.any() and not self.draws:
            raise UserError("this model only moves what it is given; give it a still (--image)")
        large = LargeFrames.of(request, output_size, self.canvas)
        if num_inference_steps is None:
            num_inference_steps = default_steps(request.known)
        if num_inference_steps < 1:
            raise UserError(f"steps must be at least 1, got {num_inference_steps}")
        caption = (request.captions[0] if request.captions else "") if prompt is None else prompt
        text, text_mask = self.text_encoders.encode([caption]) if caption.strip() else ([], [])
        fitted = Sticker(request.frames, request.durations_ms).fit_canvas(self.canvas)
        frames, known = fitted.frames.copy(), request.known.copy()

        for window in plan_windows(known.tolist(), self.max_frames, loop):
            slots = np.array(window.slots) % request.num_frames
            durations_ms = np.array(window.durations_ms(request.durations_ms.tolist()))
            conditions = self._conditions(
                frames[slots], known[slots], durations_ms, text, text_mask, motion_scale
            )
            shape = conditions.clean.shape
            noise = torch.randn(shape, generator=generator, device=_device_of(generator))
            noise = self._shaped(noise.to(conditions.clean.device), conditions.given)
            sampled = sample_traced(
                self.denoiser,
                self._objective(),
                self._scheduler,
                conditions,
                noise,
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                image_guidance_scale=image_guidance_scale,
                generator=generator,
                callback=callback,
            )
            made = self._decode(sampled.latents, durations_ms)
            kept = np.isin(window.slots, window.make)
            frames[slots[kept]] = made.frames[kept]
            known[slots[kept]] = True
            if large is not None:
                self._enlarge(large, frames, slots, kept, conditions, sampled)
        if large is not None:
            frames = large.finished(request, output_size)
        return Sticker(frames, request.durations_ms, captions=(caption,) if caption else ())

    def _enlarge(
        self,
        large: LargeFrames,
        frames: np.ndarray,
        slots: np.ndarray,
        kept: np.ndarray,
        conditions: Conditions,
        sampled: Sampled,
    ) -> None:
        """A window's made frames at the large size: moved pixels of the large given ones."""
        composes = self._model_config.compose and self.representation.name == "pixels"
        if not composes or not conditions.has_image:
            large.enlarge(slots[kept], frames[slots[kept]])
            return
        composition, references = conditions.predict(
            self.denoiser.composition, sampled.last_noisy, sampled.last_level
        )
        for row in np.flatnonzero(kept).tolist():
            pair = slots[references[row].tolist()]
            large.compose(
                int(slots[row]), pair, composition.rows(row), frames[pair], frames[slots[row]]
            )

    def _conditions(
        self,
        frames: np.ndarray,
        known: np.ndarray,
        durations_ms: np.ndarray,
        text: list[Tensor],
        text_mask: list[Tensor],
        motion_scale: float = 1.0,
    ) -> Conditions:
        """One window as the denoiser's conditions, batch of one."""
        device = self.device
        pixels = Sticker(frames, durations_ms).premultiplied() * 2 - 1
        encoded, _ = self.representation.encode(
            torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
        )
        given = torch.from_numpy(known)[None].to(device)
        clean = encoded.transpose(0, 1)[None].float()
        # Motion latents are zero in given frames.
        clean = torch.nn.functional.pad(clean, [0] * 6 + [0, self._motion_channels])
        return Conditions(
            clean=torch.where(given[:, None, :, None, None], clean, 0.0),
            given=given,
            valid=torch.ones_like(given),
            mean_duration_ms=torch.tensor([float(durations_ms.mean())], device=device),
            text=text,
            text_mask=text_mask,
            motion_scale=motion_scale if self._model_config.compose else 1.0,
        )

    def _shaped(self, noise: Tensor, given: Tensor) -> Tensor:
        """Noise as the denoiser knows it: that of motion latents is smooth."""
        if self._motion_channels == 0:
            return noise
        parts = [noise.shape[1] - self._motion_channels, self._motion_channels]
        pixels, motion = noise.split(parts, dim=1)
        return torch.cat([pixels, shape_noise(motion, given)], dim=1)

    def decode_pixels(self, latents: Tensor) -> Tensor:
        """Latents `[1, C, F, h, w]` → premultiplied pixels in [-1, 1], `[F, 4, H, W]`."""
        pixels = latents[0, : latents.shape[1] - self._motion_channels]
        return self.representation.decode(pixels.transpose(0, 1))

    def _decode(self, latents: Tensor, durations_ms: np.ndarray) -> Sticker:
        pixels = self.decode_pixels(latents)
        pixels = (pixels.float().clamp(-1, 1) + 1) / 2
        return Sticker.from_premultiplied(pixels.permute(0, 2, 3, 1).cpu().numpy(), durations_ms)


def default_steps(known: np.ndarray) -> int:
    """Sampling steps for a clip of which the frames `known`, bool `[F]`, are given."""
    given = np.flatnonzero(known)
    hidden = np.flatnonzero(~known)
    if len(given) < 2:
        return DEFAULT_STEPS
    between = (hidden > given[0]) & (hidden < given[-1])
    return STEPS_BETWEEN if between.sum() > len(hidden) / 2 else STEPS_BEYOND


def _as_sticker(source: Any) -> Sticker:
    """A sticker, a file, or RGBA array(s) `uint8 [H, W, 4]` → a sticker."""
    if isinstance(source, (str, Path)):
        return Sticker.load(source)
    if isinstance(source, (list, tuple)):
        source = np.stack(source)
    if isinstance(source, np.ndarray):
        frames = source[None] if source.ndim == 3 else source
        return Sticker(frames, np.full(len(frames), DEFAULT_DURATION_MS))
    if not isinstance(source, Sticker):
        raise UserError(f"a sticker, a file or RGBA frames are needed, not {type(source).__name__}")
    return source


def _nth_generator(generator: Any, index: int) -> Any:
    """One generator for all, or a list with one each."""
    return generator[index] if isinstance(generator, (list, tuple)) else generator


def _device_of(generator: torch.Generator | None) -> torch.device:
    return generator.device if generator is not None else torch.device("cpu")
