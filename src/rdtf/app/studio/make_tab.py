"""The Make tab: what lies where, and which handler answers what. First what all tabs use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr

from rdtf.app.studio import html
from rdtf.app.studio.handlers import Handlers
from rdtf.app.studio.make_handlers import MOVING_TASKS, View
from rdtf.sampling.options import NETWORK, SamplingOptions, option_range
from rdtf.synthetic import VERBS

_UPLOADS = [".gif", ".webp", ".png", ".apng", ".jpg", ".jpeg", ".webm", ".tgs", ".json"]
_MOST_ON_SLIDERS = 64  # frames
_MOTIONS = [
    ("from the text", ""),
    ("free (motion network)", NETWORK),
    *((name.capitalize(), name) for name in VERBS),
]


#: Every event is for this page only, and shows no spinner of Gradio's.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
#: Clicks in a row all count; of changes in a row the last does.
CLICK, LATEST = ({**PRIVATE, "trigger_mode": mode} for mode in ("multiple", "always_last"))


def asset(name: str) -> str:
    return files("rdtf.app.studio").joinpath("assets", name).read_text("utf-8")


def own_html(value: str = "", *, id: str) -> gr.HTML:
    """A part of the page that is ours: its buttons send what they do."""
    return gr.HTML(
        value, elem_id=id, js_on_load=asset("studio.js"), apply_default_css=False, padding=False
    )


def notice_box(id: str) -> gr.HTML:
    """Room for a notice or for progress; takes none while there is nothing to say."""
    return gr.HTML(elem_id=id, elem_classes="quiet", apply_default_css=False)


def within(inputs: list[Any]) -> str:
    """JavaScript for an event's `js`: numbers beyond a slider's ends are sent as its ends.

    Gradio's own answer to them is an error that nobody sees.
    """
    ends = [
        [field.minimum, field.maximum] if isinstance(field, gr.Slider) else None for field in inputs
    ]
    return (
        f"(...values) => {{ const ends = {json.dumps(ends)}; return values.map((value, i) => "
        "ends[i] && typeof value === 'number' "
        "? Math.min(Math.max(value, ends[i][0]), ends[i][1]) : value); }"
    )


def sent(event: gr.EventData) -> dict[str, Any]:
    """What `studio.js` sent with a click."""
    data = getattr(event, "_data", None)
    return data if isinstance(data, dict) else {}


def with_event(handler: Callable[[str, dict[str, Any]], Any]) -> Callable[..., Any]:
    """A handler of token and event, as Gradio calls it."""

    def answer(known: str, event: gr.EventData) -> Any:
        return handler(known, sent(event))

    return answer


def heading(title: str, words: str) -> None:
    gr.HTML(html.heading(title, words), apply_default_css=False, padding=False)


@dataclass
class MakeFields:
    """What handlers of several tabs show or read.

    storyboard: the frame strip, its summary, and the fields that follow the storyboard; settings:
    the fields of `Settings`, in order.
    """

    storyboard: list[Any]
    settings: list[Any]
    prompt: gr.Textbox
    steps: gr.Slider
    seed: gr.Number
    progress: gr.HTML
    variants: gr.HTML


def storyboard_values(handlers: Handlers, token: str, view: View | None = None) -> list[Any]:
    """Values for `MakeFields.storyboard`, as it is now, and the notice of `view`."""
    storyboard = handlers.session(token).storyboard
    strip, summary, said = view or handlers.storyboard_view(token)
    animates, extends = storyboard.task == "animate", storyboard.task == "extend"
    return [
        strip,
        summary,
        html.tasks(storyboard.task),
        storyboard.loop,
        gr.update(value=storyboard.num_frames, visible=animates),
        gr.update(value=storyboard.frame_ms, visible=animates),
        gr.update(value=storyboard.after, visible=extends),
        gr.update(value=storyboard.before, visible=extends),
        gr.update(visible=storyboard.task in MOVING_TASKS),
        gr.update(visible=storyboard.task == "fix"),
        said,
    ]


def make_tab(handlers: Handlers, token: gr.Textbox) -> MakeFields:
    limits = handlers.core.limits
    most = min(_MOST_ON_SLIDERS, limits.max_frames)
    with gr.Row(elem_classes="columns"):
        with gr.Column(scale=6, min_width=320):
            heading("Task", "Animate also works with text alone")
            task = own_html(html.tasks("animate"), id="task")
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
                        html.drawing_pad(),
                        elem_id="canvas",
                        js_on_load=asset("draw.js"),
                        apply_default_css=False,
                    )
            with gr.Row(elem_classes="tight"):
                into = gr.Number(
                    0,
                    label="Insert at frame (0: replace all)",
                    minimum=0,
                    precision=0,
                    elem_id="into",
                )
                clear = gr.Button("Remove all pictures", elem_id="clear", min_width=150)
            start_notice = notice_box("start-notice")
            heading("Frames", "ticked frames are kept; drop a picture on a frame to replace it")
            strip = own_html(id="frame-strip")
            summary = gr.HTML(elem_id="strip-summary", apply_default_css=False)
            with gr.Row(elem_classes="presets", visible=False) as fix_row:
                every = gr.Button("Regenerate every second frame", size="sm", elem_id="fix-every")
                none = gr.Button("Keep all", size="sm", elem_id="fix-none")
            with gr.Row():
                length = gr.Slider(1, most, 8, step=1, label="Frames", elem_id="length")
                frame_ms = gr.Slider(20, 500, 100, step=10, label="Frame duration (ms)")
                after = gr.Slider(0, most, 4, step=1, label="Frames to add (end)", visible=False)
                before = gr.Slider(0, most, 0, step=1, label="Frames to add (start)", visible=False)
            strip_notice = notice_box("strip-notice")
        with gr.Column(scale=5, min_width=320):
            heading("Text", "what happens in the sticker")
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
                strength = gr.Slider(0, 2, 1, step=0.1, label="Motion strength", elem_id="strength")
            count = gr.Slider(1, limits.max_variants, 2, step=1, label="Variants")
            with gr.Accordion("Size, seed, steps, guidance", open=False):
                with gr.Row():
                    size = gr.Dropdown(
                        [("of the picture, up to 512 px", "auto"), ("of the model", "canvas")],
                        value=SamplingOptions.output_size,
                        label="Size",
                    )
                    seed = gr.Number(-1, label="Seed (-1: random)", precision=0)
                steps = gr.Slider(
                    0, limits.max_steps, 0, step=1, label="Steps (0: default for the task)"
                )
                with gr.Row():
                    guidance = _guidance("Text guidance (1: off)")
                    image_guidance = _guidance("Image guidance (1: off)")
            with gr.Row(elem_classes="go-row"):
                go = gr.Button("Make", variant="primary", scale=3, elem_id="go")
                stop = gr.Button("Cancel", scale=1, elem_id="stop", min_width=90)
            progress = notice_box("progress")
            variants = own_html(html.variants((), 0), id="variants")
    shown = [strip, summary, task, loop, length, frame_ms, after, before, motion_row, fix_row]
    settings = [prompt, motion, strength, count, steps, seed, guidance, image_guidance, size]
    making = [token, *settings]

    def changing(what: str, notice: gr.HTML, *inputs: Any) -> dict[str, Any]:
        """An event that changes the storyboard: its notice appears in `notice`."""

        def answer(known: str, *values: Any) -> list[Any]:
            updates = storyboard_values(handlers, known, handlers.set(known, what, *values))
            for field, value in zip(inputs, values, strict=True):
                place = shown.index(field)
                new = updates[place]
                is_taken = value == (new["value"] if isinstance(new, dict) else new)
                if is_taken and value != getattr(field, "maximum", None):
                    updates[place] = gr.skip()  # the visitor may have moved it on meanwhile
            return updates

        sources = [token, *inputs]
        sends = {"js": within(sources)} if inputs else {}
        return {"fn": answer, "inputs": sources, "outputs": [*shown, notice], **sends, **PRIVATE}

    def give(known: str, event: dict[str, Any]) -> list[Any]:
        return storyboard_values(handlers, known, handlers.give(known, event))

    def set_task(known: str, event: dict[str, Any]) -> list[Any]:
        return storyboard_values(handlers, known, handlers.set(known, "task", event.get("name")))

    def draw(known: str, frame: float, event: gr.EventData) -> list[Any]:
        return storyboard_values(handlers, known, handlers.draw(known, sent(event), frame))

    def upload(known: str, data: list[bytes] | None, frame: float) -> list[Any]:
        return [*storyboard_values(handlers, known, handlers.upload(known, data, frame)), None]

    dropped.upload(upload, [token, dropped, into], [*shown, start_notice, dropped], **PRIVATE)
    pad.click(draw, [token, into], [*shown, start_notice], **PRIVATE)
    clear.click(**changing("clear", start_notice))
    strip.click(with_event(give), token, [*shown, strip_notice], **CLICK)
    every.click(**changing("regenerate every second", strip_notice))
    none.click(**changing("keep all", strip_notice))
    task.click(with_event(set_task), token, [*shown, start_notice], **CLICK)
    loop.input(**{**changing("loop", progress, loop), **LATEST})
    for field in (length, frame_ms):
        field.input(**{**changing("length", strip_notice, length, frame_ms), **LATEST})
    for field in (after, before):
        field.input(**{**changing("extension", strip_notice, after, before), **LATEST})
    for field in settings:
        field.input(handlers.keep_settings, making, None, js=within(making), **LATEST)
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

    variants.click(with_event(handlers.choose), token, variants, **CLICK)
    return MakeFields(shown, settings, prompt, steps, seed, progress, variants)


def _guidance(label: str) -> gr.Number:
    """A number that may stay empty: then the model's own for the task is taken."""
    least, most = option_range("guidance_scale")
    return gr.Number(
        None, label=label, placeholder="default for the task", minimum=least, maximum=most, step=0.1
    )
