"""What a visitor keeps (history, pack) and what each tab has on its desk; reloading keeps both."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rdtf.app.errors import Limits
from rdtf.app.job import Job
from rdtf.app.jobs import JobQueue
from rdtf.app.store import Store
from rdtf.app.studio.board import Board, ExportRow, Shelf, open_rows
from rdtf.app.studio.editor import Editor
from rdtf.errors import UserError
from rdtf.stickers import Sticker, decode_sticker, encode_sticker

_START_FRAMES = 8
_MAX_TABS = 8  # of one visitor; the one used longest ago is forgotten


@dataclass(frozen=True)
class HistoryItem:
    """A sticker that was made; its pixels lie in the store."""

    id: str
    prompt: str
    seed: int | None
    what: str
    num_frames: int
    total_ms: int
    thumbnail: bytes


@dataclass(frozen=True)
class PackEntry:
    """A sticker in the pack that is being built."""

    id: str
    name: str
    emojis: tuple[str, ...]
    thumbnail: bytes


@dataclass(frozen=True)
class Settings:
    """The fields of the Make tab, in the order in which the page sends them."""

    prompt: str = ""
    motion: str = ""
    strength: float = 1.0
    variants: float = 2
    steps: float = 0
    seed: float | None = -1
    guidance: float | None = None
    image_guidance: float | None = None
    size: str = "input"


@dataclass(eq=False)
class Visitor:
    """One browser: history and pack, which all of its tabs share.

    Attributes:
        token: the visitor's secret; also the name of the folder.
        tabs: open tabs by their own token, the one that was seen last at the end.
    """

    token: str
    store: Store
    limits: Limits
    history: list[HistoryItem] = field(default_factory=list)
    pack: list[PackEntry] = field(default_factory=list)
    tabs: dict[str, Session] = field(default_factory=dict)
    seen_s: float = 0.0

    @property
    def owner(self) -> str:
        """Whose jobs and files these are."""
        return f"studio-{self.token}"

    # ----------------------------------------------------------------------- history

    def remember(self, clip: Sticker, prompt: str, seed: int | None, what: str) -> HistoryItem:
        """Keep a sticker; the oldest goes when there are too many.

        Raises:
            DiskFullError: there is no room.
        """
        item = HistoryItem(
            id=secrets.token_hex(6),
            prompt=prompt,
            seed=seed,
            what=what,
            num_frames=clip.num_frames,
            total_ms=clip.total_ms,
            thumbnail=thumbnail(clip),
        )
        self._save(item.id, clip)
        self.history.insert(0, item)
        for old in self.history[self.limits.max_history :]:
            self.store.delete_file("sessions", self.owner, f"{old.id}.webp")
        del self.history[self.limits.max_history :]
        return item

    def recall(self, item_id: str) -> tuple[HistoryItem, Sticker]:
        """A sticker from the history."""
        for item in self.history:
            if item.id == item_id:
                return item, self._load(item.id)
        raise UserError("that sticker is not in the history any more")

    def forget(self, item_id: str) -> None:
        self.history = [item for item in self.history if item.id != item_id]
        if _is_id(item_id):
            self.store.delete_file("sessions", self.owner, f"{item_id}.webp")

    # ------------------------------------------------------------------------ pack

    def add_to_pack(self, clip: Sticker, name: str, emojis: tuple[str, ...]) -> None:
        if len(self.pack) >= self.limits.max_pack:
            raise UserError(f"a pack holds at most {self.limits.max_pack} stickers")
        entry = PackEntry(secrets.token_hex(6), name, emojis, thumbnail(clip))
        self._save(entry.id, clip)
        self.pack.append(entry)

    def remove_from_pack(self, index: int) -> None:
        entry = self.pack.pop(self._in_pack(index))
        self.store.delete_file("sessions", self.owner, f"{entry.id}.webp")

    def move_in_pack(self, index: int, by: int) -> None:
        entry = self.pack.pop(self._in_pack(index))
        self.pack.insert(max(0, index + by), entry)

    def packed_clip(self, entry: PackEntry) -> Sticker:
        return self._load(entry.id)

    def _in_pack(self, index: int) -> int:
        if not 0 <= index < len(self.pack):
            raise UserError("that sticker is not in the pack any more")
        return index

    # ----------------------------------------------------------------------- files

    def _save(self, item_id: str, clip: Sticker) -> None:
        data = encode_sticker(clip, ".webp", exact=True)
        self.store.save("sessions", self.owner, f"{item_id}.webp", data)

    def _load(self, item_id: str) -> Sticker:
        try:
            return decode_sticker(
                self.store.read("sessions", self.owner, f"{item_id}.webp"), "the sticker"
            )
        except OSError as error:
            raise UserError("that sticker is gone; make it again") from error


@dataclass(eq=False)
class Session:
    """One tab: what to make, and the sticker that is open. Reloading keeps it.

    Every handler holds `lock` while it changes anything.

    Attributes:
        token: "VISITOR.TAB", both secret.
        board: what to make; settings: the fields beside it.
        editor: the clip that is edited, exported and packed.
        job: the tab's running or waiting job, if there is one.
        regenerates: the clip of which `job` makes frames again; None: it makes a new sticker.
        taken: the last job of which the results were taken.
        last_job: the last that was completed: its variants are shown, `saved` has their files.
        watching: how many handlers follow `job`; none for a while = nobody is there any more.
    """

    token: str
    visitor: Visitor
    board: Board
    settings: Settings = field(default_factory=Settings)
    editor: Editor = field(default_factory=Editor)
    job: Job | None = None
    regenerates: Sticker | None = None
    taken: Job | None = None
    last_job: Job | None = None
    saved: list[str] = field(default_factory=list)
    chosen: int = 0
    watching: int = 0
    _exports: tuple[Any, Any, list[ExportRow]] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def owner(self) -> str:
        return self.visitor.owner

    def export_rows(self, clip: Sticker | None, options: Any) -> list[ExportRow]:
        """The lines of the export table: those so far, unless clip or options are others now.

        Args:
            options: None = whatever they were.
        """
        known = self._exports
        if known is None or known[0] is not clip or options not in (None, known[1]):
            self._exports = known = (clip, options, open_rows())
        return known[2]


def thumbnail(clip: Sticker, side: int = 96) -> bytes:
    """A small animated WebP."""
    if max(clip.width, clip.height) > side:
        clip = clip.fit_canvas(side)
    return encode_sticker(clip, ".webp", lossless=False, quality=75)


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{12}", text) is not None


class Sessions:
    """All visitors and their tabs; who is idle for too long, or for longest, is forgotten."""

    def __init__(
        self,
        store: Store,
        queue: JobQueue,
        shelf: Shelf,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._queue, self._shelf = store, queue, shelf
        self._limits, self._clock = limits, clock
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visitors)

    def get(self, token: object) -> Session:
        """The tab behind "VISITOR.TAB". A part that is unknown or missing gets a new name."""
        name, _, tab = token.partition(".") if isinstance(token, str) else ("", "", "")
        now = self._clock()
        with self._lock:
            visitor = self._visitors.get(name)
            if visitor is None:
                visitor = Visitor(secrets.token_hex(16), self._store, self._limits)
                self._visitors[visitor.token] = visitor
            visitor.seen_s = now
            session = visitor.tabs.pop(tab, None) or self._new_tab(visitor)
            visitor.tabs[session.token.partition(".")[2]] = session
            closed = [visitor.tabs.pop(old) for old in list(visitor.tabs)[:-_MAX_TABS]]
            doomed = self._doomed(now)
        for old in closed:
            self._cancel(old)
        for old in doomed:
            self._drop(old)
        return session

    def _new_tab(self, visitor: Visitor) -> Session:
        most = self._limits.max_frames
        board = Board(min(_START_FRAMES, most), most)
        return Session(f"{visitor.token}.{secrets.token_hex(8)}", visitor, board)

    def _doomed(self, now: float) -> list[Visitor]:
        by_age = sorted(self._visitors.values(), key=lambda visitor: visitor.seen_s)
        over = len(by_age) - self._limits.max_sessions
        oldest = now - self._limits.session_seconds
        doomed = [v for i, v in enumerate(by_age) if i < over or v.seen_s < oldest]
        for visitor in doomed:
            del self._visitors[visitor.token]
        return doomed

    def _cancel(self, session: Session) -> None:
        if session.job is not None:
            self._queue.cancel(session.job)

    def _drop(self, visitor: Visitor) -> None:
        for session in visitor.tabs.values():
            self._cancel(session)
        self._store.delete("sessions", visitor.owner)
        self._shelf.forget(visitor.owner)
