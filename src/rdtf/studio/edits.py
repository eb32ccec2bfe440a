"""Edits of a clip, frame by frame: functions from clip to clip."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rdtf.errors import UserError
from rdtf.inference.requests import ClipRequest
from rdtf.stickers import Sticker


def delete(clip: Sticker, indices: Iterable[int]) -> Sticker:
    """Without these frames; at least one must stay."""
    gone = _checked(clip, indices)
    kept = [index for index in range(clip.num_frames) if index not in gone]
    if not kept:
        raise UserError("a clip needs at least one frame; keep one")
    return clip.select(kept)


def duplicate(clip: Sticker, indices: Iterable[int]) -> Sticker:
    """Each of these frames twice, with its time."""
    twice = _checked(clip, indices)
    order = [i for index in range(clip.num_frames) for i in [index] * (2 if index in twice else 1)]
    return clip.select(order)


def move(clip: Sticker, indices: Iterable[int], by: int) -> tuple[Sticker, list[int]]:
    """These frames `by` places later (negative: earlier), as far as there is room.

    Returns:
        The clip, and where the frames are now. They keep their order and their times.
    """
    moving = _checked(clip, indices)
    order = list(range(clip.num_frames))
    for _ in range(abs(by)):
        order = _step(order, set(moving), forward=by > 0)
    return clip.select(order), [place for place, index in enumerate(order) if index in moving]


def _step(order: list[int], moving: set[int], *, forward: bool) -> list[int]:
    order = order[::-1] if forward else order[:]
    for place in range(1, len(order)):
        if order[place] in moving and order[place - 1] not in moving:
            order[place - 1], order[place] = order[place], order[place - 1]
    return order[::-1] if forward else order


def reverse(clip: Sticker) -> Sticker:
    return clip.select(range(clip.num_frames - 1, -1, -1))


def retime(clip: Sticker, indices: Iterable[int], frame_ms: int) -> Sticker:
    """These frames shown for `frame_ms` milliseconds each."""
    if not 1 <= frame_ms <= 10_000:
        raise UserError(f"{frame_ms} ms for a frame are not 1 to 10000")
    durations = clip.durations_ms.copy()
    durations[_checked(clip, indices)] = frame_ms
    return clip.with_durations(durations)


def regenerate_request(clip: Sticker, indices: Iterable[int]) -> ClipRequest:
    """These frames to be made anew, all others given: what `StickerPipeline.fill` is asked."""
    hidden = _checked(clip, indices)
    known = np.ones(clip.num_frames, bool)
    known[hidden] = False
    if not known.any():
        raise UserError("leave at least one frame that the others can be made from")
    frames = clip.frames.copy()
    frames[hidden] = 0
    return ClipRequest(frames, known, clip.durations_ms, clip.captions)


def _checked(clip: Sticker, indices: Iterable[int]) -> Sequence[int]:
    chosen = sorted({int(index) for index in indices})
    if not chosen:
        raise UserError("choose a frame first: click on it in the strip")
    if chosen[0] < 0 or chosen[-1] >= clip.num_frames:
        raise UserError(f"there is no frame {chosen[-1] + 1}; there are {clip.num_frames}")
    return chosen
