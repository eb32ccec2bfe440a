"""What happens when something on the page is pressed. No Gradio in here: tokens and values in,
values out, in the order that `page` wires them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np

from rdtf.errors import UserError
from rdtf.export import ExportOptions
from rdtf.export.packs import split_emojis
from rdtf.service.core import Core
from rdtf.service.jobs import Job, JobState
from rdtf.service.spec import JobSpec, OutputSize, check_prompt, new_seeds
from rdtf.service.uploads import decode_upload
from rdtf.stickers import Sticker
from rdtf.stickers.canvas import composite_over
from rdtf.studio import edits, exporting, markup
from rdtf.studio.session import Session, Sessions
from rdtf.studio.shelf import Shelf

#: Three pieces of HTML: a strip, something beside it, a notice.
View = tuple[str, str, str]
_POLL_S = 0.1
#: Pictures on the film strip are at most so large: more would only be scaled down again.
MAX_PICTURE_SIDE = 512


class Handlers:
    """The page's events over one `core`; each visitor is a session behind a token."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.shelf = Shelf(core.store)
        self.sessions = Sessions(core.store, core.queue, self.shelf, core.limits)

    def session(self, token: object) -> Session:
        return self.sessions.get(token)

    # ------------------------------------------------------------ what to start from

    def upload(self, token: str, data: bytes | None, where: str, frame: float) -> View:
        """A file was dropped. Returns strip, words and notice."""
        if data is None:
            return self.board_view(token)
        try:
            clip = decode_upload(data, "the file", self.core.limits)
            return self._place(token, clip, where, frame)
        except UserError as error:
            return self.board_view(token, str(error))

    def draw(self, token: str, drawn: Any, where: str, frame: float) -> View:
        """The drawing is to be used: an editor's value or uint8 [H, W, 4]."""
        try:
            return self._place(token, drawing(drawn), where, frame)
        except UserError as error:
            return self.board_view(token, str(error))

    def use_edited(self, token: str) -> View:
        """The edited clip becomes what to start from."""
        session = self.session(token)
        try:
            return self._place(token, session.editor.current(), "start", 1)
        except UserError as error:
            return self.board_view(token, str(error))

    def _place(self, token: str, clip: Sticker, where: str, frame: float) -> View:
        session = self.session(token)
        clip = shrunk(clip, MAX_PICTURE_SIDE)
        with session.lock:
            if where == "put":
                session.board.put(whole(frame, "frame") - 1, clip)
            else:
                session.board.start(clip)
        return self.board_view(token)

    # ------------------------------------------------------------ the film strip

    def board_view(self, token: str, message: str = "") -> View:
        board = self.session(token).board
        return markup.film_strip(board), markup.mask_words(board), markup.notice(message)

    def give(self, token: str, event: dict[str, Any]) -> View:
        """A frame of the strip was pressed."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                session.board.toggle(whole(event.get("index"), "frame"), bool(event.get("on")))
            except UserError as error:
                message = str(error)
        return self.board_view(token, message)

    def choose_mask(self, token: str, choice: str) -> View:
        session = self.session(token)
        with session.lock:
            session.board.choose(choice)
        return self.board_view(token)

    def set_length(self, token: str, num_frames: float, frame_ms: float | None) -> View:
        """Number of frames and time of each; no time keeps what there is."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                session.board.set_length(whole(num_frames, "number of frames"))
                if frame_ms:
                    session.board.set_duration(whole(frame_ms, "time"))
            except UserError as error:
                message = str(error)
        return self.board_view(token, message)

    def clear(self, token: str) -> View:
        session = self.session(token)
        with session.lock:
            session.board.clear()
        return self.board_view(token)

    # ------------------------------------------------------------ making

    async def make(
        self,
        token: str,
        prompt: str,
        steps: float,
        variants: float,
        seed: float | None,
        guidance: float | None,
        image_guidance: float | None,
        size: str,
    ) -> AsyncIterator[tuple[str, str]]:
        """Make the frames that are not given. Yields progress and variants."""
        session = self.session(token)
        try:
            with session.lock:
                spec = self._spec(
                    session, prompt, steps, variants, seed, guidance, image_guidance, size
                )
                job = self._submit(session, spec)
        except UserError as error:
            yield markup.notice(str(error)), self._variants(session)
            return
        async for view in self._follow(session, job):
            yield view, ""
        if job.state is JobState.COMPLETED:
            await asyncio.to_thread(self._take, session, job, prompt)
        yield markup.progress(job, 0), self._variants(session)

    def _spec(
        self,
        session: Session,
        prompt: str,
        steps: float,
        variants: float,
        seed: float | None,
        guidance: float | None,
        image_guidance: float | None,
        size: str,
    ) -> JobSpec:
        output: OutputSize = "input" if size == "input" and session.board.size else "canvas"
        first = None if seed is None or seed < 0 else whole(seed, "seed")
        return JobSpec(
            request=session.board.request(self.core.runner.canvas),
            prompt=check_prompt(prompt.strip(), self.core.limits),
            seeds=new_seeds(first, max(1, whole(variants, "variants"))),
            steps=_steps(steps),
            guidance=_guidance(guidance),
            image_guidance=_guidance(image_guidance),
            output=output,
            previews=True,
        )

    def _submit(self, session: Session, spec: JobSpec) -> Job:
        self.core.runner.pipeline(0)
        most = self.core.limits.max_waiting_per_session
        session.job = self.core.queue.submit(spec, session.owner, max_own=most)
        return session.job

    async def _follow(self, session: Session, job: Job) -> AsyncIterator[str]:
        """Progress until the job ends; if the visitor leaves, the job is cancelled."""
        queue, version = self.core.queue, -1
        try:
            while not job.is_finished:
                if job.version != version or job.state is JobState.QUEUED:
                    version = job.version
                    yield markup.progress(job, queue.position(job))
                await asyncio.sleep(_POLL_S)
        finally:
            if not job.is_finished:
                queue.cancel(job)

    def _take(self, session: Session, job: Job, prompt: str) -> None:
        """The variants go into the history, the first one into the editor."""
        with session.lock:
            session.last_job = job
            with contextlib.suppress(UserError):  # the history is a convenience: a full disk
                for result in reversed(job.results):
                    clip = result.clip().replace(captions=(prompt,) if prompt else ())
                    session.remember(clip, prompt, result.seed, "from your pictures")
            self._choose(session, 0)

    def _choose(self, session: Session, index: int) -> None:
        job = session.last_job
        if job is None or not 0 <= index < len(job.results):
            raise UserError("that variant is gone; open it from the history")
        try:
            clip = job.results[index].clip()
        except OSError as error:
            raise UserError("that variant has expired; open it from the history") from error
        prompt = job.spec.prompt
        session.editor.open(clip.replace(captions=(prompt,) if prompt else ()))

    def choose(self, token: str, event: dict[str, Any]) -> str:
        """A variant was chosen; returns a notice."""
        session = self.session(token)
        with session.lock:
            try:
                self._choose(session, whole(event.get("index"), "variant"))
            except UserError as error:
                return markup.notice(str(error))
        return markup.notice("This variant is now open in Edit, Export and Pack.", "good")

    def _variants(self, session: Session) -> str:
        job = session.last_job
        try:
            return markup.variants(job.results if job else (), 0)
        except OSError:  # expired
            return markup.variants((), 0)

    def variants_view(self, token: str) -> str:
        """What was made last, after the page was reloaded."""
        return self._variants(self.session(token))

    def cancel(self, token: str) -> str:
        """Cancel the visitor's job; returns a notice."""
        session = self.session(token)
        job = session.job
        if job is None or job.is_finished:
            return markup.notice("Nothing is being made.", "good")
        self.core.queue.cancel(job)
        return markup.notice("Cancelled.", "good")

    # ------------------------------------------------------------ editing

    def editor_view(self, token: str, message: str = "") -> View:
        """Strip, stage and notice."""
        editor = self.session(token).editor
        strip, stage = markup.editor_strip(editor), markup.stage(editor.clip)
        return strip, stage, markup.notice(message)

    def select(self, token: str, event: dict[str, Any]) -> None:
        """A frame of the editor was pressed; the page shows that by itself."""
        session = self.session(token)
        with session.lock, contextlib.suppress(UserError):
            session.editor.select(whole(event.get("index"), "frame"), bool(event.get("on")))

    def edit(self, token: str, do: str, value: float | None = None) -> View:
        """One edit by its name; `value` is the time in milliseconds for "retime"."""
        session, message = self.session(token), ""
        editor = session.editor
        with session.lock:
            try:
                editor.current()
                if do == "retime":
                    editor.retime(whole(value, "time"))
                else:
                    {
                        "earlier": lambda: editor.move(-1),
                        "later": lambda: editor.move(1),
                        "delete": editor.delete,
                        "duplicate": editor.duplicate,
                        "reverse": editor.reverse,
                        "undo": editor.undo,
                        "redo": editor.redo,
                        "all": editor.select_all,
                        "none": lambda: editor.select_all(False),
                    }[do]()
            except UserError as error:
                message = str(error)
        return self.editor_view(token, message)

    async def regenerate(
        self, token: str, prompt: str, steps: float, seed: float | None
    ) -> AsyncIterator[View]:
        """Make the selected frames anew. Yields strip, stage, and notice or progress."""
        session = self.session(token)
        try:
            with session.lock:
                clip = session.editor.current()
                request = edits.regenerate_request(clip, session.editor.selected)
                first = None if seed is None or seed < 0 else whole(seed, "seed")
                spec = JobSpec(
                    request=request,
                    prompt=check_prompt(prompt.strip(), self.core.limits),
                    seeds=new_seeds(first, 1),
                    steps=_steps(steps),
                    output="input",
                    task="fill",
                    previews=True,
                )
                job = self._submit(session, spec)
        except UserError as error:
            yield self.editor_view(token, str(error))
            return
        strip, stage, _ = self.editor_view(token)
        async for view in self._follow(session, job):
            yield strip, stage, view
        if job.state is JobState.COMPLETED:
            await asyncio.to_thread(self._take_regenerated, session, job, clip)
            yield self.editor_view(token)
        else:
            yield strip, stage, markup.progress(job, 0)

    def _take_regenerated(self, session: Session, job: Job, before: Sticker) -> None:
        made = job.results[0].clip()
        with session.lock:
            if session.editor.clip is before:  # not if another was opened meanwhile
                session.editor.replace(made.replace(captions=before.captions))

    def keep(self, token: str) -> tuple[str, str]:
        """The edited clip goes into the history; returns its cards and a notice."""
        session = self.session(token)
        with session.lock:
            try:
                clip = session.editor.current()
                prompt = next(iter(clip.captions), "")
                session.remember(clip, prompt, None, "edited")
                message = markup.notice("Kept in the history.", "good")
            except UserError as error:
                message = markup.notice(str(error))
        return markup.history_cards(session.history), message

    # ------------------------------------------------------------ history

    def history_view(self, token: str) -> str:
        return markup.history_cards(self.session(token).history)

    def history(self, token: str, event: dict[str, Any]) -> tuple[str, str]:
        """Open or remove one; returns the cards and a notice."""
        session, name = self.session(token), str(event.get("name", ""))
        message = ""
        with session.lock:
            try:
                if event.get("do") == "open":
                    item, clip = session.recall(name)
                    session.editor.open(
                        clip.replace(captions=(item.prompt,) if item.prompt else ())
                    )
                    message = markup.notice("Open in Edit, Export and Pack.", "good")
                elif event.get("do") == "drop":
                    session.forget(name)
            except UserError as error:
                message = markup.notice(str(error))
        return markup.history_cards(session.history), message

    # ------------------------------------------------------------ export

    def export(self, token: str, event: dict[str, Any] | None, *fields: Any) -> AsyncIterator[str]:
        """Export for one platform, or for all without an event. Yields the table."""
        wanted = None if event is None else str(event.get("name", ""))
        return self._export(token, wanted, fields)

    async def _export(self, token: str, wanted: str | None, fields: Any) -> AsyncIterator[str]:
        session = self.session(token)
        try:
            clip = session.editor.current()
            options = export_options(*fields)
        except UserError as error:
            yield markup.notice(str(error)) + markup.export_table(exporting.open_rows())
            return
        rows = session.export_rows(clip, options)
        for index, row in enumerate(rows):
            if wanted in (None, row.platform):
                rows[index] = exporting.ExportRow(row.platform, row.title, row.asks, "busy")
                yield markup.export_table(rows)
                rows[index] = await asyncio.to_thread(
                    exporting.export_row, session, self.shelf, clip, row.platform, options
                )
                yield markup.export_table(rows)

    def export_view(self, token: str) -> str:
        """What was exported of the open clip, as long as it is the same."""
        session = self.session(token)
        return markup.export_table(session.export_rows(session.editor.clip, None))

    # ------------------------------------------------------------ pack

    def pack_view(self, token: str) -> str:
        return markup.pack_cards(self.session(token).pack)

    def pack_add(self, token: str, name: str, emojis: str) -> tuple[str, str]:
        """Add the edited clip; returns the cards and a notice."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                clip = session.editor.current()
                chosen = split_emojis(emojis[:64]) or ("🙂",)
                session.add_to_pack(clip, name.strip()[:40] or "sticker", chosen)
            except UserError as error:
                message = str(error)
        return markup.pack_cards(session.pack), markup.notice(message)

    def pack_change(self, token: str, event: dict[str, Any]) -> tuple[str, str]:
        """Move or remove one; returns the cards and a notice."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                index, do = whole(event.get("index"), "place"), event.get("do")
                if do == "remove":
                    session.remove_from_pack(index)
                else:
                    session.move_in_pack(index, 1 if do == "later" else -1)
            except UserError as error:
                message = str(error)
        return markup.pack_cards(session.pack), markup.notice(message)

    def pack_build(self, token: str, platform: str, name: str, author: str, *fields: Any) -> str:
        """Export the pack; returns a download, or why there is none."""
        session = self.session(token)
        try:
            made, report = exporting.build_pack(
                session, self.shelf, platform, name.strip(), author.strip(), export_options(*fields)
            )
        except UserError as error:
            return markup.notice(str(error))
        return markup.pack_result(made, report)


def export_options(
    outline_px: float, trim: bool, close: str, speed: float, time: str, background: str
) -> ExportOptions:
    return exporting.make_options(
        float(outline_px or 0), bool(trim), close, float(speed or 1), time, background or ""
    )


def _steps(value: Any) -> int | None:
    """Denoising steps; 0 or nothing = the model's own for the task."""
    return None if value is None else whole(value, "steps") or None


def _guidance(value: Any) -> float | None:
    """A guidance scale; nothing = the model's own for the task."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise UserError("guidance must be a number") from error


def whole(value: Any, what: str) -> int:
    """A whole number from what a browser sent."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{what} must be a whole number") from error
    if abs(number) > 2**62:
        raise UserError(f"{what} is too large")
    return number


def drawing(drawn: Any) -> Sticker:
    """A drawing as a still, transparent where nothing was drawn.

    Args:
        drawn: uint8 [H, W, 4], or a drawing tool's value with such arrays under "layers". Its
            "composite" lies on white, which nobody drew.

    Raises:
        UserError: nothing was drawn.
    """
    layers = drawn.get("layers") if isinstance(drawn, dict) else [drawn]
    pixels: np.ndarray | None = None
    for layer in layers or ():
        if isinstance(layer, np.ndarray) and layer.ndim == 3 and layer.shape[2] == 4:
            pixels = layer if pixels is None else composite_over(layer, pixels)
    if pixels is None or not (pixels[..., 3] > 0).any():
        raise UserError("draw something first")
    return Sticker(np.ascontiguousarray(pixels[None], dtype=np.uint8), np.array([100]))


def shrunk(clip: Sticker, most: int) -> Sticker:
    """The longer side at most `most` pixels; never enlarged, aspect kept."""
    from rdtf.service.asked import tidy_size

    return tidy_size(clip, most)
