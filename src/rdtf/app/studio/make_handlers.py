"""The Make tab: what happens when something on it is pressed. No Gradio in here: tokens and values
in, values out, in the order that the page wires them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from rdtf.app.core import Core
from rdtf.app.job import Job, JobSpec, JobState, check_prompt, new_seeds
from rdtf.app.requests import decode_upload
from rdtf.app.studio import html
from rdtf.app.studio.session import ClipLibrary, Session, Sessions, Settings
from rdtf.app.studio.storyboard import TASKS, Storyboard
from rdtf.errors import UserError
from rdtf.sampling.options import SamplingOptions
from rdtf.sampling.requests import shrunk
from rdtf.stickers import Sticker

#: Film strip, the line beneath it, and a notice for beside what was pressed.
View = tuple[str, str, str]
_POLL_S = 0.1
#: Pictures are worked on at most so large; smaller ones stay as they are.
MAX_PICTURE_SIDE = 512
#: Tasks in which things move beyond the given frames, so that there is a motion to choose.
MOVING_TASKS = ("animate", "extend")


class MakeHandlers:
    """Events of the Make tab over one `core`; each tab of a visitor is a session behind a token."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.library = ClipLibrary(core.store)
        self.sessions = Sessions(core.store, core.queue, self.library, core.limits)

    def session(self, token: object) -> Session:
        return self.sessions.get(token)

    def upload(self, token: str, files: list[bytes] | None, frame: float = 0) -> View:
        """Files were dropped; `frame` is the slot that the first is for, 0 = start again."""

        def use(session: Session) -> str:
            clips = [self._decoded(data, f"file {i + 1}") for i, data in enumerate(files or [])]
            most = self.core.limits.max_references
            if len(clips) > most:
                raise UserError(f"drop at most {most} files at once")
            return self._place(session, clips, frame) if clips else ""

        return self._change(token, use)

    def _decoded(self, data: bytes, name: str) -> Sticker:
        clip = decode_upload(data, name, self.core.limits)
        return shrunk(clip, MAX_PICTURE_SIDE)

    def _place(self, session: Session, clips: list[Sticker], frame: float) -> str:
        place, words = whole(frame or 0, "frame"), ""
        if not place:
            words = session.storyboard.start(clips)
        else:
            for index, clip in enumerate(clips):
                session.storyboard.put(place - 1 + index, clip)
        return f"{words} {_not_drawn(clips)}".strip()

    def draw(self, token: str, event: dict[str, Any], frame: float = 0) -> View:
        """The drawing is to be used: `event` holds a PNG as base64."""

        def use(session: Session) -> str:
            data = _from_base64(event)
            if data is None:
                raise UserError("draw something first")
            still = self._decoded(data, "the drawing")
            if not still.frames[..., 3].any():
                raise UserError("draw something first")
            return self._place(session, [still], frame)

        return self._change(token, use)

    def use_edited(self, token: str) -> tuple[str, str, str]:
        """The edited clip becomes what to start from; the notice is for the Edit tab."""

        def use(session: Session) -> str:
            clip = shrunk(session.editor.current(), MAX_PICTURE_SIDE)
            session.storyboard.start([clip])
            return "Make now starts from this sticker."

        return self._change(token, use)

    def storyboard_view(self, token: str, notice: str = "") -> View:
        storyboard = self.session(token).storyboard
        return html.frame_strip(storyboard), html.strip_summary(storyboard), notice

    def attempt(self, session: Session, act: Callable[[], str | None]) -> str:
        """A notice with what `act` returns, or with what it can't do."""
        with session.lock:
            try:
                return html.notice(act() or "", "good")
            except UserError as error:
                return html.notice(str(error))

    def _change(self, token: str, change: Callable[[Session], str | None]) -> View:
        """Change the storyboard."""
        session = self.session(token)
        said = self.attempt(session, lambda: change(session))
        return self.storyboard_view(session.token, said)

    def give(self, token: str, event: dict[str, Any]) -> View:
        """A frame of the strip was pressed, or a file was dropped on it."""

        def press(session: Session) -> str | None:
            index = whole(event.get("index"), "frame")
            if event.get("do") == "drop":
                data = _from_base64(event)
                if data is None:
                    raise UserError("that can't be read; drop a picture file")
                return self._place(session, [self._decoded(data, "the file")], index + 1)
            on = event.get("on")
            return session.storyboard.set_given(index, None if on is None else bool(on))

        return self._change(token, press)

    def set(self, token: str, what: str, *values: Any) -> View:
        """Change the storyboard by one of `_changes`, with the values that it takes."""
        return self._change(token, lambda session: _changes(session.storyboard)[what](*values))

    def keep_settings(self, token: str, *fields: Any) -> None:
        """Remember the fields of the Make tab, for a reload."""
        session = self.session(token)
        with session.lock:
            session.settings = Settings(*fields)

    async def make(self, token: str, *fields: Any) -> AsyncIterator[tuple[str, str]]:
        """Make the frames that are not given; `fields` are those of `Settings`, in order.

        Yields progress (or a notice) and the variants.
        """
        session = self.session(token)
        try:
            with session.lock:
                session.settings = Settings(*fields)
                job = self._submit(session, self._spec(session))
                session.regenerates = None
        except UserError as error:
            yield html.notice(str(error)), self._variants(session)
            return
        async for view in self._made(session, job):
            yield view

    async def resume(self, token: str) -> AsyncIterator[tuple[str, str]]:
        """After a reload: follow the job that is still running. Yields what `make` does."""
        session = self.session(token)
        job = session.job
        if job is None or session.regenerates is not None or session.taken is job:
            yield "", self._variants(session)
            return
        async for view in self._made(session, job):
            yield view

    async def _made(self, session: Session, job: Job) -> AsyncIterator[tuple[str, str]]:
        """Follow a job until its variants are there."""
        shown = self._variants(session)
        async for view in self._follow(session, job):
            yield view, shown
        if job.state is JobState.COMPLETED:
            await asyncio.to_thread(self._take, session, job)
        yield html.progress(job, 0), self._variants(session)

    def _spec(self, session: Session) -> JobSpec:
        """The job that storyboard and fields describe."""
        settings, storyboard = session.settings, session.storyboard
        canvas = self.core.runner.pipeline(0).canvas
        request, output, size = storyboard.request(canvas).sized(settings.size, canvas)
        moves = storyboard.task in MOVING_TASKS
        return JobSpec(
            request=request,
            size=size,
            prompt=check_prompt(str(settings.prompt or "").strip(), self.core.limits),
            seeds=new_seeds(seed_of(settings.seed), max(1, whole(settings.variants, "variants"))),
            options=SamplingOptions(
                num_inference_steps=steps_of(settings.steps),
                guidance_scale=_number(settings.guidance, "guidance"),
                image_guidance_scale=_number(settings.image_guidance, "guidance"),
                motion=(settings.motion or None) if moves else None,
                motion_scale=_number(settings.strength, "strength") or 0.0 if moves else 1.0,
                loop=storyboard.loop,
                output_size=output,
            ),
            task=storyboard.task,
            previews=True,
        )

    def _submit(self, session: Session, spec: JobSpec) -> Job:
        self.core.runner.pipeline(0)
        most = self.core.limits.max_waiting_per_session
        session.job = self.core.queue.submit(spec, session.owner, max_own=most)
        return session.job

    async def _follow(self, session: Session, job: Job) -> AsyncIterator[str]:
        """Progress until the job ends; if nobody follows it any more, it is cancelled."""
        queue, version = self.core.queue, -1
        session.watching += 1
        try:
            while not job.is_finished:
                if job.version != version or job.state is JobState.QUEUED:
                    version = job.version
                    yield html.progress(job, queue.position(job))
                await asyncio.sleep(_POLL_S)
        finally:
            session.watching -= 1
            if not job.is_finished:
                self._cancel_if_left(session, job)

    def _cancel_if_left(self, session: Session, job: Job) -> None:
        """Cancel a job in a while, unless the page comes back by then, as in a reload."""

        def check() -> None:
            if not session.watching and not job.is_finished:
                self.core.queue.cancel(job)

        timer = threading.Timer(self.core.limits.reload_seconds, check)
        timer.daemon = True
        timer.start()

    def _take(self, session: Session, job: Job) -> None:
        """The variants go into history and clip library, the first one into the editor."""
        with session.lock:
            if session.taken is job:
                return
            session.taken = session.last_job = job
            session.saved = []
            prompt = job.spec.prompt
            what = TASKS.get(job.spec.task, "")
            with contextlib.suppress(UserError):  # both are a convenience: a full disk
                for result in reversed(job.results):
                    clip = result.clip().replace(captions=(prompt,) if prompt else ())
                    session.visitor.remember(clip, prompt, result.seed, what)
                for number, result in enumerate(job.results, 1):
                    path, stem = result.path, f"{prompt or what}-{number}"
                    token = self.library.put(session.owner, path.read_bytes(), stem, path.suffix)
                    session.saved.append(token)
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
        session.chosen = index
        session.editor.open(clip.replace(captions=(prompt,) if prompt else ()))

    def choose(self, token: str, event: dict[str, Any]) -> str:
        """A variant was chosen; returns the variants, with a notice on the one that was pressed."""
        session = self.session(token)

        def choose() -> str:
            self._choose(session, whole(event.get("index"), "variant"))
            return "Open in Edit, Export and Pack."

        index, said = event.get("index"), self.attempt(session, choose)
        return self._variants(session, {index: said} if isinstance(index, int) else {})

    def _variants(self, session: Session, notices: dict[int, str] | None = None) -> str:
        job = session.last_job
        results = job.results if job else ()
        try:
            return html.variants(results, session.chosen, session.saved, notices or {})
        except OSError:  # expired
            return html.variants((), 0)

    def cancel(self, token: str) -> str:
        """Cancel the tab's job; returns a notice, or "" if whoever follows the job tells."""
        session = self.session(token)
        job = session.job
        if job is None or job.is_finished:
            return html.notice("Nothing is being made.", "good")
        self.core.queue.cancel(job)
        return ""


def _changes(storyboard: Storyboard) -> dict[str, Callable[..., None]]:
    """Changes of the storyboard by the name that the page calls them."""
    clip = storyboard.clip
    every_second = set(range(1, clip.num_frames, 2)) if clip is not None else set()
    return {
        "task": lambda task: storyboard.set_task(str(task)),
        "loop": lambda on: storyboard.set_loop(bool(on)),
        "length": lambda frames, ms: storyboard.set_length(
            whole(frames, "number of frames"), whole(ms, "time")
        ),
        "extension": lambda after, before: storyboard.set_extension(
            whole(before, "number of frames"), whole(after, "number of frames")
        ),
        "regenerate every second": lambda: storyboard.make_again(every_second),
        "keep all": lambda: storyboard.make_again(set()),
        "clear": storyboard.clear,
    }


def _not_drawn(clips: list[Sticker]) -> str:
    """What of the Lottie files among `clips` the renderer leaves out, in words."""
    parts = dict.fromkeys(part for clip in clips for part in clip.metadata.get("not_drawn", ()))
    return f"Parts of the Lottie file are not drawn: {', '.join(parts)}." if parts else ""


def seed_of(value: Any) -> int | None:
    """The first seed; nothing or a negative number = a new one."""
    return None if value is None or value < 0 else whole(value, "seed")


def steps_of(value: Any) -> int | None:
    """Sampling steps; 0 or nothing = the model's own for the task."""
    return None if value is None else whole(value, "steps") or None


def _number(value: Any, what: str) -> float | None:
    """A number; nothing = the model's own for the task."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} must be a number") from error


def whole(value: Any, what: str) -> int:
    """A whole number from what a browser sent."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{what} must be a whole number") from error
    if abs(number) > 2**62:
        raise UserError(f"{what} is too large")
    return number


def _from_base64(event: dict[str, Any]) -> bytes | None:
    """The file that `studio.js` sent with an event, if there is one."""
    data = event.get("data")
    if not isinstance(data, str) or not data:
        return None
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
