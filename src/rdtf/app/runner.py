"""The one place where a model runs: a pipeline, its lock, and previews of what it is making."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf.app.errors import ServiceError
from rdtf.app.job import Job, JobSpec
from rdtf.errors import UserError
from rdtf.sampling.options import CANNOT_DRAW, NO_MOTION
from rdtf.stickers import Sticker, encode_sticker

if TYPE_CHECKING:
    from torch import Tensor

    from rdtf.sampling.pipeline import StickerPipeline

_PREVIEW_EVERY_S = 0.3
_PREVIEW_SIDE = 192


class PipelineRunner:
    """Loads a pipeline in the background and makes clips with it.

    Args:
        source: a function that returns the pipeline, or the folder of a run or a saved pipeline;
            None = the model that ships.
    """

    name = "rdtf"  # what clients call the model

    def __init__(self, source: Callable[[], Any] | Path | str | None) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._loaded = threading.Event()
        self._pipeline: StickerPipeline | None = None
        self._failure: UserError | None = None

    def load(self) -> None:
        """Load the pipeline with its text encoder; a failure is kept and told to every job."""
        try:
            with self._lock:
                pipeline = self._load()
                pipeline.set_progress_bar_config(disable=True)
                pipeline.warm_up()
                self._pipeline = pipeline
        except UserError as error:
            self._failure = error
        except Exception as error:
            self._failure = UserError(f"the model can't be loaded: {error}")
        self._loaded.set()

    def _load(self) -> StickerPipeline:
        if callable(self._source):
            return self._source()
        from rdtf.training.run import load_pipeline

        return load_pipeline(self._source)

    def check(self, spec: JobSpec) -> None:
        """Refuse at once what the model can't do; while it is loading, nothing is known."""
        pipeline = self._pipeline
        if pipeline is None:
            return
        if not spec.request.known.any() and not pipeline.draws:
            raise ServiceError(CANNOT_DRAW, param="input_reference")
        if spec.options.motion is not None and pipeline.components.get("motion") is None:
            raise ServiceError(NO_MOTION, param="motion")

    def pipeline(self, timeout_s: float | None = None) -> StickerPipeline:
        """The loaded pipeline; `ServiceError` if it is not there yet, or can't be loaded."""
        self._loaded.wait(timeout_s)
        if self._failure is not None:
            raise ServiceError(str(self._failure), code="model_failed")
        if self._pipeline is None:
            message = "the model is still loading; try again"
            raise ServiceError(message, code="unavailable", retry_after_s=3)
        return self._pipeline

    def run(self, job: Job, changed: Callable[[], None]) -> list[Sticker]:
        """One clip for each seed; cancelling is seen at the next denoising step.

        Args:
            changed: called when there is more to tell of the job.
        """
        import torch

        pipeline, spec = self.pipeline(), job.spec
        job.steps_done, made = 0, []
        for seed in spec.seeds:
            job.check_cancelled()
            preview = _Preview(spec) if spec.previews else None

            def step(pipe: Any, index: int, t: Any, tensors: Any, preview: Any = preview) -> None:
                job.check_cancelled()
                job.steps_done += 1
                job.steps_total = pipe.num_timesteps * len(spec.seeds)
                if preview is not None:
                    job.preview = preview.drawn(pipe, float(t), tensors["latents"]) or job.preview
                changed()

            with self._lock:
                sticker = pipeline.complete(
                    spec.request,
                    spec.prompt,
                    **spec.options.arguments(),
                    generator=torch.Generator().manual_seed(seed),
                    callback_on_step_end=step,
                )
            made.append(sticker)
        return made


class _Preview:
    """Pictures of a clip on its way, now and then."""

    def __init__(self, spec: JobSpec) -> None:
        self._durations_ms = spec.request.durations_ms
        self._drawn_at = -_PREVIEW_EVERY_S
        self._before: tuple[float, Tensor] | None = None

    def drawn(self, pipe: StickerPipeline, timestep: float, latents: Tensor) -> bytes | None:
        """WebP after a step, or None: it is too early for the next, or there is nothing to see, as
        of motion, or of a still that is drawn before it moves."""
        from rdtf.sampling.moving import to_frames

        estimate = self._estimate(pipe, timestep, latents)
        now = time.monotonic()
        if now - self._drawn_at < _PREVIEW_EVERY_S:
            return None
        self._drawn_at = now
        if latents.shape[1:2] != (pipe.state_channels,):
            return None
        frames = to_frames(pipe.decode_pixels(estimate))
        clip = Sticker(frames, self._durations_ms[: len(frames)])
        if clip.width > _PREVIEW_SIDE:
            clip = clip.fit_canvas(_PREVIEW_SIDE)
        return encode_sticker(clip, ".webp", lossless=False, quality=70)

    def _estimate(self, pipe: StickerPipeline, timestep: float, latents: Tensor) -> Tensor:
        """Where the clip is heading. Along a flow two points give the straight line to its end."""
        before, self._before = self._before, (timestep, latents)
        if before is None or "FlowMatchEuler" not in type(pipe.scheduler).__name__:
            return latents
        fall = before[0] - timestep
        is_next = fall > 1e-3 and before[1].shape == latents.shape
        return latents + (latents - before[1]) * (timestep / fall) if is_next else latents
