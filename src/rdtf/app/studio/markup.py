"""The studio's state as HTML. Everything that is clicked is a real button; all text is escaped.

A button says what it does in `data-do`, and to what in `data-index` or `data-name`;
`assets/studio.js` sends just these to the handlers.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from rdtf.app.job import Job, JobState
from rdtf.app.store import Result
from rdtf.app.studio.board import TASKS, Board
from rdtf.app.studio.editor import Editor
from rdtf.app.studio.exporting import ExportRow
from rdtf.app.studio.session import HistoryItem, PackEntry
from rdtf.fileio import size_text
from rdtf.stickers import Sticker, encode_sticker

_THUMB = 96
_SHOWN_SIDE = 512
_SCRUB_SIDE = 256


def data_url(data: bytes, kind: str = "image/webp") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def picture(frame: np.ndarray, side: int = _THUMB) -> str:
    """A data URL of one uint8 [H, W, 4] at `side` pixels or less; by default for a strip."""
    still = Sticker(frame[None], np.array([100]))
    if max(still.width, still.height) > side:
        still = still.fit_canvas(side)
    return data_url(encode_sticker(still, ".webp", method=0))


def animation(clip: Sticker) -> str:
    """A data URL of a whole clip: every pixel if it is small."""
    if max(clip.width, clip.height) > _SHOWN_SIDE:
        clip = clip.fit_canvas(_SHOWN_SIDE)
    return data_url(encode_sticker(clip, ".webp", method=1))


def _image(url: str, alt: str, kind: str = "") -> str:
    return f'<img class="checker {kind}" src="{url}" alt="{escape(alt)}" draggable="false">'


def button(
    do: str,
    label: str,
    *,
    index: int = -1,
    name: str = "",
    kind: str = "",
    title: str = "",
    disabled: bool = False,
) -> str:
    """A real button; `label` is HTML that is safe already."""
    attributes = [f'data-do="{do}"', f'data-index="{index}"', f'data-key="{do}-{index}-{name}"']
    if name:
        attributes.append(f'data-name="{escape(name)}"')
    if title:
        attributes.append(f'title="{escape(title)}" aria-label="{escape(title)}"')
    if disabled:
        attributes.append("disabled")
    return f'<button type="button" class="rd-btn {kind}" {" ".join(attributes)}>{label}</button>'


def notice(message: str, kind: str = "bad") -> str:
    """A line that screen readers say at once."""
    if not message:
        return ""
    return f'<p class="notice said {kind}" role="alert">{escape(message)}</p>'


# ------------------------------------------------------------------------------ film strips


def tasks(chosen: str) -> str:
    """The tasks, one of them pressed."""
    buttons = "".join(
        f'<button type="button" class="rd-btn" data-do="task" data-index="-1" data-name="{name}" '
        f'data-key="task-{name}" data-single aria-pressed="{str(name == chosen).lower()}">'
        f"{title}</button>"
        for name, title in TASKS.items()
    )
    return f'<div class="acts" role="group" aria-label="Task">{buttons}</div>'


def film_strip(board: Board) -> str:
    """The frames of what is to be made; pressed = given."""
    slots = board.slots()
    if not slots:
        return f'<p class="hint">{TASKS[board.task]} starts from a clip: drop one above.</p>'
    cells = []
    for index, slot in enumerate(slots):
        if slot.source is not None and slot.picture is not None:
            if slot.source not in board.thumbnails:
                board.thumbnails[slot.source] = picture(slot.picture)
            body = _image(board.thumbnails[slot.source], "")
        elif slot.picture is not None:
            body = _image(picture(slot.picture), "")
        else:
            body = '<span class="empty" aria-hidden="true"></span>'
        state = "stays as it is" if slot.given else "is made"
        cells.append(
            f'<button type="button" class="frame" data-do="give" data-index="{index}" '
            f'data-key="give-{index}" aria-pressed="{str(slot.given).lower()}" '
            f'aria-disabled="{str(not slot.can_press).lower()}" '
            f'aria-label="Frame {index + 1}, {slot.duration_ms} ms, {state}">'
            f'{body}<span class="number">{index + 1}</span>'
            '<span class="state" aria-hidden="true"></span></button>'
        )
    label = "Frames: those with a tick stay as they are, the others are made"
    return f'<div class="strip mask" role="group" aria-label="{label}">{"".join(cells)}</div>'


def mask_words(board: Board) -> str:
    """What will be made, in one line."""
    slots = board.slots()
    if not slots:
        return ""
    total, given = len(slots), sum(slot.given for slot in slots)
    if given == 0:
        words = f"All {total} frames are made from the text." if total > 1 else "One frame is made."
    elif given == total:
        words = f"{total} frames, none to make yet."
        if board.task == "fix":
            words += " Click the frames that are to be made again."
    else:
        words = f"{given} of {total} frames stay as they are, {total - given} are made."
    if board.task == "animate" and board.clip is not None:
        words += " Animate uses one frame of your clip; the other tasks keep them all."
    seconds = sum(slot.duration_ms for slot in slots) / 1000
    return f'<p class="hint" aria-live="polite">{words} {seconds:g} s in all.</p>'


def editor_strip(editor: Editor) -> str:
    """The frames of the edited clip; pressed = selected."""
    if editor.clip is None:
        return '<p class="hint">No sticker yet. Make one, or open one from the history.</p>'
    cells = []
    for index, frame in enumerate(editor.clip.frames):
        duration = int(editor.clip.durations_ms[index])
        cells.append(
            f'<button type="button" class="frame" data-do="select" data-index="{index}" '
            f'data-key="select-{index}" aria-pressed="{str(index in editor.selected).lower()}" '
            f'aria-label="Frame {index + 1}, {duration} ms">{_image(picture(frame), "")}'
            f'<span class="number">{index + 1}</span><span class="time">{duration} ms</span>'
            "</button>"
        )
    label = "Frames of the sticker: pressed frames are selected"
    return f'<div class="strip frames" role="group" aria-label="{label}">{"".join(cells)}</div>'


def stage(clip: Sticker | None) -> str:
    """The edited clip: playing, or one frame of it with its neighbour shining through."""
    if clip is None:
        return '<div class="stage empty-stage"><p class="hint">Your sticker plays here.</p></div>'
    words = f"{clip.num_frames} frames · {clip.total_ms / 1000:g} s · {clip.width} × {clip.height}"
    shown = _image(animation(clip), "The sticker, playing", "big playing")
    urls = " ".join(picture(frame, _SCRUB_SIDE) for frame in clip.frames)
    layers = '<img class="onion" alt="" hidden><img class="one" alt="One frame" hidden>'
    return (
        f'<div class="stage"><div class="screen" data-frames="{urls}">{shown}{layers}</div>'
        f'<p class="hint">{words}</p>'
        f'<label class="scrub">Frame <input type="range" data-scrub min="0" step="1" value="0" '
        f'max="{clip.num_frames}" aria-label="Frame to show; 0 plays the sticker">'
        '<output aria-live="polite">playing</output></label>'
        '<label class="scrub"><input type="checkbox" data-onion> Onion skin: the frame before '
        "shines through</label></div>"
    )


def export_preview(frame: np.ndarray) -> str:
    """The first frame as it will be exported."""
    shown = _image(picture(frame, 256), "First frame as exported", "big")
    return f'<div class="said preview">{shown}<p class="hint">First frame as exported</p></div>'


# ------------------------------------------------------------------------------ making


def progress(job: Job, position: int) -> str:
    """Bar, words, and the picture as far as it is."""
    if job.state is JobState.QUEUED:
        words = f"Waiting: {position} before you" if position else "Starting…"
    elif job.state is JobState.IN_PROGRESS:
        words = f"Step {job.steps_done} of {job.steps_total}" if job.steps_total else "Starting…"
        if job.steps_total and job.steps_done == job.steps_total:
            words = "Finishing…"
    else:
        words = {JobState.COMPLETED: "Done", JobState.CANCELLED: "Cancelled"}.get(job.state, "")
    if job.error is not None:
        return notice(str(job.error))
    shown = ""
    if job.preview is not None and not job.is_finished:
        shown = _image(data_url(job.preview), "Preview of what is being made", "big")
    bar = (
        f'<div class="rd-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{job.progress}" aria-label="Progress">'
        f'<span style="width:{job.progress}%"></span></div>'
    )
    return (
        f'<div class="making said">{bar}<p class="hint" aria-live="polite">{words}</p>{shown}</div>'
    )


def variants(
    results: Sequence[Result],
    chosen: int,
    saved: Sequence[str] = (),
    said: Mapping[int, str] | None = None,
) -> str:
    """Results side by side; one of them is what the other tabs work on.

    Args:
        saved: token of each result's file, as far as there is one.
        said: a notice for one of them.
    """
    if not results:
        return (
            '<div class="stage empty-stage"><p class="hint">Nothing made yet. Drop a picture or '
            "a clip, or write what you want to see, then press Make.</p></div>"
        )
    cards = []
    for index, result in enumerate(results):
        url = data_url(result.path.read_bytes())
        pressed = "true" if index == chosen else "false"
        facts = f"{result.width} × {result.height} · {size_text(result.num_bytes)}"
        acts = (
            f'<button type="button" class="rd-btn" data-do="choose" data-index="{index}" '
            f'data-key="choose-{index}" data-single aria-pressed="{pressed}" '
            f'aria-label="Use variant {index + 1}">Use</button>'
        )
        if index < len(saved):
            acts += (
                f'<a class="rd-btn" href="files/{saved[index]}" download '
                f'aria-label="Save variant {index + 1} as WebP">Save</a>'
            )
        cards.append(
            f'<figure class="card">{_image(url, f"Variant {index + 1}, playing", "big")}'
            f"<figcaption><span>{facts}<br>seed {result.seed}</span>"
            f'<span class="acts">{acts}</span></figcaption>{(said or {}).get(index, "")}</figure>'
        )
    return f'<div class="cards">{"".join(cards)}</div>'


# ------------------------------------------------------------------------------ lists

_MARKS = {"open": "", "busy": "working…", "passed": "✓ passes", "refused": "✗ refused"}


def export_table(rows: Sequence[ExportRow]) -> str:
    """One line for each platform with its button, size, verdict, and file."""
    lines = []
    for row in rows:
        action = button(
            "export", "Export", name=row.platform, title=f"Export for {row.title}", kind="small"
        )
        if row.token:
            save = f"Save the file for {row.title}"
            action += (
                f'<a class="rd-btn small go" href="files/{row.token}" download '
                f'aria-label="{escape(save)}">Save</a>'
            )
        lines.append(
            f'<li class="rd-row {row.state}" data-platform="{escape(row.platform)}">'
            f'{_exported(row)}<span class="what"><b>{escape(row.title)}</b>'
            f"<small>{escape(row.asks)}</small></span>"
            f'<span class="verdict"><b>{_MARKS[row.state]}</b> {escape(row.size)}'
            f"<small>{escape(row.words)}</small></span>"
            f'<span class="acts">{action}</span></li>'
        )
    return f'<ul class="rd-table">{"".join(lines)}</ul>'


def _exported(row: ExportRow) -> str:
    """The exported file itself, where a browser can show it."""
    alt = f"The sticker for {escape(row.title)}"
    if row.shows.startswith("image/"):
        return f'<img class="checker file" src="files/{row.token}" alt="{alt}" draggable="false">'
    if row.shows:
        return (
            f'<video class="checker file" src="files/{row.token}" aria-label="{alt}" '
            "autoplay loop muted playsinline></video>"
        )
    return ""


def history_cards(items: Sequence[HistoryItem], said: Mapping[str, str] | None = None) -> str:
    """Everything that was made, newest first; `said`: a notice for one of them, by its id."""
    if not items:
        return '<p class="hint">What you make is kept here until the server stops.</p>'
    cards = []
    for item in items:
        what = item.prompt or item.what
        seed = "" if item.seed is None else f" · seed {item.seed}"
        open_it = button("open", "Open", name=item.id, title=f"Open: {what[:60]}", kind="small")
        drop = button("drop", "✕", name=item.id, title=f"Remove: {what[:60]}", kind="small quiet")
        cards.append(
            f'<figure class="card">{_image(data_url(item.thumbnail), what[:60])}'
            f"<figcaption><b>{escape(what[:80])}</b>"
            f"<small>{item.num_frames} frames · {item.total_ms / 1000:g} s{seed}</small>"
            f'<span class="acts">{open_it}{drop}</span></figcaption>{(said or {}).get(item.id, "")}'
            "</figure>"
        )
    return f'<div class="cards small">{"".join(cards)}</div>'


def pack_cards(entries: Sequence[PackEntry]) -> str:
    """The pack in its order."""
    if not entries:
        return '<p class="hint">The pack is empty. Add the sticker that is open in Edit.</p>'
    cards = []
    for index, entry in enumerate(entries):
        name = f"{entry.name}, place {index + 1}"
        acts = "".join(
            (
                button("earlier", "←", index=index, title=f"Earlier: {name}", kind="small quiet"),
                button("later", "→", index=index, title=f"Later: {name}", kind="small quiet"),
                button("remove", "✕", index=index, title=f"Remove: {name}", kind="small quiet"),
            )
        )
        cards.append(
            f'<figure class="card">{_image(data_url(entry.thumbnail), name)}'
            f"<figcaption><b>{escape(''.join(entry.emojis))} {escape(entry.name)}</b>"
            f'<span class="acts">{acts}</span></figcaption></figure>'
        )
    return f'<div class="cards small">{"".join(cards)}</div>'


def pack_result(token: str, report: str) -> str:
    """The finished pack: download, and what its check found."""
    lines = escape(report)
    return (
        f'<p class="said"><a class="rd-btn go" href="files/{token}" download>Save the pack</a></p>'
        f'<details><summary>What was checked</summary><pre class="report">{lines}</pre></details>'
    )


_INKS = {
    "black": "#1f2430",
    "white": "#ffffff",
    "red": "#f2545b",
    "orange": "#ff9f1c",
    "yellow": "#ffd23f",
    "green": "#3bb273",
    "blue": "#3a86ff",
    "violet": "#8f5bd6",
}


def drawing_pad() -> str:
    """A canvas with colours, pen width, undo and clear; `assets/draw.js` does the rest."""
    inks = "".join(
        f'<button type="button" class="ink" data-ink="{color}" style="background:{color}" '
        f'aria-pressed="{str(name == "black").lower()}" aria-label="{name}" '
        f'title="{name}"></button>'
        for name, color in _INKS.items()
    )
    eraser = (
        '<button type="button" class="rd-btn small" data-ink="eraser" aria-pressed="false">'
        "Eraser</button>"
    )
    acts = "".join(
        f'<button type="button" class="rd-btn small{kind}" data-pad="{do}"{more}>{label}</button>'
        for do, label, kind, more in (
            ("undo", "Undo", "", ""),
            ("clear", "Clear", "", ""),
            ("use", "Use the drawing", " go", ' id="use-drawing"'),
        )
    )
    return (
        '<div class="pad"><canvas class="checker" width="320" height="320" '
        'aria-label="Drawing area"></canvas>'
        f'<div class="acts">{inks}{eraser}<label class="scrub">Pen <input type="range" data-width '
        'min="2" max="48" value="12" aria-label="Width of the pen in pixels"></label></div>'
        f'<div class="acts">{acts}</div></div>'
    )
