"""The acts that a sticker is made of: draw its first frame, move frames, fill in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rdtf.models.conditions import Conditions
from rdtf.models.recurrence import RecurrencePredictor
from rdtf.sampling.jobs import Job, StepWatch
from rdtf.sampling.large import LargeFrames
from rdtf.sampling.moving import (
    MotionWindow,
    named_motion,
    predict_motion,
    sample_motion,
    to_frames,
    to_pixels,
)
from rdtf.sampling.options import NETWORK, SamplingOptions
from rdtf.sampling.requests import ClipRequest
from rdtf.sampling.sampling import (
    Encoded,
    Sampled,
    draw_still,
    own_precision,
    sample_traced,
)
from rdtf.sampling.windows import Window
from rdtf.sampling.work import Work
from rdtf.synthetic.grammar import MotionDraw
from rdtf.synthetic.verbs import VERBS, find_verb
from rdtf.synthetic.words import idle_motion, motion_of

# What drawing and moving take of the sampling options.
_STAGE_NUMBERS = ("num_inference_steps", "guidance_scale", "eta")


class StageActs:
    """What `StickerPipeline` does in each stage; needs its components."""

    def _grammar_motion(
        self: Any, request: ClipRequest, caption: str, options: SamplingOptions
    ) -> MotionDraw | None:
        """The motion that is asked for by name, or of a still by words, a gentle one if these name
        none. None = by a network."""
        if self._motion is None or options.motion == NETWORK:
            return None
        if options.motion is not None:
            found = None if options.motion in VERBS else motion_of(options.motion)
            return found or MotionDraw((find_verb(options.motion).name,))
        if request.known.sum() > 1 or not caption.strip():
            return None
        return motion_of(caption) or idle_motion()

    def _predicts(self: Any, request: ClipRequest, options: SamplingOptions) -> bool:
        """Whether several given frames are continued by the prediction network."""
        several = request.known.sum() > 1 and not options.loop
        return self.predictor is not None and options.motion is None and bool(several)

    def _longest_motion(
        self: Any, request: ClipRequest, motion: MotionDraw | None, predicted: bool
    ) -> int | None:
        """Frames that are moved together: the network's limit; the grammar has none."""
        if self._motion is None:
            return None
        if motion is not None:
            return max(2 * request.num_frames, 2)
        network = self.predictor if predicted else self._motion
        return int(network.config_.max_frames)

    def _draw(self: Any, work: Work, job: Job, options: SamplingOptions, watch: StepWatch) -> None:
        """The first frame, from text."""
        numbers = {name: options.sampling[name] for name in _STAGE_NUMBERS}
        pixels = draw_still(
            self._drawer,
            self._scheduler,
            work.text,
            work.negative,
            device=self._execution_device,
            generator=job.generator,
            callback=watch,
            **numbers,
        )
        work.made([0], to_frames(pixels[None]))

    def _move(
        self: Any,
        work: Work,
        window: MotionWindow,
        job: Job,
        options: SamplingOptions,
        watch: StepWatch,
    ) -> None:
        """Frames beyond the given ones, by moving one of them."""
        device = self._execution_device
        rows = [row for row, slot in enumerate(window.slots) if slot in window.make]
        pixels = to_pixels(work.frames[work.index(window.slots)]).to(device)
        anchor = window.slots.index(window.anchor)
        times_ms = work.times_ms(window.slots)
        if job.motion is not None:
            motion = named_motion(
                job.motion, pixels[anchor], anchor, times_ms, options.loop, job.generator
            )
        else:
            given = torch.tensor([slot in window.given for slot in window.slots], device=device)
            times = torch.from_numpy(times_ms).to(device)
            motion = (
                predict_motion(self.predictor, pixels, given, anchor, times, work.text)
                if job.predicted
                else sample_motion(
                    self._motion,
                    self._scheduler,
                    pixels,
                    given,
                    anchor,
                    times,
                    work.text,
                    work.negative,
                    generator=job.generator,
                    callback=watch,
                    **{name: options.sampling[name] for name in _STAGE_NUMBERS},
                )
            )
            if len(window.given) == 1 or options.loop:  # it goes on from nothing that leaves
                motion = motion.kept_in_canvas(pixels[anchor])
        if job.is_settled:
            motion = replace(motion, latents=watch(0, 0.0, motion.latents))
        reference, make = work.index([window.anchor]), work.index(window.make)
        returning = self._returning(work, window, job, options)
        for frames in [work.frames] + ([] if work.large is None else [work.large.frames]):
            moved = motion.frames(to_pixels(frames[reference])[0], rows, options.motion_scale)
            frames[make] = to_frames(moved)
            for slot, source in returning.items():
                frames[slot] = frames[source]
        work.known[make] = True

    def _returning(
        self: Any, work: Work, window: MotionWindow, job: Job, options: SamplingOptions
    ) -> dict[int, int]:
        """Those of a window's frames that are known ones once more, and which."""
        network: RecurrencePredictor | None = self.recurrence
        if not job.predicted or network is None or options.motion_scale != 1:
            return {}
        backwards = window.make[0] < window.anchor
        known = np.flatnonzero(work.known).tolist()  # all on one side
        given, hidden = (known, window.make[::-1]) if backwards else (known[::-1], window.make)
        slots = sorted([*given, *hidden])
        ends = np.append(work.times_ms(slots)[1:], work.times_ms([slots[-1] + 1]))
        shown_ms = dict(zip(slots, ends - work.times_ms(slots), strict=True))
        given = given[: network.places]
        chosen = network.choose(
            to_pixels(work.frames[given]),
            torch.tensor([shown_ms[slot] for slot in given]),
            torch.tensor([shown_ms[slot] for slot in hidden]),
            backwards=backwards,
        )
        pairs = zip(hidden, chosen, strict=True)
        return {slot: given[index] for slot, index in pairs if index is not None}

    def _fill(
        self: Any, work: Work, window: Window, job: Job, options: SamplingOptions, watch: StepWatch
    ) -> None:
        """A window of the denoiser: between given frames, or, alone in the pipeline, everything."""
        slots = work.index(window.slots)
        durations_ms = np.array(window.durations_ms(work.durations_ms.tolist()))
        conditions = self._conditions(
            work.frames[slots],
            work.known[slots],
            durations_ms,
            work.text,
            options.motion_scale,
        )
        sampled = self._sample(conditions, work.negative, job, options, watch)
        made = to_frames(self.decode_pixels(sampled.latents))
        kept = np.isin(window.slots, window.make)
        work.frames[slots[kept]] = made[kept]
        work.known[slots[kept]] = True
        if work.large is not None:
            self._enlarge(work.large, work.frames, slots, kept, sampled)

    def _sample(
        self: Any,
        conditions: Conditions,
        negative: Encoded,
        job: Job,
        options: SamplingOptions,
        watch: StepWatch,
    ) -> Sampled:
        """One window's latents."""
        noise = self._space.start_noise(conditions.clean, conditions.given, job.generator)
        return sample_traced(
            self.denoiser,
            self._objective(),
            self._scheduler,
            conditions,
            noise,
            negative=negative,
            generator=job.generator,
            callback=watch,
            **options.sampling,
        )

    def _enlarge(
        self: Any,
        large: LargeFrames,
        frames: np.ndarray,
        slots: np.ndarray,
        kept: np.ndarray,
        sampled: Sampled,
    ) -> None:
        """A window's made frames at the large size: moved pixels of the large given ones."""
        composes = self._model_config.compose and self.representation.name == "pixels"
        if not composes or not bool(sampled.conditions.given.any()):
            large.enlarge(slots[kept], frames[slots[kept]])
            return
        with own_precision(self.denoiser, sampled.last_noisy.device):
            composition, references = self.denoiser.composition(
                sampled.last_noisy, sampled.last_t, sampled.conditions
            )
        for row in np.flatnonzero(kept).tolist():
            pair = slots[references[row].tolist()]
            large.compose(
                int(slots[row]), pair, composition.rows(row), frames[pair], frames[slots[row]][None]
            )

    def _conditions(
        self: Any,
        frames: np.ndarray,
        known: np.ndarray,
        durations_ms: np.ndarray,
        text: Encoded,
        motion_scale: float,
    ) -> Conditions:
        """One window as the denoiser's conditions, batch of one."""
        device = self._execution_device
        pixels, is_known = to_pixels(frames).to(device), torch.from_numpy(known).to(device)
        clean, given = self._space.encode(self.representation, pixels, is_known)
        return Conditions(
            clean=clean,
            given=given,
            valid=torch.ones_like(given),
            mean_duration_ms=torch.tensor([float(durations_ms.mean())], device=device),
            text=text[0],
            text_mask=text[1],
            motion_scale=motion_scale,
        )
