"""All events of the page: Make from its own file; Edit, History, Export and Pack here.

No Gradio in here: tokens and values in, values out, in the order in which the page wires them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rdtf.app.job import Job, JobSpec, JobState, check_prompt, new_seeds
from rdtf.app.store import media_type, one_file
from rdtf.app.studio import html
from rdtf.app.studio.make_handlers import MakeHandlers, View, seed_of, steps_of, whole
from rdtf.app.studio.session import Session
from rdtf.errors import UserError
from rdtf.fileio import size_text
from rdtf.sampling.options import SamplingOptions
from rdtf.stickers import Sticker, edit
from rdtf.stickers.export import ExportOptions, PackItem, export_pack, export_sticker
from rdtf.stickers.export.edit import outline, parse_color, trim_to_content
from rdtf.stickers.export.packs import split_emojis
from rdtf.stickers.export.platforms import Platform, platforms


class Handlers(MakeHandlers):
    """The page's events over one `core`. Those of Edit give strip, stage and notice."""

    def editor_view(self, token: str, notice: str = "") -> View:
        editor = self.session(token).editor
        return html.editor_strip(editor.clip, editor.selected), html.stage(editor.clip), notice

    def select(self, token: str, event: dict[str, Any]) -> None:
        """A frame of the editor was pressed; the page shows that by itself."""
        session = self.session(token)
        with session.lock, contextlib.suppress(UserError):
            session.editor.select(whole(event.get("index"), "frame"), bool(event.get("on")))

    def edit(self, token: str, do: str, *values: Any) -> View:
        """One edit by its name, with the values that it takes."""
        session = self.session(token)

        def apply() -> None:
            session.editor.current()
            _edits(session)[do](*values)

        return self.editor_view(token, self.attempt(session, apply))

    async def regenerate(
        self, token: str, prompt: str, steps: float, seed: float | None
    ) -> AsyncIterator[View]:
        """Make the selected frames again. Yields strip, stage, and notice or progress."""
        session = self.session(token)
        try:
            with session.lock:
                clip = session.editor.current()
                spec = JobSpec(
                    request=session.editor.request(),
                    size=(clip.height, clip.width),
                    prompt=check_prompt(prompt.strip(), self.core.limits),
                    seeds=new_seeds(seed_of(seed), 1),
                    options=SamplingOptions(
                        num_inference_steps=steps_of(steps), output_size="input"
                    ),
                    task="fix",
                    previews=True,
                )
                job = self._submit(session, spec)
                session.regenerates = clip
        except UserError as error:
            yield self.editor_view(token, html.notice(str(error)))
            return
        async for view in self._regenerated(session, job, clip):
            yield view

    async def resume_edit(self, token: str) -> AsyncIterator[View]:
        """After a reload: follow the frames that are still being made. Yields what `edit` gives."""
        session = self.session(token)
        job, clip = session.job, session.regenerates
        if job is None or clip is None or session.taken is job:
            yield self.editor_view(token)
            return
        async for view in self._regenerated(session, job, clip):
            yield view

    async def _regenerated(self, session: Session, job: Job, clip: Sticker) -> AsyncIterator[View]:
        strip, stage, _ = self.editor_view(session.token)
        async for view in self._follow(session, job):
            yield strip, stage, view
        if job.state is JobState.COMPLETED:
            await asyncio.to_thread(self._take_regenerated, session, job, clip)
            yield self.editor_view(session.token)
        else:
            yield strip, stage, html.progress(job, 0)

    def _take_regenerated(self, session: Session, job: Job, before: Sticker) -> None:
        with session.lock:
            if session.taken is job:
                return
            session.taken = job
            if session.editor.clip is before:  # not if another was opened meanwhile
                made = job.results[0].clip().replace(captions=before.captions)
                session.editor.apply(lambda _: made)

    def keep(self, token: str) -> str:
        """The edited clip goes into the history; returns a notice."""
        session = self.session(token)

        def remember() -> str:
            clip = session.editor.current()
            session.visitor.remember(clip, next(iter(clip.captions), ""), None, "edited")
            return "Saved to the history."

        return self.attempt(session, remember)

    def history_view(self, token: str) -> str:
        return html.history_cards(self.session(token).visitor.history)

    def history(self, token: str, event: dict[str, Any]) -> str:
        """Open or remove one; returns the cards, with a notice on the one that was pressed."""
        session, name = self.session(token), str(event.get("name", ""))

        def change() -> str:
            if event.get("do") == "open":
                item, clip = session.visitor.recall(name)
                session.editor.open(clip.replace(captions=(item.prompt,) if item.prompt else ()))
                return "Open in Edit, Export and Pack."
            session.visitor.forget(name)
            return ""

        said = {name: self.attempt(session, change)}
        return html.history_cards(session.visitor.history, said)

    async def export(
        self, token: str, event: dict[str, Any] | None, *fields: Any
    ) -> AsyncIterator[str]:
        """Export for one platform, or for all without an event. Yields the table."""
        session = self.session(token)
        wanted = None if event is None else str(event.get("name", ""))
        try:
            clip = session.editor.current()
            options = _export_options(*fields)
        except UserError as error:
            yield _refused(wanted, str(error))
            return
        lines = _exports_of(session, options)
        for index, line in enumerate(lines):
            if wanted in (None, line.platform):
                fresh = open_exports()[index]
                lines[index] = replace(fresh, state="busy")
                yield html.export_table(lines)
                lines[index] = await asyncio.to_thread(_export, session, clip, fresh, options)
                yield html.export_table(lines)

    async def export_all(self, token: str, *fields: Any) -> AsyncIterator[str]:
        async for view in self.export(token, None, *fields):
            yield view

    def export_preview(self, token: str, *fields: Any) -> str:
        """How the first frame looks with outline, trim and background."""
        try:
            clip = self.session(token).editor.current()
            options = _export_options(*fields)
            return html.export_preview(_preview(clip, options))
        except UserError as error:
            return html.notice(str(error))

    def export_view(self, token: str) -> str:
        """What was exported of the open clip, as long as it is the same."""
        return html.export_table(_exports_of(self.session(token)))

    def pack_view(self, token: str) -> str:
        return html.pack_cards(self.session(token).visitor.pack)

    def pack_add(self, token: str, name: str, emojis: str) -> tuple[str, str]:
        """Add the edited clip; returns the cards and a notice."""
        session = self.session(token)

        def add() -> None:
            chosen = split_emojis(emojis[:64]) or ("🙂",)
            clip = session.editor.current()
            session.visitor.add_to_pack(clip, name.strip()[:40] or "sticker", chosen)

        said = self.attempt(session, add)
        return self.pack_view(session.token), said

    def pack_change(self, token: str, event: dict[str, Any]) -> tuple[str, str]:
        """Move or remove one; returns the cards and a notice."""
        session = self.session(token)

        def change() -> None:
            index, do = whole(event.get("index"), "place"), event.get("do")
            if do == "remove":
                session.visitor.remove_from_pack(index)
            else:
                session.visitor.move_in_pack(index, 1 if do == "later" else -1)

        said = self.attempt(session, change)
        return self.pack_view(session.token), said

    def pack_build(self, token: str, platform: str, name: str, author: str, *fields: Any) -> str:
        """Export the pack; returns a download, or why there is none."""
        session = self.session(token)
        visitor, name = session.visitor, name.strip()
        try:
            options = _export_options(*fields)
            if not visitor.pack:
                raise UserError("the pack is empty; add stickers first")
            items = [PackItem(visitor.load(e.id), e.name, e.emojis) for e in visitor.pack]
            pack = export_pack(items, platform, name=name, author=author.strip(), options=options)
            suffix = pack.archive if pack.archive in (".wastickers", ".zip") else ".zip"
            data, stem = pack.to_bytes(), f"{name}-{platform}"
            made = visitor.library.put(session.owner, data, stem, suffix)
        except UserError as error:
            return html.notice(str(error))
        return html.pack_result(made, str(pack.check))


def _refused(wanted: str | None, message: str) -> str:
    """The reason beside the button that was pressed: in its line, or above all of them."""
    lines = open_exports()
    if wanted is None:
        return html.notice(message) + html.export_table(lines)
    return html.export_table(
        [
            replace(line, state="refused", words=message) if line.platform == wanted else line
            for line in lines
        ]
    )


def _edits(session: Session) -> dict[str, Callable[..., None]]:
    """Edits by the name that the page calls them."""
    editor = session.editor
    return {
        "earlier": lambda: editor.move(-1),
        "later": lambda: editor.move(1),
        "delete": editor.delete,
        "duplicate": editor.duplicate,
        "reverse": editor.reverse,
        "undo": editor.undo,
        "redo": editor.redo,
        "all": editor.select_all,
        "none": lambda: editor.select_all(False),
        "retime": lambda ms: editor.retime(whole(ms, "time")),
        "crop": lambda *sides: editor.apply(
            lambda clip: edit.crop(clip, *(whole(side or 0, "side") for side in sides))
        ),
        "trim": lambda: editor.apply(trim_to_content),
        "cutout": lambda tolerance: editor.apply(
            lambda clip: edit.without_background(clip, whole(tolerance, "tolerance"))
        ),
        "text": lambda words, place, size, color, edge: editor.apply(
            lambda clip: edit.with_text(
                clip,
                editor.selected_or_all(),
                words,
                place=place,
                size_percent=float(size),
                color=color,
                edge_color=edge,
            )
        ),
    }


# ------------------------------------------------------------------------------ export

_PREVIEW_SIDE = 512
# Least decibels on white, and what a person sees of such an error.
_QUALITY = (
    (42, "looks the same as the sticker"),
    (35, "nearly the same; differences show when enlarged"),
    (29, "slightly softer or with fewer colours"),
)


@dataclass(frozen=True)
class _PlatformExport:
    """One platform's line of the table.

    Attributes:
        limits: those that matter most, in a few words.
        state: "open" (not tried), "busy", "passed" or "refused".
        words: what came of it.
        token: of the file in the clip library, if there is one.
        media_type: of that file if a browser can show it.
    """

    platform: str
    title: str
    limits: str
    state: str = "open"
    words: str = ""
    size: str = ""
    token: str = ""
    media_type: str = ""


def open_exports() -> list[_PlatformExport]:
    """Every platform, none tried."""
    return [_PlatformExport(p.id, p.title, _limits(p)) for p in platforms().values()]


def _exports_of(session: Session, options: ExportOptions | None = None) -> list[_PlatformExport]:
    """The lines so far, unless the open clip or the options are others now; None = any options."""
    clip, known = session.editor.clip, session.exports
    if known is None or known[0] is not clip or options not in (None, known[1]):
        session.exports = known = (clip, options, open_exports())
    return known[2]


def _limits(platform: Platform) -> str:
    words = []
    canvas = platform.canvas()
    if canvas is not None:
        words.append(f"{canvas.value[0]} x {canvas.value[1]}")
    if most := platform.value("max_bytes"):
        words.append(f"up to {size_text(most)}")
    if most := platform.value("max_total_ms"):
        words.append(f"up to {most / 1000:g} s")
    return ", ".join(word.replace(" ", "\u00a0") for word in [platform.format, *words])


def _export_options(
    outline_px: float, trim: bool, close: str, speed: float, time: str, background: str
) -> ExportOptions:
    """From the page's fields; an empty background keeps the transparency."""
    return ExportOptions(
        outline_px=float(outline_px or 0),
        trim=bool(trim),
        close=close,  # type: ignore[arg-type]
        speed=float(speed or 1),
        time=time,  # type: ignore[arg-type]
        background=parse_color(background) if (background or "").strip() else None,
    )


def _export(
    session: Session, clip: Sticker, line: _PlatformExport, options: ExportOptions
) -> _PlatformExport:
    """Export one clip; a refusal is a line too, with the reason."""
    platform = platforms()[line.platform]
    try:
        export = export_sticker(clip, platform, options)
        data, suffix = one_file(export)
        stem = f"{(clip.captions or ('sticker',))[0]}-{platform.id}"
        token = session.visitor.library.put(session.owner, data, stem, suffix)
    except UserError as error:
        words = re.sub(r"--(\w+)", r"\1", str(error).removeprefix(f"{platform.title}: "))
        return replace(line, state="refused", words=words)
    report = export.report
    exact = report.is_exact and not report.gave_up
    words = "; ".join([_quality_words(report.loss.psnr_white_db, exact), *report.gave_up])
    size = size_text(len(data))
    if report.max_bytes is not None:
        size += f" of {size_text(report.max_bytes)}"
    kind = media_type(suffix)
    shown = kind if kind.startswith(("image/", "video/")) else ""
    return replace(line, state="passed", words=words, size=size, token=token, media_type=shown)


def _quality_words(psnr_db: float, exact: bool) -> str:
    """How the file looks beside the sticker, in words.

    Args:
        psnr_db: peak signal-to-noise ratio on white.
        exact: the file keeps every pixel.
    """
    if exact:
        return "lossless"
    found = (words for least_db, words in _QUALITY if psnr_db >= least_db)
    return next(found, "clearly worse than the sticker")


def _preview(clip: Sticker, options: ExportOptions) -> np.ndarray:
    """The first frame with trim, outline and background, uint8 [H, W, 4], on 512 pixels at most."""
    still = clip.select([0])
    if options.trim:
        still = trim_to_content(clip).select([0])
    still = outline(still.fit_canvas(_PREVIEW_SIDE), options.outline_px, options.outline_color)
    if options.background is not None:
        frame = np.empty_like(still.frames)
        frame[..., :3], frame[..., 3] = still.on_background(options.background), 255
        return frame[0]
    return still.frames[0]


def pack_platforms() -> list[tuple[str, str]]:
    """Title and id of those that have packs."""
    return [(p.title, p.id) for p in platforms().values() if p.pack is not None]
