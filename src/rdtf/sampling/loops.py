"""Closing the loop of a finished clip with frames that a model makes."""

from __future__ import annotations

from typing import Any

from rdtf.errors import UserError
from rdtf.sampling.pipeline import StickerPipeline
from rdtf.sampling.requests import without_closing_copy
from rdtf.stickers import Sticker


def close_loop(
    pipeline: StickerPipeline, sticker: Sticker, num_frames: int | None = None, **sampling: Any
) -> Sticker:
    """`sticker` with new frames behind it that lead from its end back to its beginning.

    Its own frames stay as they are, at their size; a last frame that repeats the first is left out
    and its time given to the first. The clip gets longer by the new frames' time (each lasts the
    clip's median).

    Args:
        num_frames: how many to make, 1 or more. By default as many as the jump is usual steps too
            large (none if it is no jump), and at most half of the model's window.
        sampling: see `SamplingOptions`.

    Raises:
        UserError: a clip of one frame.
    """
    clip = without_closing_copy(sticker)
    if clip.num_frames < 2:
        raise UserError("a clip of one frame has no loop to close; give 2 or more, or generate")
    if num_frames is None:
        num_frames = min(round(clip.seam_error()), max(1, pipeline.max_frames // 2))
        if num_frames == 0:
            return clip
    sampling = {"output_size": "input", **sampling, "loop": True}
    closed = pipeline.predict(clip, after=num_frames, **sampling)
    return clip.replace(frames=closed.frames, durations_ms=closed.durations_ms)
