"""Files that a visitor may download: each behind a name that can't be guessed."""

from __future__ import annotations

import re
import secrets
import threading
from dataclasses import dataclass

from rdtf.app.errors import NotFoundError
from rdtf.app.results import media_type
from rdtf.app.store import Store

_MAX_FILES_PER_SESSION = 64


@dataclass(frozen=True)
class ShelfFile:
    """One file: `name` is what it is called when it is saved."""

    owner: str
    stored_as: str
    name: str
    media_type: str


class Shelf:
    """Downloads of all sessions; the oldest of a session goes when it has too many."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, ShelfFile] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, data: bytes, stem: str, suffix: str) -> str:
        """Store a file; returns the token that it is fetched by.

        Raises:
            DiskFullError: there is no room.
        """
        token = secrets.token_hex(16)
        stored_as = f"{token}{suffix.lower()}"
        self._store.save("files", owner, stored_as, data)
        name = f"{safe_stem(stem)}{suffix}"
        with self._lock:
            self._files[token] = ShelfFile(owner, stored_as, name, media_type(suffix.lower()))
            own = [key for key, file in self._files.items() if file.owner == owner]
            doomed = [self._files.pop(key) for key in own[:-_MAX_FILES_PER_SESSION]]
        for file in doomed:
            self._store.delete_file("files", owner, file.stored_as)
        return token

    def get(self, token: str) -> tuple[bytes, ShelfFile]:
        """Content and description; `NotFoundError` if there is no such file any more."""
        file = self._files.get(token)
        try:
            if file is not None:
                return self._store.read("files", file.owner, file.stored_as), file
        except OSError:
            pass
        raise NotFoundError("there is no such file any more; export it again")

    def forget(self, owner: str) -> None:
        with self._lock:
            for token in [key for key, file in self._files.items() if file.owner == owner]:
                del self._files[token]
        self._store.delete("files", owner)


def safe_stem(text: str) -> str:
    """A name for a file from any text: ASCII letters, digits, `_` and `-`."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-_")[:40] or "sticker"
