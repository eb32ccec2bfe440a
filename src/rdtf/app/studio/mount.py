"""The page in the service's app: same process, same queue, same guard."""

from __future__ import annotations

import gradio as gr
from fastapi import FastAPI, Response

from rdtf.app.core import Core
from rdtf.app.studio.handlers import Handlers
from rdtf.app.studio.make_tab import asset
from rdtf.app.studio.page import build_page, theme


def mount_studio(app: FastAPI, core: Core) -> Handlers:
    """Add the page at `/` and its downloads at `/files`; returns the page's handlers."""
    handlers = Handlers(core)

    @app.get("/files/{token}", include_in_schema=False)
    def download(token: str) -> Response:
        """A file of an export; who knows the token may have it."""
        data, file = handlers.library.get(token)
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return Response(data, media_type=file.media_type, headers=headers)

    def is_let_in(user: str, password: str) -> bool:
        return core.keys.holds(password)

    gr.mount_gradio_app(
        app,
        build_page(handlers),
        path="/",
        auth=is_let_in if core.keys else None,
        auth_message="Any user name, and an API key as the password.",
        max_file_size=core.limits.upload.max_bytes,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=asset("studio.css"),
    )
    return handlers
