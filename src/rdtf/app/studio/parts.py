"""Parts that all tabs are built of."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import gradio as gr

#: Every event is for this page only, and shows no spinner of Gradio's.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


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


def heading(title: str, words: str) -> None:
    gr.HTML(
        f'<h2 class="head">{title} <small>{words}</small></h2>',
        apply_default_css=False,
        padding=False,
    )
