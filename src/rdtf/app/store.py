"""The work folder: all that the server writes lies in it, under names that it chose itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from pathlib import Path

from rdtf.app.errors import DiskFullError
from rdtf.errors import UserError
from rdtf.fileio import ensure_folder, no_room, write_bytes

_LOCK = "rdtf-studio.lock"
_ROOMS = ("jobs", "sessions", "files", "tmp", "gradio")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}(\.[a-z0-9]{1,12})?")


class Store:
    """Files by (room, owner, name); clients never choose any of the three.

    Args:
        work: the folder. It is made if needed, belongs to one server at a time, and what an earlier
            one left in it is deleted.

    Raises:
        UserError: it can't be written, is in use, or holds something else.
    """

    def __init__(self, work: Path | str) -> None:
        self.work = ensure_folder(Path(work).resolve(), "work folder")
        entries = [path for path in self.work.iterdir() if path.name != _LOCK]
        if entries and not (self.work / _LOCK).exists():
            raise UserError(f"work folder {self.work} is not empty; name another with --work")
        self._lock = self._take_lock()
        for room in _ROOMS:
            shutil.rmtree(self.work / room, ignore_errors=True)
            (self.work / room).mkdir()

    def _take_lock(self) -> int:
        descriptor = os.open(self.work / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise UserError(f"work folder {self.work} is used by another studio") from error
        return descriptor

    def path(self, room: str, owner: str, name: str) -> Path:
        """Where a file lies; `ValueError` for anything that is not one of our own names."""
        if room not in _ROOMS or not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
            raise ValueError(f"{room}/{owner}/{name} is no name of this store")
        return self.work / room / owner / name

    def save(self, room: str, owner: str, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all.

        Raises:
            DiskFullError: there is no room.
        """
        path = self.path(room, owner, name)
        try:
            write_bytes(path, data)
        except UserError as error:
            if reason := no_room(error):
                raise DiskFullError(
                    f"the server can't store the result: {reason}; try again later"
                ) from error
            raise
        return path

    def read(self, room: str, owner: str, name: str) -> bytes:
        return self.path(room, owner, name).read_bytes()

    def delete(self, room: str, owner: str) -> None:
        """Delete everything of one owner; nothing happens if there is nothing."""
        shutil.rmtree(self.path(room, owner, "x").parent, ignore_errors=True)

    def delete_file(self, room: str, owner: str, name: str) -> None:
        with contextlib.suppress(OSError):
            self.path(room, owner, name).unlink()

    def is_writable(self) -> bool:
        return os.access(self.work / "jobs", os.W_OK | os.X_OK)

    def close(self) -> None:
        """Delete what was stored and give the folder back."""
        for room in _ROOMS:
            shutil.rmtree(self.work / room, ignore_errors=True)
        with contextlib.suppress(OSError):
            (self.work / _LOCK).unlink()
            os.close(self._lock)
