"""The Edit tab: what happens when something on it is pressed. No Gradio in here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from rdtf.app.job import Job, JobState
from rdtf.app.spec import JobSpec, check_prompt, new_seeds
from rdtf.app.studio import edits, markup
from rdtf.app.studio.making import MakeHandlers, View, seed_of, steps_of, whole
from rdtf.app.studio.session import Session
from rdtf.errors import UserError
from rdtf.stickers import Sticker


class EditHandlers(MakeHandlers):
    """Events of the Edit tab. Most of them give strip, stage and notice."""

    def editor_view(self, token: str, message: str = "") -> View:
        editor = self.session(token).editor
        strip, stage = markup.editor_strip(editor), markup.stage(editor.clip)
        return strip, stage, markup.notice(message)

    def select(self, token: str, event: dict[str, Any]) -> None:
        """A frame of the editor was pressed; the page shows that by itself."""
        session = self.session(token)
        with session.lock, contextlib.suppress(UserError):
            session.editor.select(whole(event.get("index"), "frame"), bool(event.get("on")))

    def edit(self, token: str, do: str, *values: Any) -> View:
        """One edit by its name, with the values that it takes."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                session.editor.current()
                _edits(session)[do](*values)
            except UserError as error:
                message = str(error)
        return self.editor_view(token, message)

    async def regenerate(
        self, token: str, prompt: str, steps: float, seed: float | None
    ) -> AsyncIterator[View]:
        """Make the selected frames again. Yields strip, stage, and notice or progress."""
        session = self.session(token)
        try:
            with session.lock:
                clip = session.editor.current()
                spec = self._regenerate_spec(session, clip, prompt, steps, seed)
                job = self._submit(session, spec)
                session.regenerates = clip
        except UserError as error:
            yield self.editor_view(token, str(error))
            return
        async for view in self._regenerated(session, job, clip):
            yield view

    def _regenerate_spec(
        self, session: Session, clip: Sticker, prompt: str, steps: float, seed: float | None
    ) -> JobSpec:
        return JobSpec(
            request=edits.regenerate_request(clip, session.editor.selected),
            prompt=check_prompt(prompt.strip(), self.core.limits),
            seeds=new_seeds(seed_of(seed), 1),
            steps=steps_of(steps),
            output="input",
            task="fix",
            previews=True,
        )

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
            yield strip, stage, markup.progress(job, 0)

    def _take_regenerated(self, session: Session, job: Job, before: Sticker) -> None:
        with session.lock:
            if session.taken is job:
                return
            session.taken = job
            if session.editor.clip is before:  # not if another was opened meanwhile
                made = job.results[0].clip()
                session.editor.replace(made.replace(captions=before.captions))

    def keep(self, token: str) -> tuple[str, str]:
        """The edited clip goes into the history; returns its cards and a notice."""
        session = self.session(token)
        with session.lock:
            try:
                clip = session.editor.current()
                prompt = next(iter(clip.captions), "")
                session.visitor.remember(clip, prompt, None, "edited")
                message = markup.notice("Kept in the history.", "good")
            except UserError as error:
                message = markup.notice(str(error))
        return markup.history_cards(session.visitor.history), message


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
        "crop": lambda *sides: editor.change(
            lambda clip: edits.crop(clip, *(whole(side or 0, "side") for side in sides))
        ),
        "trim": lambda: editor.change(edits.trim),
        "cutout": lambda tolerance: editor.change(
            lambda clip: edits.without_background(clip, whole(tolerance, "tolerance"))
        ),
        "text": lambda *fields: editor.change(
            lambda clip: _with_text(clip, editor.selected, *fields)
        ),
    }


def _with_text(
    clip: Sticker, selected: set[int], words: str, place: str, size: float, color: str, edge: str
) -> Sticker:
    """Text on the selected frames, or on all if none is selected."""
    chosen = selected or range(clip.num_frames)
    return edits.with_text(
        clip, chosen, words, place=place, size_percent=float(size), color=color, edge_color=edge
    )
