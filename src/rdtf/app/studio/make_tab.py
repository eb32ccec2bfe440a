"""The Make tab: what lies where, and which handler answers what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rdtf.app.studio import markup
from rdtf.app.studio.handlers import (
    PRIVATE,
    Handlers,
    asset,
    heading,
    notice_box,
    own_html,
    sent,
    within,
)
from rdtf.app.studio.making import MOVING_TASKS
from rdtf.synthetic import VERBS

_UPLOADS = [".gif", ".webp", ".png", ".apng", ".jpg", ".jpeg", ".webm", ".tgs", ".json"]
_MOST_ON_SLIDERS = 64  # frames
_MOTIONS = [
    ("as the text says", ""),
    ("free: the network decides", "network"),
    *((name.capitalize(), name) for name in VERBS),
]


@dataclass
class MakeParts:
    """What handlers of several tabs show or read.

    board: film strip, the line beneath it, and the fields that follow the board; settings: the
    fields of `Settings`, in order.
    """

    board: list[Any]
    settings: list[Any]
    prompt: gr.Textbox
    steps: gr.Slider
    seed: gr.Number
    progress: gr.HTML
    variants: gr.HTML


def board_values(handlers: Handlers, token: str) -> list[Any]:
    """Values for `MakeParts.board`, as the board is now."""
    board = handlers.session(token).board
    strip, words, _ = handlers.board_view(token)
    return [
        strip,
        words,
        markup.tasks(board.task),
        board.loop,
        gr.update(value=board.num_frames, visible=board.task == "animate"),
        gr.update(value=board.frame_ms, visible=board.task == "animate"),
        gr.update(value=board.after, visible=board.task == "extend"),
        gr.update(value=board.before, visible=board.task == "extend"),
        gr.update(visible=board.task in MOVING_TASKS),
        gr.update(visible=board.task == "fix"),
    ]


def make_tab(handlers: Handlers, token: gr.Textbox) -> MakeParts:
    limits = handlers.core.limits
    most = min(_MOST_ON_SLIDERS, limits.max_frames)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=6, min_width=320):
            heading("What to do", "the text alone can be animated too")
            task = own_html(markup.tasks("animate"), id="task")
            heading("Start from", "stills, or a clip: GIF, WebP, PNG, JPEG, WebM, TGS, Lottie")
            with gr.Tabs(elem_classes="inner"):
                with gr.Tab("Drop files"):
                    dropped = gr.File(
                        show_label=False,
                        container=False,
                        file_count="multiple",
                        type="binary",
                        file_types=_UPLOADS,
                        height=120,
                        elem_id="drop",
                    )
                with gr.Tab("Draw"):
                    pad = gr.HTML(
                        markup.drawing_pad(),
                        elem_id="canvas",
                        js_on_load=asset("draw.js"),
                        apply_default_css=False,
                    )
            with gr.Row(elem_classes="tight"):
                into = gr.Number(
                    0,
                    label="Put it into frame (0: start again with it)",
                    minimum=0,
                    precision=0,
                    elem_id="into",
                )
                clear = gr.Button("Remove all pictures", elem_id="clear", min_width=150)
            start_notice = notice_box("start-notice")
            heading(
                "Frames", "with a tick: stays as it is; drop a picture on a frame to put it there"
            )
            strip = own_html(id="film-strip")
            mask_words = gr.HTML(elem_id="mask-words", apply_default_css=False)
            with gr.Row(elem_classes="presets", visible=False) as fix_row:
                every = gr.Button("Make every second again", size="sm", elem_id="fix-every")
                none = gr.Button("Keep all", size="sm", elem_id="fix-none")
            with gr.Row():
                length = gr.Slider(1, most, 8, step=1, label="Frames", elem_id="length")
                frame_ms = gr.Slider(20, 500, 100, step=10, label="Frame time (ms)")
                after = gr.Slider(0, most, 4, step=1, label="Frames to add behind", visible=False)
                before = gr.Slider(
                    0, most, 0, step=1, label="Frames to add in front", visible=False
                )
            board_notice = notice_box("board-notice")
        with gr.Column(scale=5, min_width=320):
            heading("Text", "what to show")
            prompt = gr.Textbox(
                placeholder="a cat waving",
                show_label=False,
                label="Text",
                lines=2,
                max_length=limits.max_prompt_chars,
                elem_id="prompt",
            )
            loop = gr.Checkbox(
                True, label="Loop: the last frame leads back to the first", elem_id="loop"
            )
            with gr.Row() as motion_row:
                motion = gr.Dropdown(_MOTIONS, value="", label="Motion", elem_id="motion")
                strength = gr.Slider(
                    0, 2, 1, step=0.1, label="Strength: less – more", elem_id="strength"
                )
            count = gr.Slider(1, limits.max_variants, 2, step=1, label="Variants")
            with gr.Accordion("Size, seed, steps, guidance", open=False):
                with gr.Row():
                    size = gr.Dropdown(
                        [("as the picture, up to 512", "input"), ("as the model", "canvas")],
                        value="input",
                        label="Size",
                    )
                    seed = gr.Number(-1, label="Seed (-1: a new one)", precision=0)
                steps = gr.Slider(
                    0, limits.max_steps, 0, step=1, label="Steps (0: as the task needs)"
                )
                with gr.Row():
                    guidance = _guidance("How closely to follow the text (1: off)")
                    image_guidance = _guidance("… the given frames (1: off)")
            with gr.Row(elem_classes="go-row"):
                go = gr.Button("Make", variant="primary", scale=3, elem_id="go")
                stop = gr.Button("Cancel", scale=1, elem_id="stop", min_width=90)
            progress = notice_box("progress")
            variants = own_html(markup.variants((), 0), id="variants")
    board = [strip, mask_words, task, loop, length, frame_ms, after, before, motion_row, fix_row]
    settings = [prompt, motion, strength, count, steps, seed, guidance, image_guidance, size]

    making = [token, *settings]

    def changing(handler: Any, notice: gr.HTML, *inputs: Any) -> dict[str, Any]:
        """An event that changes the board: its notice appears in `notice`."""

        def answer(known: str, *values: Any) -> list[Any]:
            *_, said = handler(known, *values)
            shown = board_values(handlers, known)
            for field, value in zip(inputs, values, strict=True):
                place = board.index(field)
                new = shown[place]
                is_taken = value == (new["value"] if isinstance(new, dict) else new)
                if is_taken and value != getattr(field, "maximum", None):
                    shown[place] = gr.skip()  # the visitor may have moved it on meanwhile
            return [*shown, said]

        asked = [token, *inputs]
        sends = {"js": within(asked)} if inputs else {}
        return {"fn": answer, "inputs": asked, "outputs": [*board, notice], **sends, **PRIVATE}

    def give(known: str, event: gr.EventData) -> list[Any]:
        *_, said = handlers.give(known, sent(event))
        return [*board_values(handlers, known), said]

    def set_task(known: str, event: gr.EventData) -> list[Any]:
        *_, said = handlers.set_task(known, str(sent(event).get("name")))
        return [*board_values(handlers, known), said]

    def draw(known: str, frame: float, event: gr.EventData) -> list[Any]:
        *_, said = handlers.draw(known, sent(event), frame)
        return [*board_values(handlers, known), said]

    def upload(known: str, files: list[bytes] | None, frame: float) -> list[Any]:
        *_, said = handlers.upload(known, files, frame)
        return [*board_values(handlers, known), said, None]

    latest: dict[str, Any] = {"trigger_mode": "always_last"}
    dropped.upload(upload, [token, dropped, into], [*board, start_notice, dropped], **PRIVATE)
    pad.click(draw, [token, into], [*board, start_notice], **PRIVATE)
    clear.click(**changing(handlers.clear, start_notice))
    strip.click(give, token, [*board, board_notice], **{**PRIVATE, "trigger_mode": "multiple"})
    every.click(**changing(lambda known: handlers.make_again(known, True), board_notice))
    none.click(**changing(lambda known: handlers.make_again(known, False), board_notice))
    task.click(set_task, token, [*board, start_notice], **{**PRIVATE, "trigger_mode": "multiple"})
    loop.input(**{**changing(handlers.set_loop, progress, loop), **latest})
    for field in (length, frame_ms):
        field.input(**{**changing(handlers.set_length, board_notice, length, frame_ms), **latest})
    for field in (after, before):
        field.input(**{**changing(handlers.set_extension, board_notice, after, before), **latest})
    for field in settings:
        field.input(
            handlers.keep_settings, making, None, js=within(making), **{**PRIVATE, **latest}
        )
    gr.on(
        [go.click, prompt.submit],
        handlers.make,
        making,
        [progress, variants],
        js=within(making),
        concurrency_limit=None,
        **PRIVATE,
    )
    stop.click(lambda known: handlers.cancel(known) or gr.skip(), token, progress, **PRIVATE)

    def choose(known: str, event: gr.EventData) -> str:
        return handlers.choose(known, sent(event))

    variants.click(choose, token, variants, **{**PRIVATE, "trigger_mode": "multiple"})
    return MakeParts(board, settings, prompt, steps, seed, progress, variants)


def _guidance(label: str) -> gr.Number:
    """A number that may stay empty: then the model's own for the task is taken."""
    return gr.Number(
        None, label=label, placeholder="as the task needs", minimum=0, maximum=30, step=0.1
    )
