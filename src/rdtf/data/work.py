"""The work folder of a preparation: what is done so far, so that a run that was killed goes on.

OUT.work/work.sqlite   inputs, outcomes and counts; a slice of items is in it whole or not at all
OUT.work/pixels/       frames of the clips of each slice, before it is known which ones are kept
OUT.work/set/          the training set, until it is moved to OUT in one step
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rdtf.data.sources import Skipped, SourceItem, valid_text
from rdtf.errors import UserError
from rdtf.fileio import atomic_path, ensure_folder

WORK_FILE = "work.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS done (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS rows (file TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS found (place TEXT PRIMARY KEY, file TEXT, item TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (n INTEGER PRIMARY KEY, item TEXT);
CREATE TABLE IF NOT EXISTS skipped (stage TEXT, n INTEGER, file TEXT, kind TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS clips (
    n INTEGER PRIMARY KEY, file TEXT, concept TEXT, pixel_hash TEXT, fingerprint BLOB,
    shuffle TEXT, slice INTEGER, offset INTEGER, num_bytes INTEGER, row TEXT, split TEXT,
    caption TEXT
);
CREATE TABLE IF NOT EXISTS shards (n INTEGER PRIMARY KEY, split TEXT, info TEXT);
"""


class Work:
    """A work folder, held by this process alone; made anew or gone on with.

    Args:
        folder: None: nothing is kept.
        identity: what the work depends on; work of another identity is refused, or thrown away
            if `replace`.

    Raises:
        UserError: another process or another command works there.
    """

    def __init__(
        self, folder: Path | None, identity: Mapping[str, Any], replace: bool = False
    ) -> None:
        self.folder = folder
        self._lock = contextlib.ExitStack()
        self._open()
        known, text = self.done("identity"), json.dumps(dict(identity), sort_keys=True)
        if known is not None and known != text:
            if not replace:
                self.close()
                raise UserError(
                    f"{folder} holds unfinished work of another command or of other options; "
                    "finish that with the same command, delete the folder, or pass --overwrite"
                )
            self.delete()
            self._open()
        self.mark("identity", text)

    def _open(self) -> None:
        if self.folder is not None:
            ensure_folder(self.folder / "pixels", "work folder")
            self._hold(self.folder)
        # "" is a temporary file that SQLite deletes.
        where = "" if self.folder is None else self.folder / WORK_FILE
        self._database = sqlite3.connect(where)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)

    def _hold(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # not on Windows
            return
        file = self._lock.enter_context((folder / ".lock").open("w"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another process works in {folder}; wait for it") from error

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()
        self._lock.close()

    def delete(self) -> None:
        """Forget everything: the training set is where it belongs, or can't be made."""
        self.close()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def forget_pixels(self) -> None:
        """Make room: the training set is where it belongs."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "pixels", ignore_errors=True)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written in the block is kept as a whole or not at all."""
        with self._database:
            yield

    def run(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._database.execute(sql, values)

    def run_many(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        self._database.executemany(sql, values)

    def count(self, sql: str, values: Sequence[Any] = ()) -> int:
        """The one number that a query gives."""
        return int(self.run(sql, values).fetchone()[0] or 0)

    def done(self, name: str) -> str | None:
        """What `mark` noted, or None."""
        row = self.run("SELECT value FROM done WHERE name = ?", (name,)).fetchone()
        return None if row is None else row[0]

    def mark(self, name: str, value: str = "") -> None:
        """Note that a stage is done; call it in a `transaction`, or it stands alone."""
        alone = not self._database.in_transaction
        self.run("INSERT OR REPLACE INTO done VALUES (?, ?)", (name, value))
        if alone:
            self._database.commit()

    # ------------------------------------------------------------------- listing

    def add_row(self, file: str, row: Mapping[str, Any]) -> None:
        """What a captions file says of a sticker; of several rows the first one's fields win,
        and all captions count."""
        if (known := self.row(file)) is not None:
            captions = [*known.get("captions", ()), *row.get("captions", ())]
            row = {**row, **known, "captions": list(dict.fromkeys(captions))}
        self.run("INSERT OR REPLACE INTO rows VALUES (?, ?)", (file, json.dumps(row)))

    def row(self, file: str) -> dict[str, Any] | None:
        found = self.run("SELECT row FROM rows WHERE file = ?", (file,)).fetchone()
        return None if found is None else json.loads(found[0])

    def add_item(self, item: SourceItem) -> None:
        """One file may be below two inputs: the first counts."""
        place = item.file
        if item.path is not None:
            place = json.dumps([str(item.path), *(member.offset for member in item.members[:1])])
        values = (place, item.file, item.to_json())
        self.run("INSERT OR IGNORE INTO found VALUES (?, ?, ?)", values)

    def skip(self, skipped: Skipped, n: int = -1) -> None:
        file, reason = valid_text(skipped.file), valid_text(skipped.reason)
        values = (skipped.stage, n, file, skipped.kind, reason)
        self.run("INSERT INTO skipped VALUES (?, ?, ?, ?, ?)", values)

    def number_items(self) -> int:
        """Settle the order of the items, by their names; returns how many there are."""
        self.run("DELETE FROM items")
        self.run("INSERT INTO items SELECT row_number() OVER (ORDER BY file) - 1, item FROM found")
        self.run("DELETE FROM found")
        self.run("DELETE FROM rows")
        return self.count("SELECT count(*) FROM items")

    def items(self, start: int = 0) -> Iterator[SourceItem]:
        """The items from number `start` on; the table may grow meanwhile."""
        page = 1000
        while True:
            sql = "SELECT item FROM items WHERE n >= ? AND n < ? ORDER BY n"
            rows = self.run(sql, (start, start + page)).fetchall()
            yield from (SourceItem.from_json(text) for (text,) in rows)
            if len(rows) < page:
                return
            start += page

    def skipped(self, stages: Sequence[str]) -> Iterator[Skipped]:
        """What was left out, by stage and then by item."""
        for stage in stages:
            sql = "SELECT file, kind, reason, stage FROM skipped WHERE stage = ? ORDER BY n, rowid"
            yield from (Skipped(*row) for row in self.run(sql, (stage,)))

    # ---------------------------------------------------------------------- clips

    def add_slice(
        self, number: int, pixels: Sequence[bytes], rows: Iterable[Sequence[Any]]
    ) -> None:
        """Write the frames of a slice to disk, then its rows; call it in a `transaction`."""
        assert self.folder is not None
        with atomic_path(self._slice_file(number)) as path, path.open("wb") as file:
            file.writelines(pixels)
        self.run_many(
            "INSERT INTO clips (n, file, concept, pixel_hash, fingerprint, shuffle, slice, offset, "
            "num_bytes, row) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )

    def read_pixels(self, slice_number: int, offset: int, num_bytes: int) -> bytes:
        with self._slice_file(slice_number).open("rb") as file:
            file.seek(offset)
            return file.read(num_bytes)

    def _slice_file(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / "pixels" / f"{number:08d}"
