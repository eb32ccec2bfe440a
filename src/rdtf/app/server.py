"""The running process: one app with REST and page, served by uvicorn."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rdtf.app.core import Core
from rdtf.errors import ConfigError, UserError

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_MAX_CONNECTIONS = 512
_KEEP_ALIVE_S = 30


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
    """A listening socket; port 0 = any that is free.

    Raises:
        UserError: the address is taken or not ours.
    """
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
    """REST, and the page in the same app.

    Raises:
        ConfigError: the extra `studio` is not installed.
    """
    try:
        from rdtf.app.api import create_app

        app = create_app(core)
        if page:
            from rdtf.app.studio.mount import mount_studio

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
    app = make_app(core, page=page)
    server = make_server(app)
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
