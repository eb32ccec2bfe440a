"""The work folder: all that the server writes lies in it, under names that it chose itself."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rdtf.app.errors import ServiceError
from rdtf.errors import UserError
from rdtf.fileio import ensure_folder, no_room, write_bytes
from rdtf.stickers import Sticker, decode_sticker, encode_sticker

if TYPE_CHECKING:
    from rdtf.app.job import Job
    from rdtf.stickers.export import Export

_LOCK = "rdtf-studio.lock"
_DATABASE = "jobs.sqlite"
_ROOMS = ("jobs", "sessions", "files", "tmp", "gradio")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}(\.[a-z0-9]{1,12})?")


class Store:
    """Files by (room, owner, name), and one row of JSON for each job that survives a restart.

    Clients never choose a room, an owner or a name.

    Args:
        work: the folder, of mode 700. It is made if needed and belongs to one server at a time. Of
            what an earlier server left in it, the jobs with a row are kept and all else is deleted.
    """

    def __init__(self, work: Path | str) -> None:
        self.work = ensure_folder(Path(work).resolve(), "work folder")
        entries = [path for path in self.work.iterdir() if path.name != _LOCK]
        if entries and not (self.work / _LOCK).exists():
            raise UserError(f"work folder {self.work} is not empty; name another with --work")
        self._lock = self._take_lock()
        self.work.chmod(0o700)
        self._database = self._open_database()
        self._delete_leftovers()
        for room in _ROOMS:
            (self.work / room).mkdir(mode=0o700, exist_ok=True)

    def _take_lock(self) -> int:
        descriptor = os.open(self.work / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"work folder {self.work} is used by another studio; name another with --work"
            ) from error
        return descriptor

    def _open_database(self) -> sqlite3.Connection:
        """Rows in the order of submission. A file that is no database is replaced by a new one."""
        path = self.work / _DATABASE
        table = "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, row TEXT NOT NULL)"
        for _ in range(2):
            database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            try:
                database.execute(table)
                database.execute("SELECT count(id) FROM jobs").fetchone()
                return database
            except sqlite3.OperationalError as error:
                raise UserError(f"{path} can't be opened: {error}") from error
            except sqlite3.DatabaseError:
                database.close()
                path.unlink(missing_ok=True)
        raise UserError(f"{path} can't be written; name another folder with --work")

    def _delete_leftovers(self) -> None:
        """Everything but the files of jobs that have a row."""
        kept = {job_id for job_id, _ in self.rows()}
        for room in _ROOMS[1:]:
            shutil.rmtree(self.work / room, ignore_errors=True)
        jobs = self.work / "jobs"
        for folder in jobs.iterdir() if jobs.is_dir() else ():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Id and row of every stored job, the oldest first."""
        found = self._database.execute("SELECT id, row FROM jobs ORDER BY rowid")
        return [(job_id, json.loads(row)) for job_id, row in found.fetchall()]

    def save_row(self, job_id: str, row: dict[str, Any]) -> None:
        """Write or replace the row of a job."""
        command = (
            "INSERT INTO jobs (id, row) VALUES (?, ?) "
            "ON CONFLICT (id) DO UPDATE SET row = excluded.row"
        )
        try:
            self._database.execute(command, (job_id, json.dumps(row)))
        except sqlite3.Error as error:
            message = f"the server can't store the job: {error}"
            raise ServiceError(message, code="disk_full") from error

    def delete_job(self, job_id: str) -> None:
        """Delete the row and the files of a job."""
        with contextlib.suppress(sqlite3.Error):  # without its files it is dropped at the restart
            self._database.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        self.delete("jobs", job_id)

    def path(self, room: str, owner: str, name: str) -> Path:
        """Where a file lies; `ValueError` for anything that is not one of our own names."""
        if room not in _ROOMS or not _NAME.fullmatch(owner) or not _NAME.fullmatch(name):
            raise ValueError(f"{room}/{owner}/{name} is no name of this store")
        return self.work / room / owner / name

    def save(self, room: str, owner: str, name: str, data: bytes) -> Path:
        """Write a file, whole or not at all."""
        path = self.path(room, owner, name)
        try:
            write_bytes(path, data)
        except UserError as error:
            if reason := no_room(error):
                message = f"the server can't store the result: {reason}; try again later"
                raise ServiceError(message, code="disk_full") from error
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
        """Delete all but the jobs with a row, and give the folder back."""
        with contextlib.suppress(sqlite3.Error):
            self._delete_leftovers()
            self._database.close()
        with contextlib.suppress(OSError):
            os.close(self._lock)


_MEDIA_TYPES = {
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".png": "image/png",
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".webm": "video/webm",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
    ".json": "application/json",
}
_OTHER_TYPE = "application/octet-stream"
MEDIA_TYPES = tuple(sorted({*_MEDIA_TYPES.values(), _OTHER_TYPE}))


def media_type(suffix: str) -> str:
    return _MEDIA_TYPES.get(suffix.lower(), _OTHER_TYPE)


@dataclass(frozen=True)
class Result:
    """One variant, stored.

    Attributes:
        clip_path: lossless WebP of the clip.
        path: what the client asked for; the same if that is the clip.
        num_bytes: of `path`; num_bytes_stored: of both.
        motion: what was understood of the words, and the motion that it is.
    """

    seed: int
    clip_path: Path
    path: Path
    num_frames: int
    total_ms: int
    width: int
    height: int
    num_bytes: int
    num_bytes_stored: int
    motion: str = ""

    def clip(self) -> Sticker:
        return decode_sticker(self.clip_path.read_bytes(), "clip")

    def to_row(self) -> dict[str, Any]:
        """Plain values for JSON; of paths only the names."""
        return {**asdict(self), "clip_path": self.clip_path.name, "path": self.path.name}

    @classmethod
    def from_row(cls, store: Store, job_id: str, row: dict[str, Any]) -> Result:
        paths = {name: store.path("jobs", job_id, row[name]) for name in ("clip_path", "path")}
        return cls(**{**row, **paths})


def finish(store: Store, job: Job, stickers: Sequence[Sticker]) -> tuple[Result, ...]:
    """Encode, export and store each clip of a job; leaves if it is cancelled."""
    from rdtf.stickers.export import export_sticker

    results, spec = [], job.spec
    for index, (seed, sticker) in enumerate(zip(spec.seeds, stickers, strict=True)):
        job.check_cancelled()
        sticker = sticker.fit_canvas(spec.size)
        clip = data = encode_sticker(sticker, ".webp", exact=True)
        clip_path = path = store.save("jobs", job.id, f"clip-{index}.webp", clip)
        if spec.platform != "webp":
            data, suffix = one_file(export_sticker(sticker, spec.platform))
            path = store.save("jobs", job.id, f"file-{index}{suffix}", data)
        stored = len(clip) + (len(data) if path is not clip_path else 0)
        shape = (sticker.num_frames, sticker.total_ms, sticker.width, sticker.height)
        told = str(sticker.metadata.get("motion", ""))
        results.append(Result(seed, clip_path, path, *shape, len(data), stored, told))
    return tuple(results)


def one_file(export: Export) -> tuple[bytes, str]:
    """An export as one file and its suffix; several files become a ZIP archive."""
    if len(export.files) == 1 and not export.suffix.startswith("/"):
        return export.data, export.suffix
    from rdtf.stickers.export.packs import zipped

    names = {
        ending.removeprefix("/") if ending.startswith("/") else f"sticker{ending}": data
        for ending, data in export.files.items()
    }
    return zipped(names), ".zip"
