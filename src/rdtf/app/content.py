"""The files of a completed job."""

from __future__ import annotations

from typing import Literal

from rdtf.app.core import clip_of, result_of
from rdtf.app.errors import NotFoundError
from rdtf.app.jobs import Job
from rdtf.stickers import encode_sticker

Variant = Literal["video", "thumbnail", "spritesheet"]


def content_of(job: Job, variant: Variant = "video") -> tuple[bytes, str, str]:
    """Bytes, media type and suffix.

    Raises:
        NotReadyError: the job is not completed.
        NotFoundError: it has just expired.
    """
    if variant == "video":
        result = result_of(job)
        try:
            return result.path.read_bytes(), result.media_type, result.suffix
        except OSError as error:
            raise NotFoundError("there is no such video; it may have expired") from error
    clip = clip_of(job)
    if variant == "thumbnail":
        return encode_sticker(clip.select([0]), ".png"), "image/png", ".png"
    from rdtf.stickers.export import export_sticker

    return export_sticker(clip, "sheet").data, "image/png", ".png"
