"""Edits of a clip, undo, and the session around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures_service import moving_disc
from rdtf.errors import UserError
from rdtf.service.errors import NotFoundError
from rdtf.service.limits import Limits
from rdtf.studio import edits
from rdtf.studio.editor import Editor
from rdtf.studio.session import Sessions
from rdtf.studio.shelf import Shelf, safe_stem

CLIP = moving_disc(16, 5).with_durations([10, 20, 30, 40, 50])


def times(clip) -> list[int]:
    """Durations stand for the frames: each has its own."""
    return clip.durations_ms.tolist()


def test_delete_duplicate_reverse_retime():
    assert times(edits.delete(CLIP, [1, 3])) == [10, 30, 50]
    assert times(edits.duplicate(CLIP, [1])) == [10, 20, 20, 30, 40, 50]
    assert times(edits.reverse(CLIP)) == [50, 40, 30, 20, 10]
    assert times(edits.retime(CLIP, [0, 4], 99)) == [99, 20, 30, 40, 99]
    np.testing.assert_array_equal(edits.delete(CLIP, [0]).frames, CLIP.frames[1:])


@pytest.mark.parametrize(
    ("chosen", "by", "order", "places"),
    [
        ([1], 1, [10, 30, 20, 40, 50], [2]),
        ([1, 2], -1, [20, 30, 10, 40, 50], [0, 1]),
        ([0, 2], -1, [10, 30, 20, 40, 50], [0, 1]),
        ([3, 4], 1, [10, 20, 30, 40, 50], [3, 4]),
        ([0], 9, [20, 30, 40, 50, 10], [4]),
    ],
)
def test_moving(chosen, by, order, places):
    clip, now = edits.move(CLIP, chosen, by)
    assert (times(clip), now) == (order, places)


def test_regenerating_asks_for_the_chosen_frames_only():
    request = edits.regenerate_request(CLIP, [1, 2])
    assert request.known.tolist() == [True, False, False, True, True]
    assert not request.frames[1:3].any()
    np.testing.assert_array_equal(request.frames[0], CLIP.frames[0])
    assert request.durations_ms.tolist() == times(CLIP)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: edits.delete(CLIP, range(5)),
        lambda: edits.delete(CLIP, []),
        lambda: edits.delete(CLIP, [5]),
        lambda: edits.duplicate(CLIP, [-1]),
        lambda: edits.retime(CLIP, [0], 0),
        lambda: edits.regenerate_request(CLIP, range(5)),
    ],
)
def test_edits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UserError):
        wrong()


def test_undo_and_redo():
    editor = Editor()
    with pytest.raises(UserError, match="no sticker yet"):
        editor.current()
    editor.open(CLIP)
    editor.select(1, True)
    editor.move(1)
    assert editor.selected == {2}
    editor.delete()
    assert times(editor.current()) == [10, 30, 40, 50]
    editor.undo()
    editor.undo()
    assert editor.current() is CLIP
    editor.redo()
    assert times(editor.current()) == [10, 30, 20, 40, 50]
    editor.retime(7)  # nothing selected: all
    assert times(editor.current()) == [7] * 5
    assert not editor.can_redo


def test_a_clip_does_not_grow_without_end():
    editor = Editor(max_frames=16)
    editor.open(CLIP)
    with pytest.raises(UserError, match="at most 16"):
        for _ in range(5):
            editor.select_all()
            editor.duplicate()
    assert editor.current().num_frames == 10


# ------------------------------------------------------------------------------ sessions


@pytest.fixture
def sessions(core) -> Sessions:
    limits = replace(Limits(), max_sessions=3, session_seconds=100, max_history=2)
    now = [0.0]
    made = Sessions(core.store, core.queue, Shelf(core.store), limits, clock=lambda: now[0])
    made.now = now  # type: ignore[attr-defined]
    return made


def test_a_token_finds_its_session_and_a_guess_does_not(sessions):
    mine = sessions.get(None)
    assert sessions.get(mine.token) is mine
    for guess in ("x", "../../etc", mine.token[:-1], 5, {}, mine.token.upper() + "0"):
        assert sessions.get(guess).token not in (guess, mine.token)


def test_idle_sessions_go_with_their_files(sessions, core):
    mine = sessions.get(None)
    mine.remember(CLIP, "a", 1, "x")
    sessions.now[0] = 101
    sessions.get(None)
    assert sessions.get(mine.token) is not mine
    assert not list((core.store.work / "sessions").rglob("*.webp"))
    for _ in range(5):
        sessions.get(None)
    assert len(sessions) == 3


def test_the_history_gives_back_every_pixel_and_is_bounded(sessions, core):
    session = sessions.get(None)
    items = [session.remember(CLIP.select([i, 4]), f"{i}", i, "x") for i in range(3)]
    assert [item.prompt for item in session.history] == ["2", "1"]
    _, clip = session.recall(items[2].id)
    np.testing.assert_array_equal(clip.frames, CLIP.frames[[2, 4]])
    assert times(clip) == [30, 50]
    for gone in (items[0].id, "../../x", ""):
        with pytest.raises(UserError):
            session.recall(gone)
        session.forget(gone)
    assert len(list((core.store.work / "sessions").rglob("*.webp"))) == 2


def test_downloads_have_safe_names(core):
    shelf = Shelf(core.store)
    token = shelf.put("studio-x", b"data", "../..\\evil \r\n cat", ".webm")
    data, file = shelf.get(token)
    assert (data, file.name, file.media_type) == (b"data", "evil-cat.webm", "video/webm")
    for wrong in ("", "x", token[:-1], "../" + token):
        with pytest.raises(NotFoundError):
            shelf.get(wrong)
    for number in range(70):
        shelf.put("studio-x", b"data", str(number), ".gif")
    assert len(list((core.store.work / "files").rglob("*.*"))) == 64
    with pytest.raises(NotFoundError):
        shelf.get(token)
    assert safe_stem("ßß 🙂") == "sticker"
