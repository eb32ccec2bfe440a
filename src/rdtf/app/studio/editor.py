"""The clip that is being edited: what is selected, and the way back."""

from __future__ import annotations

from collections.abc import Callable

from rdtf.app.studio import edits
from rdtf.errors import UserError
from rdtf.stickers import Sticker

_MAX_UNDO = 30
_MAX_UNDO_BYTES = 64 * 2**20


class Editor:
    """A clip with a selection and undo.

    Attributes:
        clip: the clip; None until one is opened.
        selected: frames that the next edit is about.
        max_frames: no edit makes a clip longer than that.
    """

    def __init__(self, max_frames: int = 240) -> None:
        self.max_frames = max_frames
        self.clip: Sticker | None = None
        self.selected: set[int] = set()
        self._undo: list[Sticker] = []
        self._redo: list[Sticker] = []

    def open(self, clip: Sticker) -> None:
        """Another clip; the one before can't be brought back."""
        self.clip, self.selected = clip, set()
        self._undo, self._redo = [], []

    def current(self) -> Sticker:
        """The clip; `UserError` if none is open."""
        if self.clip is None:
            raise UserError("there is no sticker yet; make one, or open one from the history")
        return self.clip

    def select(self, index: int, on: bool) -> None:
        if not 0 <= index < self.current().num_frames:
            raise UserError(f"there is no frame {index + 1}")
        (self.selected.add if on else self.selected.discard)(index)

    def select_all(self, on: bool = True) -> None:
        self.selected = set(range(self.current().num_frames)) if on else set()

    @property
    def can_undo(self) -> bool:
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        return bool(self._redo)

    # ------------------------------------------------------------------------ edits

    def delete(self) -> None:
        self._apply(lambda clip: edits.delete(clip, self.selected))
        self.selected = set()

    def duplicate(self) -> None:
        self._apply(lambda clip: edits.duplicate(clip, self.selected))
        self.selected = set()

    def reverse(self) -> None:
        self._apply(edits.reverse)
        self.selected = set()

    def move(self, by: int) -> None:
        clip, places = edits.move(self.current(), self.selected, by)
        self._apply(lambda _: clip)
        self.selected = set(places)

    def retime(self, frame_ms: int) -> None:
        """The selected frames; all if none is selected."""
        chosen = self.selected or range(self.current().num_frames)
        self._apply(lambda clip: edits.retime(clip, chosen, frame_ms))

    def change(self, edit: Callable[[Sticker], Sticker]) -> None:
        """Another edit of the whole clip; the selection stays."""
        self._apply(edit)

    def replace(self, clip: Sticker) -> None:
        """A new version of the clip, such as one with frames made anew."""
        self._apply(lambda _: clip)

    def undo(self) -> None:
        if not self._undo:
            raise UserError("there is nothing to undo")
        self._redo.append(self.current())
        self.clip, self.selected = self._undo.pop(), set()

    def redo(self) -> None:
        if not self._redo:
            raise UserError("there is nothing to do again")
        self._undo.append(self.current())
        self.clip, self.selected = self._redo.pop(), set()

    def _apply(self, edit: Callable[[Sticker], Sticker]) -> None:
        before = self.current()
        after = edit(before)
        if after.num_frames > max(self.max_frames, before.num_frames):
            raise UserError(f"a clip has at most {self.max_frames} frames here")
        self.clip = after
        self._undo.append(before)
        self._redo = []
        while len(self._undo) > _MAX_UNDO or self._undo_bytes() > _MAX_UNDO_BYTES:
            del self._undo[0]

    def _undo_bytes(self) -> int:
        return sum(clip.frames.nbytes for clip in self._undo[:-1])
