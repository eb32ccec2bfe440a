"""The page: what lies where, and which handler answers what. Gradio and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr

from rdtf.service.errors import UnavailableError
from rdtf.studio import exporting, markup
from rdtf.studio.board import CHOICES
from rdtf.studio.handlers import Handlers

_UPLOADS = [".gif", ".webp", ".png", ".apng", ".jpg", ".jpeg", ".webm", ".tgs", ".json"]
_INKS: list[str | tuple[str, float]] = [
    "#1f2430",
    "#ffffff",
    "#f2545b",
    "#ff9f1c",
    "#ffd23f",
    "#3bb273",
    "#3a86ff",
    "#8f5bd6",
]
_CLOSINGS = ["none", "ping-pong", "boomerang", "cross-fade"]
_TIMES = ["refuse", "trim", "hold", "speed"]
_PAGE_TITLE = "rdtf studio"
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def asset(name: str) -> str:
    return files("rdtf.studio").joinpath("assets", name).read_text("utf-8")


def theme() -> gr.themes.Base:
    """Fonts of the visitor's own machine: none is fetched."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "Consolas", "monospace"]
    return gr.themes.Soft(
        primary_hue="violet", neutral_hue="slate", radius_size="lg", font=sans, font_mono=mono
    ).set(
        body_background_fill="#f6f5fa",
        body_background_fill_dark="#14131a",
        block_border_width="0px",
        block_shadow="none",
        block_title_background_fill="none",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
        block_title_text_weight="500",
        block_title_padding="0",
        block_label_background_fill="none",
        block_label_background_fill_dark="none",
        block_title_background_fill_dark="none",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_label_text_weight="500",
        button_primary_background_fill="#6d3fd4",
        button_primary_background_fill_hover="#5c31bf",
        button_primary_text_color="#ffffff",
    )


def own_html(value: str = "", *, id: str) -> gr.HTML:
    """A part of the page that is ours: its buttons send what they do."""
    return gr.HTML(
        value, elem_id=id, js_on_load=asset("studio.js"), apply_default_css=False, padding=False
    )


def sent(event: gr.EventData) -> dict[str, Any]:
    """What `studio.js` sent with a click."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


@dataclass
class _Parts:
    """What handlers of several tabs show or read."""

    token: gr.BrowserState
    strip: gr.HTML
    mask_words: gr.HTML
    board_notice: gr.HTML
    prompt: gr.Textbox
    steps: gr.Slider
    seed: gr.Number
    progress: gr.HTML
    variants: gr.HTML


def build_page(handlers: Handlers) -> gr.Blocks:
    """The whole page over one set of handlers."""
    with gr.Blocks(
        title=_PAGE_TITLE,
        analytics_enabled=False,
        delete_cache=(600, 3600),
        fill_width=True,
    ) as page:
        token = gr.BrowserState(None, storage_key="rdtf-studio")
        header = gr.HTML(_header(handlers), elem_id="header", apply_default_css=False)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Make", id="make"):
                parts = _make_tab(handlers, token)
            with gr.Tab("Edit", id="edit") as edit_tab:
                editor_outputs, edit_notice, use_edited = _edit_tab(handlers, parts)
            with gr.Tab("Export", id="export") as export_tab:
                options, exports = _export_tab(handlers, token)
            with gr.Tab("Pack", id="pack") as pack_tab:
                pack_cards = _pack_tab(handlers, token, options)
            with gr.Tab("History", id="history") as history_tab:
                history_cards = _history_tab(handlers, token)
        board = [parts.strip, parts.mask_words, parts.board_notice]
        use_edited.click(handlers.use_edited, token, board, **_PRIVATE)
        editor = [*editor_outputs, edit_notice]
        edit_tab.select(handlers.editor_view, token, editor, **_PRIVATE)
        export_tab.select(handlers.export_view, token, exports, **_PRIVATE)
        pack_tab.select(handlers.pack_view, token, pack_cards, **_PRIVATE)
        history_tab.select(handlers.history_view, token, history_cards, **_PRIVATE)

        def opened(known: object) -> tuple[str, str, str, str, str, str]:
            """The visitor's session, or a new one; and all that is in it."""
            session = handlers.session(known)
            board_parts = handlers.board_view(session.token)
            shown = handlers.variants_view(session.token)
            return session.token, _header(handlers), *board_parts, shown

        page.load(opened, token, [token, header, *board, parts.variants], **_PRIVATE)
        gr.Timer(4).tick(lambda: _header(handlers), None, header, **_PRIVATE)
    page.queue(default_concurrency_limit=16, max_size=256)
    return page


def _header(handlers: Handlers) -> str:
    core = handlers.core
    try:
        pipeline = core.runner.pipeline(0)
        words, kind = f"{pipeline.canvas} px · {pipeline.max_frames} frames at a time", "good"
    except UnavailableError as error:
        kind = "bad" if error.code == "model_failed" else "busy"
        words = str(error) if kind == "bad" else "loading the model…"
    waiting = core.queue.num_waiting
    queue = f" · {waiting} waiting" if waiting else ""
    return (
        '<header class="top"><h1>rdtf <span>studio</span></h1>'
        f'<p class="chip {kind}" role="status">{markup.escape(words + queue)}</p></header>'
    )


# ------------------------------------------------------------------------------ Make


def _make_tab(handlers: Handlers, token: gr.BrowserState) -> _Parts:
    limits = handlers.core.limits
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=6, min_width=320):
            _heading("Start from", "a still, a clip, a drawing, or nothing but words")
            with gr.Tabs(elem_classes="inner"):
                with gr.Tab("Drop a file"):
                    dropped = gr.File(
                        label="GIF, WebP, PNG, APNG, JPEG, WebM, TGS or Lottie",
                        type="binary",
                        file_types=_UPLOADS,
                        height=132,
                        elem_id="drop",
                    )
                with gr.Tab("Draw"):
                    canvas = gr.ImageEditor(
                        label="Canvas",
                        type="numpy",
                        image_mode="RGBA",
                        sources=(),
                        transforms=(),
                        layers=False,
                        canvas_size=(320, 320),
                        fixed_canvas=True,
                        brush=gr.Brush(default_size=10, colors=_INKS, color_mode="defaults"),
                        buttons=[],
                        show_label=False,
                        elem_id="canvas",
                    )
                    use_drawing = gr.Button("Use the drawing", elem_id="use-drawing")
            with gr.Row(elem_classes="tight"):
                where = gr.Radio(
                    [("start anew with it", "start"), ("put it into frame", "put")],
                    value="start",
                    show_label=False,
                    container=False,
                    elem_id="where",
                    scale=3,
                )
                into = gr.Number(
                    1, label="frame", minimum=1, precision=0, min_width=90, scale=1, visible=False
                )
            _heading("Given frames", "click a frame: given ones stay, the others are made")
            strip = own_html(id="film-strip")
            mask_words = gr.HTML(elem_id="mask-words", apply_default_css=False)
            with gr.Row(elem_classes="presets"):
                buttons = [gr.Button(choice, size="sm", min_width=60) for choice in CHOICES]
            with gr.Row():
                length = gr.Slider(1, limits.max_frames, 8, step=1, label="Frames")
                frame_ms = gr.Slider(20, 500, 100, step=10, label="Frame time (ms)")
            board_notice = gr.HTML(elem_id="board-notice", apply_default_css=False)
        with gr.Column(scale=5, min_width=320):
            _heading("Words", "what to show")
            prompt = gr.Textbox(
                placeholder="a cat waving",
                show_label=False,
                label="Prompt",
                lines=2,
                max_length=limits.max_prompt_chars,
                elem_id="prompt",
            )
            with gr.Row():
                count = gr.Slider(1, limits.max_variants, 2, step=1, label="Variants")
                steps = gr.Slider(
                    0, limits.max_steps, 0, step=1, label="Steps (0: as the task needs)"
                )
            with gr.Accordion("Seed, guidance, size", open=False):
                with gr.Row():
                    seed = gr.Number(-1, label="Seed (-1: a new one)", precision=0)
                    size = gr.Dropdown(
                        [("the model's canvas", "canvas"), ("of the given frames", "input")],
                        value="canvas",
                        label="Size",
                    )
                with gr.Row():
                    guidance = _guidance("Guidance by the text (1: off)")
                    image_guidance = _guidance("… by the given frames (1: off)")
            with gr.Row(elem_classes="go-row"):
                go = gr.Button("Make", variant="primary", scale=3, elem_id="go")
                stop = gr.Button("Cancel", scale=1, elem_id="stop", min_width=90)
            progress = gr.HTML(elem_id="progress", apply_default_css=False)
            variants = own_html(markup.variants((), 0), id="variants")
    board = [strip, mask_words, board_notice]

    def give(known: str, event: gr.EventData) -> tuple[str, str, str]:
        return handlers.give(known, sent(event))

    def choose(known: str, event: gr.EventData) -> str:
        return handlers.choose(known, sent(event))

    def upload(known: str, data: bytes | None, where: str, into: float) -> tuple[Any, ...]:
        return *handlers.upload(known, data, where, into), *_lengths(handlers, known)

    def draw(known: str, drawn: Any, where: str, into: float) -> tuple[Any, ...]:
        return *handlers.draw(known, drawn, where, into), *_lengths(handlers, known)

    many: dict[str, Any] = {**_PRIVATE, "trigger_mode": "multiple"}
    where.change(lambda w: gr.update(visible=w == "put"), where, into, **_PRIVATE)
    dropped.upload(upload, [token, dropped, where, into], [*board, length, frame_ms], **_PRIVATE)
    dropped.clear(handlers.clear, token, board, **_PRIVATE)
    use_drawing.click(draw, [token, canvas, where, into], [*board, length, frame_ms], **_PRIVATE)
    strip.click(give, token, board, **many)
    for button, choice in zip(buttons, CHOICES, strict=True):
        button.click(
            lambda known, choice=choice: handlers.choose_mask(known, choice),
            token,
            board,
            **_PRIVATE,
        )
    length.input(
        lambda known, count: handlers.set_length(known, count, None),
        [token, length],
        board,
        **{**_PRIVATE, "trigger_mode": "always_last"},
    )
    frame_ms.input(
        handlers.set_length,
        [token, length, frame_ms],
        board,
        **{**_PRIVATE, "trigger_mode": "always_last"},
    )
    making = [token, prompt, steps, count, seed, guidance, image_guidance, size]
    gr.on(
        [go.click, prompt.submit],
        handlers.make,
        making,
        [progress, variants],
        concurrency_limit=None,
        **_PRIVATE,
    )
    stop.click(handlers.cancel, token, board_notice, **_PRIVATE)
    variants.click(choose, token, progress, **many)
    return _Parts(token, strip, mask_words, board_notice, prompt, steps, seed, progress, variants)


def _lengths(handlers: Handlers, token: str) -> tuple[int, float]:
    """What the sliders should say after a clip was dropped."""
    board = handlers.session(token).board
    mean = sum(board.durations_ms) / board.num_frames
    return board.num_frames, min(500, max(20, round(mean / 10) * 10))


def _guidance(label: str) -> gr.Number:
    """A number that may stay empty: then the model's own for the task is taken."""
    return gr.Number(
        None, label=label, placeholder="as the task needs", minimum=0, maximum=30, step=0.1
    )


def _heading(title: str, words: str) -> None:
    gr.HTML(
        f'<h2 class="head">{title} <small>{words}</small></h2>',
        apply_default_css=False,
        padding=False,
    )


# ------------------------------------------------------------------------------ Edit

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


def _edit_tab(handlers: Handlers, parts: _Parts) -> tuple[list[gr.HTML], gr.HTML, gr.Button]:
    token = parts.token
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=6, min_width=320):
            _heading("Frames", "click to select; then move, delete, re-time or make anew")
            strip = own_html(id="edit-strip")
            with gr.Row(elem_classes="presets"):
                buttons = {
                    do: gr.Button(label, size="sm", min_width=90, elem_id=f"edit-{do}")
                    for do, label in _EDITS
                }
            with gr.Row():
                frame_ms = gr.Number(
                    100, label="Time of the selected, or all (ms)", minimum=1, precision=0, scale=2
                )
                retime = gr.Button("Set time", scale=1, min_width=110, elem_id="edit-retime")
            with gr.Row(elem_classes="go-row"):
                again = gr.Button(
                    "Make selected anew", variant="primary", scale=3, elem_id="regenerate"
                )
                stop = gr.Button("Cancel", scale=1, min_width=90)
            notice = gr.HTML(elem_id="edit-notice", apply_default_css=False)
        with gr.Column(scale=4, min_width=280):
            _heading("Playing", "as it is now")
            stage = gr.HTML(markup.stage(None), elem_id="stage", apply_default_css=False)
            with gr.Row():
                keep = gr.Button("Keep it", elem_id="keep", min_width=120)
                use = gr.Button("Make from it", elem_id="use-edited", min_width=120)
    shown = [strip, stage, notice]

    def select(known: str, event: gr.EventData) -> None:
        handlers.select(known, sent(event))

    strip.click(select, token, None, **{**_PRIVATE, "trigger_mode": "multiple"})
    for do, button in buttons.items():
        button.click(lambda known, do=do: handlers.edit(known, do), token, shown, **_PRIVATE)
    retime.click(
        lambda known, ms: handlers.edit(known, "retime", ms), [token, frame_ms], shown, **_PRIVATE
    )
    again.click(
        handlers.regenerate,
        [token, parts.prompt, parts.steps, parts.seed],
        shown,
        concurrency_limit=None,
        **_PRIVATE,
    )
    stop.click(handlers.cancel, token, notice, **_PRIVATE)
    keep.click(lambda known: handlers.keep(known)[1], token, notice, **_PRIVATE)
    return [strip, stage], notice, use


# ------------------------------------------------------------------------------ Export, pack


def _export_tab(handlers: Handlers, token: gr.BrowserState) -> tuple[list[Any], gr.HTML]:
    _heading("Export", "the sticker that is open in Edit; each file is checked by the rules")
    with gr.Accordion("Outline, loop, speed, background", open=False):
        with gr.Row():
            outline = gr.Slider(0, 32, 0, step=1, label="White outline (px)")
            speed = gr.Slider(0.25, 4, 1, step=0.05, label="Speed")
            close = gr.Dropdown(_CLOSINGS, value="none", label="Close the loop")
        with gr.Row():
            time = gr.Dropdown(
                _TIMES, value="refuse", label="If the length is not taken", min_width=160
            )
            background = gr.Textbox("", label="Background, like #ffffff (empty: none)")
            trim = gr.Checkbox(False, label="Trim to what is visible")
    everything = gr.Button("Try all platforms", variant="primary", elem_id="export-all")
    table = own_html(markup.export_table(exporting.open_rows()), id="exports")
    options = [outline, trim, close, speed, time, background]

    async def one(known: str, *fields: Any, event: gr.EventData) -> Any:
        async for view in handlers.export(known, sent(event), *fields):
            yield view

    async def every(known: str, *fields: Any) -> Any:
        async for view in handlers.export(known, None, *fields):
            yield view

    busy: dict[str, Any] = {**_PRIVATE, "concurrency_id": "export", "concurrency_limit": 1}
    table.click(_with_event(one), [token, *options], table, **busy)
    everything.click(every, [token, *options], table, **busy)
    return options, table


def _with_event(function: Any) -> Any:
    """Gradio wants the event as a positional argument of its own."""

    async def handler(
        known: str,
        outline: float,
        trim: bool,
        close: str,
        speed: float,
        time: str,
        background: str,
        event: gr.EventData,
    ) -> Any:
        fields = (outline, trim, close, speed, time, background)
        async for view in function(known, *fields, event=event):
            yield view

    return handler


def _pack_tab(handlers: Handlers, token: gr.BrowserState, options: list[Any]) -> gr.HTML:
    _heading("Pack", "several stickers with what the platform wants beside them")
    with gr.Row():
        name = gr.Textbox("", label="Name of the sticker", elem_id="pack-sticker")
        emojis = gr.Textbox("🙂", label="Its emojis, commas between", elem_id="pack-emojis")
        add = gr.Button("Add the open sticker", elem_id="pack-add", min_width=140)
    cards = own_html(markup.pack_cards(()), id="pack-cards")
    with gr.Row():
        platform = gr.Dropdown(
            exporting.pack_platforms(), value="telegram", label="Platform", elem_id="pack-platform"
        )
        title = gr.Textbox("My stickers", label="Name of the pack")
        author = gr.Textbox("", label="Author")
    build = gr.Button("Build the pack", variant="primary", elem_id="pack-build")
    result = gr.HTML(elem_id="pack-result", apply_default_css=False)

    def change(known: str, event: gr.EventData) -> tuple[str, str]:
        return handlers.pack_change(known, sent(event))

    add.click(handlers.pack_add, [token, name, emojis], [cards, result], **_PRIVATE)
    cards.click(change, token, [cards, result], **{**_PRIVATE, "trigger_mode": "multiple"})
    build.click(
        handlers.pack_build,
        [token, platform, title, author, *options],
        result,
        concurrency_id="export",
        concurrency_limit=1,
        api_visibility="private",
    )
    return cards


def _history_tab(handlers: Handlers, token: gr.BrowserState) -> gr.HTML:
    _heading("History", "everything you made, newest first")
    notice = gr.HTML(elem_id="history-notice", apply_default_css=False)
    cards = own_html(markup.history_cards(()), id="history-cards")

    def change(known: str, event: gr.EventData) -> tuple[str, str]:
        return handlers.history(known, sent(event))

    cards.click(change, token, [cards, notice], **{**_PRIVATE, "trigger_mode": "multiple"})
    return cards
