"""What a visitor keeps (history, pack, downloads) and what each tab works on; reloads keep both."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import Job
from rdtf.app.jobs import JobQueue
from rdtf.app.store import Store, media_type
from rdtf.app.studio.storyboard import Editor, Storyboard
from rdtf.errors import UserError
from rdtf.sampling.options import SamplingOptions
from rdtf.stickers import Sticker, decode_sticker, encode_sticker

_START_FRAMES = 8
_MAX_FILES_PER_VISITOR = 64
_MAX_TABS = 8  # of one visitor; the one used longest ago is forgotten


@dataclass(frozen=True)
class _LibraryFile:
    """One file: `name` is what it is called when it is saved."""

    owner: str
    stored_as: str
    name: str
    media_type: str


class ClipLibrary:
    """Downloads of all visitors; the oldest of a visitor goes when there are too many."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, _LibraryFile] = {}
        self._lock = threading.Lock()

    def put(self, owner: str, data: bytes, stem: str, suffix: str) -> str:
        """Store a file; returns the token that it is fetched by."""
        token = secrets.token_hex(16)
        stored_as = f"{token}{suffix.lower()}"
        self._store.save("files", owner, stored_as, data)
        # ASCII letters, digits, `_` and `-`
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:40] or "sticker"
        file = _LibraryFile(owner, stored_as, f"{name}{suffix}", media_type(suffix.lower()))
        with self._lock:
            self._files[token] = file
            own = [key for key, file in self._files.items() if file.owner == owner]
            expired = [self._files.pop(key) for key in own[:-_MAX_FILES_PER_VISITOR]]
        for file in expired:
            self._store.delete_file("files", owner, file.stored_as)
        return token

    def get(self, token: str) -> tuple[bytes, _LibraryFile]:
        """Content and description; `ServiceError` if there is no such file any more."""
        file = self._files.get(token)
        try:
            if file is not None:
                return self._store.read("files", file.owner, file.stored_as), file
        except OSError:
            pass
        raise ServiceError("there is no such file any more; export it again", code="not_found")

    def forget(self, owner: str) -> None:
        with self._lock:
            for token in [key for key, file in self._files.items() if file.owner == owner]:
                del self._files[token]
        self._store.delete("files", owner)


@dataclass(frozen=True)
class _HistoryItem:
    """A sticker that was made; its pixels lie in the store."""

    id: str
    prompt: str
    seed: int | None
    what: str
    num_frames: int
    total_ms: int
    thumbnail: bytes


@dataclass(frozen=True)
class _PackEntry:
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
    size: str = str(SamplingOptions.output_size)


@dataclass(eq=False)
class _Visitor:
    """One browser: history and pack, which all of its tabs share.

    Attributes:
        token: the visitor's secret; also the name of the folder.
        tabs: open tabs by their own token, the one that was seen last at the end.
    """

    token: str
    store: Store
    library: ClipLibrary
    limits: Limits
    history: list[_HistoryItem] = field(default_factory=list)
    pack: list[_PackEntry] = field(default_factory=list)
    tabs: dict[str, Session] = field(default_factory=dict)
    seen_s: float = 0.0

    @property
    def owner(self) -> str:
        """Whose jobs and files these are."""
        return f"studio-{self.token}"

    def remember(self, clip: Sticker, prompt: str, seed: int | None, what: str) -> _HistoryItem:
        """Keep a sticker; the oldest goes when there are too many."""
        item_id, small = self._save(clip)
        item = _HistoryItem(item_id, prompt, seed, what, clip.num_frames, clip.total_ms, small)
        self.history.insert(0, item)
        for old in self.history[self.limits.max_history :]:
            self._delete(old.id)
        del self.history[self.limits.max_history :]
        return item

    def recall(self, item_id: str) -> tuple[_HistoryItem, Sticker]:
        """A sticker from the history."""
        for item in self.history:
            if item.id == item_id:
                return item, self.load(item.id)
        raise UserError("that sticker is not in the history any more")

    def forget(self, item_id: str) -> None:
        if any(item.id == item_id for item in self.history):
            self.history = [item for item in self.history if item.id != item_id]
            self._delete(item_id)

    def add_to_pack(self, clip: Sticker, name: str, emojis: tuple[str, ...]) -> None:
        if len(self.pack) >= self.limits.max_pack:
            raise UserError(f"a pack holds at most {self.limits.max_pack} stickers")
        item_id, small = self._save(clip)
        self.pack.append(_PackEntry(item_id, name, emojis, small))

    def _taken_from_pack(self, index: int) -> _PackEntry:
        if not 0 <= index < len(self.pack):
            raise UserError("that sticker is not in the pack any more")
        return self.pack.pop(index)

    def remove_from_pack(self, index: int) -> None:
        self._delete(self._taken_from_pack(index).id)

    def move_in_pack(self, index: int, by: int) -> None:
        self.pack.insert(max(0, index + by), self._taken_from_pack(index))

    def _save(self, clip: Sticker) -> tuple[str, bytes]:
        """Its name in the store, and a small animated WebP."""
        item_id = secrets.token_hex(6)
        data = encode_sticker(clip, ".webp", exact=True)
        self.store.save("sessions", self.owner, f"{item_id}.webp", data)
        small = clip.fit_canvas(96) if max(clip.width, clip.height) > 96 else clip
        return item_id, encode_sticker(small, ".webp", lossless=False, quality=75)

    def load(self, item_id: str) -> Sticker:
        """The clip of a history item or pack entry, every pixel."""
        try:
            data = self.store.read("sessions", self.owner, f"{item_id}.webp")
        except OSError as error:
            raise UserError("that sticker is gone; make it again") from error
        return decode_sticker(data, "the sticker")

    def _delete(self, item_id: str) -> None:
        self.store.delete_file("sessions", self.owner, f"{item_id}.webp")


@dataclass(eq=False)
class Session:
    """One tab: what to make, and the sticker that is open. Reloading keeps it.

    Every handler holds `lock` while it changes anything.

    Attributes:
        token: "VISITOR.TAB", both secret.
        storyboard: what to make; settings: the fields beside it.
        editor: the clip that is edited, exported and packed.
        job: the tab's running or waiting job, if there is one.
        regenerates: the clip of which `job` makes frames again; None: it makes a new sticker.
        taken: the last job of which the results were taken.
        last_job: the last that was completed: its variants are shown, `saved` has their files.
        watching: how many handlers follow `job`; none for a while = nobody is there any more.
        exports: clip, options and the lines of the export table that belong to them.
    """

    token: str
    visitor: _Visitor
    storyboard: Storyboard
    settings: Settings = field(default_factory=Settings)
    editor: Editor = field(default_factory=Editor)
    job: Job | None = None
    regenerates: Sticker | None = None
    taken: Job | None = None
    last_job: Job | None = None
    saved: list[str] = field(default_factory=list)
    chosen: int = 0
    watching: int = 0
    exports: tuple[Any, Any, list[Any]] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def owner(self) -> str:
        return self.visitor.owner


class Sessions:
    """All visitors and their tabs; who is idle for too long, or for longest, is forgotten."""

    def __init__(
        self,
        store: Store,
        queue: JobQueue,
        library: ClipLibrary,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._queue, self._library = store, queue, library
        self._limits, self._clock = limits, clock
        self._visitors: dict[str, _Visitor] = {}
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
                secret = secrets.token_hex(16)
                visitor = _Visitor(secret, self._store, self._library, self._limits)
                self._visitors[secret] = visitor
            visitor.seen_s = now
            session = visitor.tabs.pop(tab, None) or self._new_tab(visitor)
            visitor.tabs[session.token.partition(".")[2]] = session
            closed = [visitor.tabs.pop(old) for old in list(visitor.tabs)[:-_MAX_TABS]]
            expired = self._expired(now)
        self._cancel(closed)
        for old in expired:
            self._cancel(old.tabs.values())
            self._store.delete("sessions", old.owner)
            self._library.forget(old.owner)
        return session

    def _new_tab(self, visitor: _Visitor) -> Session:
        most = self._limits.max_frames
        storyboard = Storyboard(min(_START_FRAMES, most), most)
        return Session(f"{visitor.token}.{secrets.token_hex(8)}", visitor, storyboard)

    def _expired(self, now: float) -> list[_Visitor]:
        by_age = sorted(self._visitors.values(), key=lambda visitor: visitor.seen_s)
        over = len(by_age) - self._limits.max_sessions
        oldest = now - self._limits.session_seconds
        expired = [v for i, v in enumerate(by_age) if i < over or v.seen_s < oldest]
        for visitor in expired:
            del self._visitors[visitor.token]
        return expired

    def _cancel(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            if session.job is not None:
                self._queue.cancel(session.job)
