"""Edits of a clip, undo, and the session around them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fixtures_service import moving_disc, refused
from rdtf.app.errors import Limits
from rdtf.app.studio.session import ClipLibrary, Sessions
from rdtf.app.studio.storyboard import Editor, regenerate_request
from rdtf.errors import UserError
from rdtf.stickers import Sticker, edit
from rdtf.stickers.export.edit import trim_to_content

CLIP = moving_disc(16, 5).with_durations([10, 20, 30, 40, 50])


def times(clip) -> list[int]:
    """Durations stand for the frames: each has its own."""
    return clip.durations_ms.tolist()


def edited(chosen, do: str, *values) -> Editor:
    editor = Editor()
    editor.open(CLIP)
    for index in chosen:
        editor.select(index, True)
    getattr(editor, do)(*values)
    return editor


def test_delete_duplicate_reverse_retime():
    for chosen, do, expected in (
        ([1, 3], ("delete",), [10, 30, 50]),
        ([1], ("duplicate",), [10, 20, 20, 30, 40, 50]),
        ([], ("reverse",), [50, 40, 30, 20, 10]),
        ([0, 4], ("retime", 99), [99, 20, 30, 40, 99]),
    ):
        assert times(edited(chosen, *do).current()) == expected
    np.testing.assert_array_equal(edited([0], "delete").current().frames, CLIP.frames[1:])


@pytest.mark.parametrize(
    ("chosen", "by", "order", "places"),
    [
        ([1], 1, [10, 30, 20, 40, 50], {2}),
        ([1, 2], -1, [20, 30, 10, 40, 50], {0, 1}),
        ([0, 2], -1, [10, 30, 20, 40, 50], {0, 1}),
        ([3, 4], 1, [10, 20, 30, 40, 50], {3, 4}),
    ],
)
def test_moving(chosen, by, order, places):
    editor = edited(chosen, "move", by)
    assert (times(editor.current()), editor.selected) == (order, places)


def test_regenerating_asks_for_the_chosen_frames_only():
    request = regenerate_request(CLIP, {1, 2})
    assert request.known.tolist() == [True, False, False, True, True]
    assert not request.frames[1:3].any()
    np.testing.assert_array_equal(request.frames[0], CLIP.frames[0])
    assert request.durations_ms.tolist() == times(CLIP)


@pytest.mark.parametrize(
    ("chosen", "do"),
    [
        (range(5), ("delete",)),
        ([], ("delete",)),
        ([5], ("delete",)),
        ([-1], ("duplicate",)),
        ([0], ("retime", 0)),
        (range(5), ("request",)),
    ],
)
def test_edits_that_make_no_sense_are_refused(chosen, do):
    with pytest.raises(UserError):
        edited(chosen, *do)


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
    with pytest.raises(UserError, match="nothing to redo"):
        editor.redo()


def test_a_clip_does_not_grow_without_end():
    editor = Editor(max_frames=16)
    editor.open(CLIP)
    with pytest.raises(UserError, match="at most 16"):
        for _ in range(5):
            editor.select_all()
            editor.duplicate()
    assert editor.current().num_frames == 10


# ------------------------------------------------------------------------------ pictures


def on_color(color: tuple[int, int, int]) -> Sticker:
    """Two frames of a soft-edged blue disc on a colour, with a hole of that colour in it."""
    y, x = np.indices((40, 40)) - 20
    radius = np.hypot(x, y)
    alpha = np.clip(14.5 - radius, 0, 1) * (radius > 4)
    pixels = alpha[..., None] * np.array([20, 40, 220]) + (1 - alpha[..., None]) * np.array(color)
    frame = np.dstack([np.rint(pixels), np.full((40, 40), 255)]).astype(np.uint8)
    return Sticker(np.stack([frame, frame]), np.array([50, 60]))


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 200, 60)])
def test_the_background_becomes_transparent_with_a_soft_edge(color):
    clip = on_color(color)
    made = edit.without_background(clip, 40)
    alpha = made.frames[..., 3]
    y, x = np.indices((40, 40)) - 20
    radius = np.hypot(x, y)
    assert not alpha[:, radius > 15.5].any()
    assert (alpha[:, (radius > 5) & (radius < 13)] == 255).all()
    assert (alpha[:, radius < 3] == 255).all()  # a hole is not joined to the border
    assert ((alpha > 20) & (alpha < 235)).any()
    shown = made.frames[(alpha > 60) & (radius > 8)]
    np.testing.assert_allclose(shown[:, 0], 20, atol=60)  # no halo of the colour
    assert times(made) == [50, 60]


def test_a_background_of_many_colours_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 4), dtype=np.uint8)
    noise[..., 3] = 255
    with pytest.raises(UserError, match="many colours"):
        edit.without_background(Sticker(noise, np.array([100])))
    with pytest.raises(UserError, match="transparent already"):
        edit.without_background(Sticker(np.zeros((1, 16, 16, 4), np.uint8), np.array([100])))


def test_cropping():
    clip = moving_disc(16, 2)
    assert edit.crop(clip, 1, 2, 3, 4).frames.shape == (2, 10, 12, 4)
    assert trim_to_content(clip).height < 16
    for sides in ((8, 0, 8, 0), (-1, 0, 0, 0)):
        with pytest.raises(UserError):
            edit.crop(clip, *sides)


@pytest.mark.parametrize("place", edit.PLACES)
@pytest.mark.parametrize("words", ["Hi", "a wide text line"])
def test_text_with_an_outline_stays_within_the_picture(place, words):
    clip = Sticker(np.zeros((2, 64, 96, 4), np.uint8), np.array([50, 50]))
    made = edit.with_text(clip, [1], words, place=place, color="#ff0000", edge_color="#0000ff")
    assert not made.frames[0].any()
    drawn = made.frames[1][made.frames[1][..., 3] > 200]
    assert (drawn[:, 0] > 200).any()
    assert (drawn[:, 2] > 200).any()
    alpha = made.frames[1, ..., 3]
    assert not alpha[:, [0, -1]].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"words": " "},
        {"words": "far too long " * 9},
        {"words": "日本"},
        {"place": "left"},
        {"color": "x"},
        {"size_percent": 0},
    ],
)
def test_text_that_can_not_be_drawn_is_refused(wrong):
    with pytest.raises(UserError):
        edit.with_text(CLIP, [0], **{"words": "Hi", **wrong})


# ------------------------------------------------------------------------------ sessions


@pytest.fixture
def sessions(core) -> Sessions:
    limits = replace(Limits(), max_sessions=3, session_seconds=100, max_history=2)
    now = [0.0]
    made = Sessions(core.store, core.queue, ClipLibrary(core.store), limits, clock=lambda: now[0])
    made.now = now  # type: ignore[attr-defined]
    return made


def test_a_token_finds_its_session_and_a_guess_does_not(sessions):
    mine = sessions.get(None)
    assert sessions.get(mine.token) is mine
    for guess in ("x", "../../etc", mine.token[:-1], 5, {}, mine.token.upper() + "0"):
        assert sessions.get(guess).token not in (guess, mine.token)


def test_two_tabs_share_the_history_and_nothing_else(sessions):
    first = sessions.get(None)
    second = sessions.get(first.visitor.token + ".")
    assert second.visitor is first.visitor
    assert second.editor is not first.editor
    assert second.storyboard is not first.storyboard
    assert (sessions.get(first.token), sessions.get(second.token)) == (first, second)


def test_idle_sessions_go_with_their_files(sessions, core):
    mine = sessions.get(None)
    mine.visitor.remember(CLIP, "a", 1, "x")
    sessions.now[0] = 101
    sessions.get(None)
    assert sessions.get(mine.token) is not mine
    assert not list((core.store.work / "sessions").rglob("*.webp"))
    for _ in range(5):
        sessions.get(None)
    assert len(sessions) == 3


def test_the_history_gives_back_every_pixel_and_is_bounded(sessions, core):
    session = sessions.get(None)
    items = [session.visitor.remember(CLIP.select([i, 4]), f"{i}", i, "x") for i in range(3)]
    assert [item.prompt for item in session.visitor.history] == ["2", "1"]
    _, clip = session.visitor.recall(items[2].id)
    np.testing.assert_array_equal(clip.frames, CLIP.frames[[2, 4]])
    assert times(clip) == [30, 50]
    for gone in (items[0].id, "../../x", ""):
        with pytest.raises(UserError):
            session.visitor.recall(gone)
        session.visitor.forget(gone)
    assert len(list((core.store.work / "sessions").rglob("*.webp"))) == 2


def test_downloads_have_safe_names(core):
    library = ClipLibrary(core.store)
    token = library.put("studio-x", b"data", "../..\\evil \r\n cat", ".webm")
    data, file = library.get(token)
    assert (data, file.name, file.media_type) == (b"data", "evil-cat.webm", "video/webm")
    for wrong in ("", "x", token[:-1], "../" + token):
        with refused("not_found"):
            library.get(wrong)
    for number in range(70):
        library.put("studio-x", b"data", str(number), ".gif")
    assert len(list((core.store.work / "files").rglob("*.*"))) == 64
    with refused("not_found"):
        library.get(token)
    _, file = library.get(library.put("studio-x", b"data", "ßß 🙂", ".gif"))
    assert file.name == "sticker.gif"
