"""The parts of a running server, put together: keys, queue, work folder, REST, page, uvicorn."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rdtf.app.errors import Limits, ServiceError
from rdtf.app.job import Job, JobState
from rdtf.app.jobs import JobQueue
from rdtf.app.runner import PipelineRunner
from rdtf.app.store import Result, Store
from rdtf.errors import ConfigError, UserError
from rdtf.stickers import Sticker, encode_sticker

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_LEAST_KEY_CHARACTERS = 16
_MAX_CONNECTIONS = 512
_KEEP_ALIVE_S = 30


class ApiKeys:
    """The keys that are let in; none = everybody is. Only their hashes are kept."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        for key in keys:
            if len(key) < _LEAST_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
                least = _LEAST_KEY_CHARACTERS
                raise ConfigError(f"an API key needs {least} or more ASCII characters")
        self._digests = tuple(_digest(key) for key in keys)

    @classmethod
    def from_file(cls, path: Path | str) -> ApiKeys:
        """One key a line; empty lines and lines that start with # do not count."""
        try:
            lines = Path(path).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"API key file {path} can't be read: {error}") from error
        keys = tuple(s for line in lines if (s := line.strip()) and not s.startswith("#"))
        if not keys:
            raise ConfigError(f"API key file {path} holds no key; write one per line")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def holds(self, key: str) -> bool:
        """Whether `key` is one of them; takes as long whichever it is."""
        given = _digest(key)
        return sum(hmac.compare_digest(given, digest) for digest in self._digests) > 0

    def owner(self, authorization: str | None) -> str:
        """Whose jobs a request may see: a name for each key, "" if there are no keys.

        Args:
            authorization: the header, `Bearer KEY`.
        """
        if not self:
            return ""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not self.holds(key.strip()):
            message = "a valid API key is required: send Authorization: Bearer KEY"
            raise ServiceError(message, code="invalid_api_key")
        return f"key-{_digest(key.strip()).hex()[:16]}"


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True)
class Core:
    """One model, one queue, one work folder; REST and studio hold the same one."""

    runner: PipelineRunner
    queue: JobQueue
    store: Store
    limits: Limits
    keys: ApiKeys

    @classmethod
    def build(
        cls,
        runner: PipelineRunner,
        work: Path | str,
        limits: Limits | None = None,
        keys: ApiKeys | None = None,
    ) -> Core:
        """Everything but the worker, which `start` starts and which first loads the model."""
        limits = limits or Limits()
        store = Store(work)
        return cls(runner, JobQueue(runner, store, limits), store, limits, keys or ApiKeys())

    def start(self) -> None:
        self.queue.start()

    def close(self) -> None:
        """Stop the worker; of the work folder only jobs that go on after a restart are kept."""
        self.queue.close(timeout_s=10)
        self.store.close()

    def check_ready(self) -> None:
        """Raise `ServiceError` with the reason if no job could be done."""
        self.runner.pipeline(0)
        if not self.queue.is_alive:
            raise ServiceError("the worker has stopped; restart the server", code="unavailable")
        if not self.store.is_writable():
            raise ServiceError("the work folder can't be written", code="unavailable")


# ------------------------------------------------------------------------------ results


def _result_of(job: Job) -> Result:
    if job.state is JobState.COMPLETED:
        return job.results[0]
    if job.error is not None:
        raise ServiceError(f"the video failed: {job.error}", code="failed")
    message = f"the video is {job.state.value}; ask again when it is completed"
    raise ServiceError(message, code="not_ready")


def clip_of(job: Job) -> Sticker:
    """The clip of a completed job, every pixel of it; `ServiceError` if there is none."""
    result = _result_of(job)
    try:
        return result.clip()
    except (OSError, UserError) as error:
        raise ServiceError("the video has expired", code="not_found") from error


def content_of(job: Job, variant: str = "video") -> tuple[bytes, str]:
    """Bytes and suffix of "video", "thumbnail" or "spritesheet"; `ServiceError` if not there."""
    if variant == "video":
        path = _result_of(job).path
        try:
            return path.read_bytes(), path.suffix
        except OSError as error:
            message = "there is no such video; it may have expired"
            raise ServiceError(message, code="not_found") from error
    clip = clip_of(job)
    if variant == "thumbnail":
        return encode_sticker(clip.select([0]), ".png"), ".png"
    from rdtf.stickers.export import export_sticker

    return export_sticker(clip, "sheet").data, ".png"


# ------------------------------------------------------------------------------ the process


@contextlib.contextmanager
def work_folder(work: Path | None, port: int) -> Iterator[Path]:
    """`work`, or the user's own folder for `port`, the same at every start.

    Libraries that write temporary files are told to do so inside, so that even a killed server
    leaves nothing elsewhere. To be entered before gradio is imported, which looks for its folder
    once.
    """
    if work is None:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        work = Path(state) / "rdtf" / f"studio-{port}"
    work = work.resolve()
    os.environ["GRADIO_TEMP_DIR"] = str(work / "gradio")
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    before = tempfile.tempdir
    tempfile.tempdir = str(work / "tmp")
    try:
        yield work
    finally:
        tempfile.tempdir = before


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 = any that is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise UserError(f"{host}:{port} can't be served: {reason}; name another --port") from error
    except OverflowError as error:
        listener.close()
        raise UserError(f"port {port} does not exist; the highest is 65535") from error
    return listener


def make_app(core: Core, *, page: bool = True) -> FastAPI:
    """REST, and the page in the same app."""
    try:
        from rdtf.app.api import create_app

        app = create_app(core)
        if page:
            from rdtf.app.studio.page import mount_studio

            mount_studio(app, core)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("rdtf"):
            raise
        raise ConfigError(f"{error.name} is missing; pip install 'rdtf[studio]'") from error
    return app


def make_server(app: FastAPI) -> uvicorn.Server:
    """A server that is not running yet."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
    )
    return uvicorn.Server(config)


def serve(core: Core, listener: socket.socket, *, page: bool, on_up: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM. The page is up first; the model is loaded behind it.

    Args:
        on_up: called when requests are answered.
    """
    server = make_server(make_app(core, page=page))
    startup = server.startup

    async def started(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        core.start()
        on_up()

    server.startup = started  # type: ignore[method-assign]
    try:
        server.run(sockets=[listener])
    finally:
        core.close()
