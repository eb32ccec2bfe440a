"""Refusals: why a clip, a pack or an option does not go to a platform."""

from __future__ import annotations

from rdtf.errors import StickerError


class ExportError(StickerError):
    """The clip can't comply with the platform's rules; one line says why and what to do.

    Attributes:
        reason: a word for programs:
            "option" (an option that does not exist or does not fit),
            "empty" (nothing is visible), "still" (one picture, but the platform wants motion),
            "moving" (motion, but the platform wants one picture),
            "duration" (the clip's length is not one that the platform takes),
            "frames" (too few or too many frames remain),
            "bytes" (it doesn't get small enough), "quality" (what is small enough is too poor),
            "pack" (number, names or emojis of a pack),
            "validation" (the finished file failed its own check; a mistake of this program).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
