"""The studio's state as HTML: the macros of `assets/markup.html`, and the words that need logic."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from rdtf.app.job import Job, JobState
from rdtf.app.studio.storyboard import TASKS, Storyboard
from rdtf.fileio import size_text
from rdtf.stickers import Sticker, encode_sticker

_THUMBNAIL_SIDE = 96
_SHOWN_SIDE = 512


def _data_url(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"


def _picture(frame: np.ndarray, side: int = _THUMBNAIL_SIDE) -> str:
    """A data URL of one uint8 [H, W, 4] at `side` pixels or less."""
    still = Sticker(frame[None], np.array([100]))
    if max(still.width, still.height) > side:
        still = still.fit_canvas(side)
    return _data_url(encode_sticker(still, ".webp", method=0))


def _animation(clip: Sticker) -> str:
    """A data URL of a whole clip: every pixel if it is small."""
    if max(clip.width, clip.height) > _SHOWN_SIDE:
        clip = clip.fit_canvas(_SHOWN_SIDE)
    return _data_url(encode_sticker(clip, ".webp", method=1))


_templates = Environment(
    loader=PackageLoader("rdtf.app.studio", "assets"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
)
_templates.filters.update(
    data_url=_data_url, picture=_picture, animation=_animation, size_text=size_text
)
_macros = _templates.get_template("markup.html").module


def _macro(name: str) -> Callable[..., str]:
    return getattr(_macros, name)


heading, header, notice = _macro("heading"), _macro("header"), _macro("notice")
editor_strip, stage, variants = _macro("editor_strip"), _macro("stage"), _macro("variants")
export_table, export_preview = _macro("export_table"), _macro("export_preview")
history_cards, pack_cards = _macro("history_cards"), _macro("pack_cards")
pack_result, drawing_pad = _macro("pack_result"), _macro("drawing_pad")
tasks = partial(_macro("tasks"), TASKS)


def frame_strip(storyboard: Storyboard) -> str:
    """The frames of what is to be made; pressed = given."""
    slots, known = storyboard.slots(), storyboard.thumbnails
    if not slots:
        return _macro("hint")(f"{TASKS[storyboard.task]} starts from a clip: drop one above.")
    urls = []
    for slot in slots:
        if slot.picture is None:
            urls.append("")
        elif slot.source is None:
            urls.append(_picture(slot.picture))
        else:
            if slot.source not in known:
                known[slot.source] = _picture(slot.picture)
            urls.append(known[slot.source])
    return _macro("frame_strip")(slots, urls)


def strip_summary(storyboard: Storyboard) -> str:
    """What will be made, in one line."""
    slots = storyboard.slots()
    if not slots:
        return ""
    total, given = len(slots), sum(slot.given for slot in slots)
    if given == 0:
        words = f"All {total} frames are generated" if total > 1 else "One frame is generated"
        words += " from the text."
    elif given == total:
        words = f"{total} frames, none to generate yet."
        if storyboard.task == "fix":
            words += " Click the frames to generate again."
    else:
        words = f"{given} of {total} frames kept, {total - given} to generate."
    if storyboard.task == "animate" and storyboard.clip is not None:
        words += " Animate uses one frame of your clip; the other tasks keep them all."
    seconds = sum(slot.duration_ms for slot in slots) / 1000
    return _macro("hint")(f"{words} Total {seconds:g} s.", live=True)


def progress(job: Job, position: int) -> str:
    """Bar, words, and a preview; or why the job failed."""
    if job.error is not None:
        return notice(str(job.error))
    if job.state is JobState.QUEUED:
        words = f"Waiting: {position} before you" if position else "Starting…"
    elif job.state is JobState.IN_PROGRESS:
        words = f"Step {job.steps_done} of {job.steps_total}" if job.steps_total else "Starting…"
        if job.steps_total and job.steps_done == job.steps_total:
            words = "Finishing…"
    else:
        words = {JobState.COMPLETED: "Done", JobState.CANCELLED: "Cancelled"}.get(job.state, "")
    return _macro("progress")(job.progress, words, None if job.is_finished else job.preview)
