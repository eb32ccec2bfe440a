"""StickerPipeline: text, a still, or part of a clip in; a finished animated sticker out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from torch import Tensor

from rdtf.errors import ConfigError, UserError
from rdtf.method.objective import Objective
from rdtf.models.dfgn import DFGN
from rdtf.models.latents import LatentSpace
from rdtf.models.loading import own_memory, quiet
from rdtf.models.representation import Representation, as_representation
from rdtf.models.text import TextEncoders
from rdtf.sampling.acts import StageActs
from rdtf.sampling.jobs import Job, StepWatch, as_list, as_sticker, generators, one_each, paired
from rdtf.sampling.large import LargeFrames, PixelArt
from rdtf.sampling.moving import MotionWindow
from rdtf.sampling.options import (
    CALLBACK_TENSORS,
    CANNOT_DRAW,
    NO_MOTION,
    SamplingOptions,
    SamplingTable,
    StepEndCallback,
    text,
    whole,
)
from rdtf.sampling.requests import ClipRequest, Durations, visible, without_closing_copy
from rdtf.sampling.sampling import Encoded
from rdtf.sampling.schedulers import is_flow, objective_of, set_timesteps
from rdtf.sampling.windows import plan_stages
from rdtf.sampling.work import Work
from rdtf.stickers import Sticker
from rdtf.stickers.sticker import DEFAULT_DURATION_MS

# The model that ships: in the package, so that nothing is downloaded.
SHIPPED_MODEL = Path(__file__).parents[1] / "weights"
_HOST = torch.device("cpu")


class StickerPipeline(StageActs, DiffusionPipeline):
    """A diffusers pipeline over a DFGN.

    Every task is the same act: complete a clip of which some frames are given. The methods differ
    only in which. Clips longer than the model was trained on are filled window by window.

    Args:
        denoiser: the DFGN.
        autoencoder: the representation's module (`PixelPatches`, `RGBAAutoencoder`, or a public
            `AutoencoderKL`).
        text_encoders: the frozen text encoders.
        scheduler: a diffusers scheduler that fits the objective; exchangeable by its config.
        process: what the denoiser was trained on, "flow" or "ddpm"; by default the scheduler's.
        motion: a motion network (`MotionDFGN`); what lies beyond the given frames is then made by
            moving them, and the denoiser fills in between.
        predictor: a `MotionPredictor`, which says how the movement of several given frames goes on.
        recurrence: a `RecurrencePredictor`, which says which given frames come back instead; needs
            a predictor.
        drawer: a DFGN on single frames, which draws the first frame from text.
        sampling: default steps and guidance per family of tasks, as `model_index.json` keeps them;
            see `sampling_defaults`.
    """

    _optional_components: ClassVar[list[str]] = ["motion", "predictor", "recurrence", "drawer"]

    _callback_tensor_inputs = CALLBACK_TENSORS  # where diffusers' tools look for them
    model_cpu_offload_seq = (
        "text_encoders->drawer->motion->predictor->recurrence->denoiser->autoencoder"
    )

    denoiser: DFGN
    text_encoders: TextEncoders
    autoencoder: Any
    scheduler: Any
    motion: Any
    predictor: Any
    recurrence: Any
    drawer: Any
    _motion = property(lambda self: self.motion)
    _drawer = property(lambda self: self.drawer)
    _scheduler = property(lambda self: self.scheduler)
    _model_config = property(lambda self: self.denoiser.config_)

    def __init__(
        self,
        denoiser: Any,
        autoencoder: Any,
        text_encoders: Any,
        scheduler: Any,
        motion: Any = None,
        predictor: Any = None,
        recurrence: Any = None,
        drawer: Any = None,
        process: str | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        process = process or ("flow" if is_flow(scheduler) else "ddpm")
        if process == "ddpm" and denoiser.config_.compose:
            raise ConfigError("a model that composes needs a rectified flow, not the DDPM process")
        self.register_modules(
            denoiser=denoiser,
            autoencoder=autoencoder,
            text_encoders=text_encoders,
            scheduler=scheduler,
            motion=motion,
            predictor=predictor,
            recurrence=recurrence,
            drawer=drawer,
        )
        self._check_parts()
        table = SamplingTable.default(process, denoiser.config_.compose, motion is not None)
        if sampling is not None:
            table = SamplingTable.from_dict(sampling)
        self._num_timesteps, self._interrupt = 0, False
        self.register_to_config(process=process, sampling=table.to_dict())

    def _check_parts(self) -> None:
        """The motion network moves what the others make."""
        if self.recurrence is not None and self.predictor is None:
            raise ConfigError("a network that says which frames come back needs a predictor")
        if self.motion is None:
            if self.drawer is not None or self.predictor is not None:
                raise ConfigError("a network that draws or predicts needs one that moves stills")
            return
        for network in filter(None, (self.motion, self.predictor)):
            if (canvas := int(network.config_.canvas)) != self.canvas:
                raise ConfigError(f"motion is of {canvas} px, but the denoiser of {self.canvas} px")
        if self.drawer is not None:
            drawn = self.drawer.config_.latent_size * self.drawer.config_.patch
            if drawn != self.canvas:
                raise ConfigError(f"stills are drawn at {drawn} px, but moved at {self.canvas} px")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> Any:
        """Load what `save_pretrained` wrote (or `rdtf train`, in RUN/pipeline). Safetensors only.

        Without a path, the model that ships with the package; its card is in docs/model.md.

        Raises:
            UserError: no pipeline there.
        """
        path = Path(pretrained_model_name_or_path or SHIPPED_MODEL)
        if not (path / "model_index.json").is_file():  # diffusers would ask its hub
            what = "holds no saved pipeline" if path.exists() else "does not exist"
            raise UserError(f"{path} {what}; a run keeps its pipeline in RUN/pipeline")
        # Without the second, diffusers asks on stderr for a package that these sizes don't need.
        defaults = {"use_safetensors": True, "low_cpu_mem_usage": False}
        loaded = super().from_pretrained(str(path), **{**defaults, **kwargs})
        for component in loaded.components.values():
            own_memory(component)
        return loaded

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """As diffusers' own, without its warning that no module has to stay in float32."""
        with quiet("diffusers.models.modeling_utils"):
            return super().to(*args, **kwargs)

    # ------------------------------------------------------------- what it is

    @property
    def representation(self) -> Representation:
        return as_representation(self.autoencoder)

    @property
    def canvas(self) -> int:
        """Side of the square canvas in pixels."""
        return int(self._model_config.latent_size) * self.representation.downsampling

    @property
    def max_frames(self) -> int:
        """Frames of one window: the longest clip that was trained on."""
        return int(self._model_config.max_frames)

    @property
    def state_channels(self) -> int:
        """Channels of the latents that the denoiser is given: of the pixels, and of motion."""
        return int(self._model_config.latent_channels) + self._space.motion_channels

    @property
    def sampling_defaults(self) -> SamplingTable:
        """Family of tasks → the steps and guidance that are taken where none are given."""
        return SamplingTable.from_dict(cast(Any, self.config).sampling)

    @property
    def interrupt(self) -> bool:
        """Whether the running call is to stop: a callback sets `_interrupt`, as in diffusers."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Steps of the last call, or of the one that runs, over all its windows.

        A window that takes no sampling counts as one step.
        """
        return self._num_timesteps

    @property
    def draws(self) -> bool:
        """Whether it can do without a given frame; one that learned motion only can't."""
        if self.motion is not None:
            return self.drawer is not None
        return bool(getattr(self._model_config, "draws", True))

    @property
    def _space(self) -> LatentSpace:
        """What the denoiser noises and predicts."""
        return LatentSpace.of(self.denoiser)

    def _objective(self) -> Objective:
        """The training objective, read back from the scheduler and the denoiser."""
        process = cast(Any, self.config).process
        return objective_of(self.scheduler, self._model_config.prediction, process)

    # -------------------------------------------------------------- the tasks

    def __call__(
        self,
        prompt: str | Sequence[str | None] | None = None,
        image: Any = None,
        *,
        num_frames: int | None = None,
        image_index: int = 0,
        duration_ms: float = DEFAULT_DURATION_MS,
        num_stickers_per_prompt: int = 1,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        image_guidance_scale: float | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = CALLBACK_TENSORS,
        **sampling: Any,
    ) -> Sticker | list[Sticker]:
        """Generation: from text (t2v), a still (i2v), or both (it2v).

        Stickers of a batch are made one after the other: each is the same as alone.

        Args:
            prompt: what to show; None or "" = no text. A list gives a list of stickers.
            image: a still (sticker, path, PIL image, or `uint8 [H, W, 4]` RGBA), or a list of them,
                as long as that of the prompts. It becomes frame `image_index` and comes back
                unchanged at the model's canvas.
            num_frames: default 8 or what the model was trained on, whichever is less.
            duration_ms: how long each frame is shown; parts of milliseconds are spread.
            num_stickers_per_prompt: more than one gives a list; those of a prompt are neighbours.
            negative_prompt: one for all, or a list with one for each prompt.
            generator: one for all, or a list with one for each sticker.
            sampling: `loop=True` makes a loop; these and the others: see `SamplingOptions`.

        Returns:
            A `Sticker`, or a list of them if lists or more than one were given.

        Raises:
            UserError: an argument that does not fit; a `ValueError`.
            TypeError: an argument that there is not.
        """
        options = SamplingOptions.of(
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            image_guidance_scale=image_guidance_scale,
            negative_prompt=negative_prompt,
            generator=generator,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            **sampling,
        )
        per_prompt = whole("num_stickers_per_prompt", num_stickers_per_prompt, 1)
        frames = min(8, self.max_frames) if num_frames is None else num_frames

        def request(picture: Any) -> ClipRequest:
            if picture is None:
                return ClipRequest.blank(frames, (self.canvas, self.canvas), duration_ms)
            still = visible(as_sticker(picture).select([0]))
            return ClipRequest.place(still, [image_index], frames, duration_ms)

        pairs = paired(prompt, image)
        asked = [(request(picture), words) for words, picture in pairs for _ in range(per_prompt)]
        stickers = self._make(asked, options, per_prompt)
        several = per_prompt > 1 or as_list(prompt) is not None or as_list(image) is not None
        return stickers if several else stickers[0]

    def fill(
        self,
        sticker: Sticker | Sequence[np.ndarray] | str | Path,
        known: Sequence[int],
        *,
        prompt: str | None = None,
        num_frames: int | None = None,
        durations_ms: Durations | None = None,
        **sampling: Any,
    ) -> Sticker:
        """Keep the frames at `known`, make all others.

        If `sticker` holds just the given frames, they go to `known`, and `num_frames` (or the last
        of `known`) says how long the clip is.
        """
        request = ClipRequest.fill(visible(as_sticker(sticker)), known, num_frames, durations_ms)
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
        request = ClipRequest.interpolate(visible(as_sticker(sticker)), factor, loop)
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
        request = ClipRequest.predict(visible(as_sticker(sticker)), after, before)
        return self.complete(request, prompt, **sampling)

    def close_loop(
        self, sticker: Sticker | str | Path, num_frames: int | None = None, **sampling: Any
    ) -> Sticker:
        """The clip with new frames behind it that lead from its end back to its beginning.

        Its own frames stay as they are, at their size; a last frame that repeats the first is left
        out and its time given to the first. Each new frame lasts the clip's median.

        Args:
            num_frames: how many to make, 1 or more. By default as many as the jump is usual steps
                too large (none if it is no jump), and at most half of the model's window.
            sampling: see `SamplingOptions`.

        Raises:
            UserError: a clip of one frame.
        """
        clip = without_closing_copy(as_sticker(sticker))
        if clip.num_frames < 2:
            raise UserError("a clip of one frame has no loop to close; give 2 or more, or generate")
        if num_frames is None:
            num_frames = min(round(clip.seam_error()), max(1, self.max_frames // 2))
            if num_frames == 0:
                return clip
        sampling = {"output_size": "input", **sampling, "loop": True}
        closed = self.predict(clip, after=num_frames, **sampling)
        return clip.replace(frames=closed.frames, durations_ms=closed.durations_ms)

    # ------------------------------------------------------------ the one act

    def complete(self, request: ClipRequest, prompt: str | None = None, **sampling: Any) -> Sticker:
        """Make the frames of `request` that are not known.

        Args:
            request: the clip's slots, and which are known.
            prompt: text; None = the captions that the sticker carries, "" = none.
            sampling: see `SamplingOptions`.

        Returns:
            The clip; its known frames are those of the request (fitted to the canvas, if that is
            the output's size), pixel for pixel.
        """
        return self._make([(request, prompt)], SamplingOptions.of(**sampling))[0]

    def _make(
        self,
        asked: Sequence[tuple[ClipRequest, str | None]],
        options: SamplingOptions,
        per_prompt: int = 1,
    ) -> list[Sticker]:
        """A sticker for each request and prompt, one after the other."""
        negatives = one_each("negative_prompt", options.negative_prompt, len(asked), per_prompt)
        each = zip(asked, negatives, generators(options.generator, len(asked)), strict=True)
        jobs = [self._job(*pair, negative, options, source) for pair, negative, source in each]
        self._interrupt = False
        self._num_timesteps = sum(
            set_timesteps(self.scheduler, cast(int, options.num_inference_steps), _HOST)
            for job in jobs
            for options in job.sampled
        ) + sum(len(job.stages) - len(job.sampled) for job in jobs)
        with cast(Any, self).progress_bar(total=self._num_timesteps) as bar:
            watch = StepWatch(self, options, bar)
            stickers = [self._complete(job, watch) for job in jobs]
        self.maybe_free_model_hooks()
        return stickers

    def _job(
        self,
        request: ClipRequest,
        prompt: str | None,
        negative: str | None,
        options: SamplingOptions,
        generator: torch.Generator | None,
    ) -> Job:
        """What to do for one sticker; refuses what the model can't."""
        if not isinstance(request, ClipRequest):
            raise UserError(f"complete takes a request, not {type(request).__name__}")
        if not request.known.any() and not self.draws:
            raise UserError(CANNOT_DRAW)
        request, size, _ = request.sized(options.output_size, self.canvas)
        options = replace(options, output_size=size)
        keeps_size = size == "input" or request.frames.shape[1:3] == (self.canvas, self.canvas)
        guides_by_image = self.motion is None and self.draws
        if options.image_guidance_scale not in (None, 1.0) and not guides_by_image:
            message = "this model draws nothing that image guidance could guide"
            raise UserError(f"{message}; leave it at 1 (off)")
        if options.motion is not None and self.motion is None:
            raise UserError(NO_MOTION)
        if prompt is None and request.captions:
            prompt = request.captions[0]
        caption = text("prompt", prompt)
        motion = self._grammar_motion(request, caption, options)
        predicted = self._predicts(request, options)
        stages = plan_stages(
            request.known,
            longest=self.max_frames,
            longest_motion=self._longest_motion(request, motion, predicted),
            loop=options.loop,
        )
        defaults = self.sampling_defaults
        return Job(
            request=request,
            caption=caption,
            negative=text("negative_prompt", negative),
            options=options,
            stages=tuple((stage, options.resolved(defaults[stage.family])) for stage in stages),
            generator=generator,
            motion=motion,
            predicted=predicted,
            pixel_art=PixelArt.of(request) if keeps_size else None,
        )

    @torch.no_grad()
    def _complete(self, job: Job, watch: StepWatch) -> Sticker:
        """One sticker: stage by stage, each given what is there already."""
        request, size, art = job.request, job.options.output_size, job.pixel_art
        if art is not None:
            request, size = art.enlarged(request), "input"
        fitted = Sticker(request.frames, request.durations_ms).fit_canvas(self.canvas)
        work = Work(
            frames=fitted.frames.copy(),
            known=request.known.copy(),
            durations_ms=request.durations_ms,
            large=LargeFrames.of(request, size, self.canvas),
            text=self._encoded(job.caption),
            negative=self._encoded(job.negative),
        )
        for stage, options in job.stages:
            if watch.interrupted:
                break
            if stage.window is None:
                self._draw(work, job, options, watch)
            elif isinstance(stage.window, MotionWindow):
                self._move(work, stage.window, job, options, watch)
            else:
                self._fill(work, stage.window, job, options, watch)
        frames = work.frames
        if work.large is not None:
            frames = work.large.finished(request, size)
        if art is not None:
            frames = art.restored(frames, job.request)
        captions = (job.caption,) if job.caption else ()
        told = {} if job.motion is None else {"motion": job.motion.told}
        return Sticker(frames, request.durations_ms, captions=captions, metadata=told)

    def warm_up(self) -> None:
        """Encode one text, which loads the encoder, so that the first call does not wait."""
        self._encoded("a")

    def _encoded(self, caption: str) -> Encoded:
        """Token states and masks per encoder; nothing of an empty text."""
        return self.text_encoders.encode([caption]) if caption.strip() else ([], [])

    def decode_pixels(self, latents: Tensor) -> Tensor:
        """Latents `[1, C, F, h, w]` → premultiplied pixels in [-1, 1], `[F, 4, H, W]`."""
        return self._space.decode(self.representation, latents)
