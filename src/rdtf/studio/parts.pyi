"""Parts that all tabs are built of."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import gradio as gr

#: Every event is for this page only, and shows no spinner of Gradio's.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

def asset(name: str) -> str:
    return files("rdtf.studio").joinpath("assets", name).read_text("utf-8")

def own_html(value: str = "", *, id: str) -> gr.HTML:
    """A part of the page that is ours: its buttons send what they do."""
    return gr.HTML(
        value, elem_id=id, js_on_load=asset("studio.js"), apply_default_css=False, padding=False
    )

def notice_box(id: str) -> gr.HTML:
    """Room for a notice or for progress; takes none while there is nothing to say."""
    return gr.HTML(elem_id=id, elem_classes="quiet", apply_default_css=False)

from gradio.events import Dependency

class _Slider(gr.Slider):
    """A slider that takes a number beyond its ends as the end, where Gradio's fails unseen."""

    is_template = True  # to the browser it is Gradio's own

    def preprocess(self, payload: float) -> float:
        return min(max(payload, self.minimum), self.maximum)
    from typing import Callable, Literal, Sequence, Any, TYPE_CHECKING
    from gradio.blocks import Block
    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component

def slider(*args: Any, **options: Any) -> gr.Slider:
    return _Slider(*args, **options)

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
