"""The page: what lies where, and which handler answers what. Gradio and nothing else."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import gradio as gr
from fastapi import FastAPI, Response

from rdtf.app.core import Core
from rdtf.app.errors import ServiceError
from rdtf.app.studio import html
from rdtf.app.studio.handlers import Handlers, open_exports, pack_platforms
from rdtf.app.studio.make_tab import (
    CLICK,
    LATEST,
    PRIVATE,
    MakeFields,
    asset,
    heading,
    make_tab,
    notice_box,
    own_html,
    sent,
    storyboard_values,
    with_event,
)
from rdtf.stickers import edit

_CLOSINGS = ["none", "ping-pong", "boomerang", "cross-fade"]
_TIMES = ["refuse", "trim", "hold", "speed"]
_PAGE_TITLE = "rdtf studio"
# The visitor's secret is kept for all tabs, the tab's own for this one alone. A tab that was
# duplicated brings the secret of the other along: whoever holds the lock keeps it.
_READ_TOKEN, _WRITE_TOKEN = asset("read_token.js"), asset("write_token.js")


def _theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: none is fetched."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    return gr.themes.Soft(
        primary_hue="violet", neutral_hue="slate", radius_size="lg", font=sans, font_mono=mono
    ).set(**json.loads(asset("theme.json")))


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
        theme=_theme(),
        css=asset("studio.css"),
    )
    return handlers


def build_page(handlers: Handlers) -> gr.Blocks:
    """The whole page over one set of handlers."""
    with gr.Blocks(
        title=_PAGE_TITLE, analytics_enabled=False, delete_cache=(600, 3600), fill_width=True
    ) as page:
        token = gr.Textbox(visible="hidden", elem_id="token", label="session")
        header = gr.HTML(_header(handlers), elem_id="header", apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Make", id="make"):
                make = make_tab(handlers, token)
            with gr.Tab("Edit", id="edit") as edit_tab:
                editor = _edit_tab(handlers, token, make)
            with gr.Tab("Export", id="export") as export_tab:
                options, exports = _export_tab(handlers, token)
            with gr.Tab("Pack", id="pack") as pack_tab:
                pack_cards = _pack_tab(handlers, token, options)
            with gr.Tab("History", id="history") as history_tab:
                history_cards = _history_tab(handlers, token)
        export_tab.select(handlers.export_view, token, exports, **PRIVATE)
        pack_tab.select(handlers.pack_view, token, pack_cards, **PRIVATE)
        history_tab.select(handlers.history_view, token, history_cards, **PRIVATE)
        # Another tab's selection must not hide the progress of a job that makes frames again.
        edit_tab.select(lambda known: handlers.editor_view(known)[:2], token, editor[:2], **PRIVATE)

        def opened(known: object) -> list[Any]:
            """The tab's session, or a new one; and all that is in it."""
            session = handlers.session(known)
            settings = session.settings
            return [
                session.token,
                _header(handlers),
                *storyboard_values(handlers, session.token)[:-1],
                *(getattr(settings, field.name) for field in fields(settings)),
            ]

        shown = [token, header, *make.storyboard, *make.settings]
        loaded = page.load(opened, token, shown, js=_READ_TOKEN, **PRIVATE)
        loaded = loaded.then(None, token, None, js=_WRITE_TOKEN)
        live: dict[str, Any] = {"concurrency_limit": None, **PRIVATE}
        loaded.then(handlers.resume, token, [make.progress, make.variants], **live)
        loaded.then(handlers.resume_edit, token, editor, **live)
        gr.Timer(4).tick(lambda: _header(handlers), None, header, **PRIVATE)
    page.queue(default_concurrency_limit=16, max_size=256)
    return page


def _header(handlers: Handlers) -> str:
    core = handlers.core
    try:
        pipeline = core.runner.pipeline(0)
        words, kind = f"{pipeline.canvas} px · {pipeline.max_frames} frames at a time", "good"
    except ServiceError as error:
        kind = "bad" if error.code == "model_failed" else "busy"
        words = str(error) if kind == "bad" else "loading the model…"
    waiting = core.queue.num_waiting
    queue = f" · {waiting} waiting" if waiting else ""
    return html.header(words + queue, kind)


_EDITS = (
    ("earlier", "← Earlier"),
    ("later", "Later →"),
    ("duplicate", "Duplicate"),
    ("delete", "Delete"),
    ("reverse", "Reverse all"),
    ("all", "Select all"),
    ("none", "Select none"),
    ("undo", "Undo"),
    ("redo", "Redo"),
)


def _edit_tab(handlers: Handlers, token: gr.Textbox, make: MakeFields) -> list[gr.HTML]:
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=6, min_width=320):
            heading("Frames", "click to select; then move, delete, retime or regenerate")
            strip = own_html(id="edit-strip")
            with gr.Row(elem_classes="presets"):
                buttons = {
                    do: gr.Button(label, size="sm", min_width=90, elem_id=f"edit-{do}")
                    for do, label in _EDITS
                }
            with gr.Row():
                frame_ms = gr.Number(
                    100,
                    label="Duration of selected frames, or all (ms)",
                    minimum=1,
                    precision=0,
                    scale=2,
                )
                retime = gr.Button("Set duration", scale=1, min_width=110, elem_id="edit-retime")
            with gr.Row(elem_classes="go-row"):
                again = gr.Button(
                    "Regenerate selected frames", variant="primary", scale=3, elem_id="regenerate"
                )
                stop = gr.Button("Cancel", scale=1, min_width=90, elem_id="edit-stop")
            notice = notice_box("edit-notice")
        with gr.Column(scale=4, min_width=280):
            heading("Playing", "use the slider to look at one frame")
            stage = own_html(html.stage(None), id="stage")
            with gr.Row():
                keep = gr.Button("Save to history", elem_id="keep", min_width=120)
                use = gr.Button("Use in Make", elem_id="use-edited", min_width=120)
            stage_notice = notice_box("stage-notice")
            tools = _edit_tools()
    shown = [strip, stage, notice]

    def use_edited(known: str) -> list[Any]:
        return storyboard_values(handlers, known, handlers.use_edited(known))

    strip.click(with_event(handlers.select), token, None, **CLICK)
    for do, button in buttons.items():
        button.click(lambda known, do=do: handlers.edit(known, do), token, shown, **PRIVATE)
    for do, button, values, said in [("retime", retime, [frame_ms], notice), *tools]:
        button.click(
            lambda known, *given, do=do: handlers.edit(known, do, *given),
            [token, *values],
            [strip, stage, said],
            **PRIVATE,
        )
    making = [token, make.prompt, make.steps, make.seed]
    again.click(handlers.regenerate, making, shown, concurrency_limit=None, **PRIVATE)
    stop.click(lambda known: handlers.cancel(known) or gr.skip(), token, notice, **PRIVATE)
    keep.click(handlers.keep, token, stage_notice, **PRIVATE)
    use.click(use_edited, token, [*make.storyboard, stage_notice], **PRIVATE)
    return shown


def _edit_tools() -> list[tuple[str, gr.Button, list[Any], gr.HTML]]:
    """Crop, background and text: the edit, its button, its values, and where its notice goes."""
    with gr.Accordion("Crop", open=False, elem_id="crop-box"):
        with gr.Row():
            sides = [
                gr.Number(0, label=f"{side} (px)", minimum=0, precision=0, min_width=70)
                for side in ("Left", "Top", "Right", "Bottom")
            ]
        with gr.Row():
            crop = gr.Button("Crop", elem_id="crop", min_width=90)
            trim = gr.Button("Trim transparent borders", elem_id="trim", min_width=150)
        crop_notice = notice_box("crop-notice")
    with gr.Accordion("Remove the background", open=False, elem_id="cutout-box"):
        tolerance = gr.Slider(1, 120, 40, step=1, label="Colour tolerance")
        cutout = gr.Button("Remove the background", elem_id="cutout")
        cutout_notice = notice_box("cutout-notice")
    with gr.Accordion("Text with outline", open=False, elem_id="text-box"):
        words = gr.Textbox("", label="Text", elem_id="text-words", max_length=200, lines=2)
        with gr.Row():
            place = gr.Dropdown(list(edit.PLACES), value="bottom", label="Place", min_width=100)
            size = gr.Slider(4, 60, 16, step=1, label="Size (% of the height)", min_width=120)
            color = gr.ColorPicker("#ffffff", label="Text colour", min_width=80)
            edge = gr.ColorPicker("#000000", label="Outline colour", min_width=80)
        write = gr.Button("Add to the selected frames, or to all", elem_id="text-add")
        text_notice = notice_box("text-notice")
    return [
        ("crop", crop, sides, crop_notice),
        ("trim", trim, [], crop_notice),
        ("cutout", cutout, [tolerance], cutout_notice),
        ("text", write, [words, place, size, color, edge], text_notice),
    ]


def _export_tab(handlers: Handlers, token: gr.Textbox) -> tuple[list[Any], gr.HTML]:
    heading("Export", "the sticker that is open in Edit; each file is checked")
    with gr.Accordion("Outline, loop, speed, background", open=False):
        with gr.Row():
            outline = gr.Slider(0, 32, 0, step=1, label="White outline (px)")
            speed = gr.Slider(0.25, 4, 1, step=0.05, label="Speed")
            close = gr.Dropdown(_CLOSINGS, value="none", label="Close the loop")
        with gr.Row():
            time = gr.Dropdown(
                _TIMES, value="refuse", label="If the length is not accepted", min_width=160
            )
            background = gr.Textbox("", label="Background, like #ffffff (empty: none)")
            trim = gr.Checkbox(False, label="Trim transparent borders")
        preview = gr.HTML(elem_id="export-preview", elem_classes="quiet", apply_default_css=False)
    everything = gr.Button("Export for all platforms", variant="primary", elem_id="export-all")
    table = own_html(html.export_table(open_exports()), id="exports")
    options = [outline, trim, close, speed, time, background]

    for field in options:
        field.change(handlers.export_preview, [token, *options], preview, **LATEST)

    # Gradio wants the event as a positional argument of its own, so the fields have names.
    async def one(known: str, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, event: gr.EventData):
        async for view in handlers.export(known, sent(event), a, b, c, d, e, f):
            yield view

    busy: dict[str, Any] = {**PRIVATE, "concurrency_id": "export", "concurrency_limit": 1}
    table.click(one, [token, *options], table, **busy)
    everything.click(handlers.export_all, [token, *options], table, **busy)
    return options, table


def _pack_tab(handlers: Handlers, token: gr.Textbox, options: list[Any]) -> gr.HTML:
    heading("Pack", "several stickers in one file, with the extra files that the platform requires")
    with gr.Row():
        name = gr.Textbox("", label="Name of the sticker", elem_id="pack-sticker")
        emojis = gr.Textbox("🙂", label="Its emojis, separated by commas", elem_id="pack-emojis")
        add = gr.Button("Add the open sticker", elem_id="pack-add", min_width=140)
    add_notice = notice_box("pack-add-notice")
    cards = own_html(html.pack_cards(()), id="pack-cards")
    with gr.Row():
        platform = gr.Dropdown(
            pack_platforms(), value="telegram", label="Platform", elem_id="pack-platform"
        )
        title = gr.Textbox("My stickers", label="Name of the pack")
        author = gr.Textbox("", label="Author")
    build = gr.Button("Build the pack", variant="primary", elem_id="pack-build")
    result = notice_box("pack-result")

    add.click(handlers.pack_add, [token, name, emojis], [cards, add_notice], **PRIVATE)
    cards.click(with_event(handlers.pack_change), token, [cards, add_notice], **CLICK)
    build.click(
        handlers.pack_build,
        [token, platform, title, author, *options],
        result,
        concurrency_id="export",
        concurrency_limit=1,
        api_visibility="private",
    )
    return cards


def _history_tab(handlers: Handlers, token: gr.Textbox) -> gr.HTML:
    heading("History", "everything you made, newest first")
    cards = own_html(html.history_cards(()), id="history-cards")

    cards.click(with_event(handlers.history), token, cards, **CLICK)
    return cards
