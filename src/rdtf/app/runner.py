"""The one place where a model runs: a pipeline, its lock, and previews of what it is making."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf.app.errors import ServiceError, UnavailableError
from rdtf.app.jobs import Watch
from rdtf.app.spec import JobSpec
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
        name: what clients call the model.
    """

    def __init__(self, source: Callable[[], Any] | Path | str | None, name: str = "rdtf") -> None:
        self._source, self.name = source, name
        self._lock = threading.Lock()
        self._loaded = threading.Event()
        self._pipeline: StickerPipeline | None = None
        self.failure: UserError | None = None

    # --------------------------------------------------------------------- loading

    def load(self) -> None:
        """Load the pipeline with its text encoder; a failure is kept and told to every job."""
        try:
            with self._lock:
                pipeline = self._load()
                pipeline.set_progress_bar_config(disable=True)
                pipeline.warm_up()
                self._pipeline = pipeline
        except UserError as error:
            self.failure = error
        except Exception as error:
            self.failure = UserError(f"the model can't be loaded: {error}")
        self._loaded.set()

    def _load(self) -> StickerPipeline:
        if callable(self._source):
            return self._source()
        from rdtf.training.run import load_pipeline

        return load_pipeline(self._source)

    def check(self, spec: JobSpec) -> None:
        """Refuse at once what the model can't do; while it is loading, nothing is known.

        Raises:
            ServiceError: text alone for a model that needs a picture; a named motion for one
                without a motion network.
        """
        pipeline = self._pipeline
        if pipeline is None:
            return
        if not spec.request.known.any() and not pipeline.draws:
            raise ServiceError(CANNOT_DRAW, param="input_reference")
        if spec.options.motion is not None and pipeline.components.get("motion") is None:
            raise ServiceError(NO_MOTION, param="motion")

    @property
    def is_ready(self) -> bool:
        return self._pipeline is not None

    def pipeline(self, timeout_s: float | None = None) -> StickerPipeline:
        """The loaded pipeline.

        Raises:
            UnavailableError: it is not there yet, or can't be loaded.
        """
        self._loaded.wait(timeout_s)
        if self.failure is not None:
            raise UnavailableError(str(self.failure), code="model_failed")
        if self._pipeline is None:
            raise UnavailableError("the model is still loading; try again", retry_after_s=3)
        return self._pipeline

    @property
    def canvas(self) -> int:
        return self.pipeline(0).canvas

    @property
    def max_frames(self) -> int:
        return self.pipeline(0).max_frames

    # --------------------------------------------------------------------- running

    def run(self, spec: JobSpec, watch: Watch) -> list[Sticker]:
        """One clip for each seed; cancelling is seen at the next denoising step."""
        import torch

        pipeline = self.pipeline()
        made: list[Sticker] = []
        steps = _Steps(pipeline, watch, len(spec.seeds))
        for variant, seed in enumerate(spec.seeds):
            watch.check()
            steps.begin(variant, spec.request.durations_ms)
            with self._lock:
                sticker = pipeline.complete(
                    spec.request,
                    spec.prompt,
                    **spec.options.arguments(),
                    generator=torch.Generator().manual_seed(seed),
                    callback=steps,
                )
            made.append(sticker)
        return made


class _Steps:
    """The sampling loop's callback: counts, draws previews now and then, hears of cancelling."""

    def __init__(self, pipeline: StickerPipeline, watch: Watch, variants: int) -> None:
        self._pipeline, self._watch, self._variants = pipeline, watch, variants
        self._done, self._variant, self._drawn_at = 0, 0, -_PREVIEW_EVERY_S
        self._before: tuple[int, float, Tensor] | None = None
        self._durations_ms: Any = None

    def begin(self, variant: int, durations_ms: Any) -> None:
        self._variant, self._durations_ms, self._before = variant, durations_ms, None

    def __call__(self, index: int, level: float, latents: Tensor) -> None:
        self._done += 1
        preview = None
        if self._watch.wants_preview:
            estimate = self._estimate(index, level, latents)
            now = time.monotonic()
            if now - self._drawn_at >= _PREVIEW_EVERY_S:
                self._drawn_at = now
                preview = self._draw(estimate)
        total = self._pipeline.num_timesteps * self._variants
        self._watch.step(self._done, total, preview, self._variant)

    def _estimate(self, index: int, level: float, latents: Tensor) -> Tensor:
        """Where the clip is heading. Along a flow two points give the straight line to its end."""
        before, self._before = self._before, (index, level, latents)
        scheduler = type(self._pipeline.scheduler).__name__
        if before is None or index != before[0] + 1 or "FlowMatchEuler" not in scheduler:
            return latents
        fall = before[1] - level
        return latents + (latents - before[2]) * (level / fall) if fall > 1e-6 else latents

    def _draw(self, latents: Tensor) -> bytes | None:
        """A preview; there is none of motion, nor of a still that is drawn before it moves."""
        from rdtf.sampling.moving import to_frames

        if latents.shape[1:2] != (self._pipeline.state_channels,):
            return None
        frames = to_frames(self._pipeline.decode_pixels(latents))
        clip = Sticker(frames, self._durations_ms[: len(frames)])
        if clip.width > _PREVIEW_SIDE:
            clip = clip.fit_canvas(_PREVIEW_SIDE)
        return encode_sticker(clip, ".webp", lossless=False, quality=70)
