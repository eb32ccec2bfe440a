"""The one error family that users see.

A `UserError` says in one line what is wrong, where, and what to do. The command line prints that
line and exits with status 2; a Python caller catches it like any `ValueError`.
"""

from __future__ import annotations


class UserError(ValueError):
    """The user's mistake, or a file that can't be used: one clear line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class StickerError(UserError):
    """A sticker file that can't be read, or that a budget refuses."""


class DataError(UserError):
    """A training set that is missing, damaged, or of another version."""


class ConfigError(UserError):
    """An option or preset that does not exist or does not fit."""


class CheckpointError(UserError):
    """A run directory or checkpoint that can't be loaded."""
