"""All events of the page: Make and Edit from their own files; History, Export and Pack here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Any

import gradio as gr

from rdtf.app.studio import exporting, markup
from rdtf.app.studio.editing import EditHandlers
from rdtf.app.studio.making import whole
from rdtf.errors import UserError
from rdtf.stickers.export import ExportOptions
from rdtf.stickers.export.packs import split_emojis

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


class Handlers(EditHandlers):
    """The page's events over one `core`."""

    # ------------------------------------------------------------ history

    def history_view(self, token: str) -> str:
        return markup.history_cards(self.session(token).visitor.history)

    def history(self, token: str, event: dict[str, Any]) -> str:
        """Open or remove one; returns the cards, with a notice on the one that was pressed."""
        session, name = self.session(token), str(event.get("name", ""))
        said: dict[str, str] = {}
        with session.lock:
            try:
                if event.get("do") == "open":
                    item, clip = session.visitor.recall(name)
                    session.editor.open(
                        clip.replace(captions=(item.prompt,) if item.prompt else ())
                    )
                    said[name] = markup.notice("Open in Edit, Export and Pack.", "good")
                elif event.get("do") == "drop":
                    session.visitor.forget(name)
            except UserError as error:
                said[name] = markup.notice(str(error))
        return markup.history_cards(session.visitor.history, said)

    # ------------------------------------------------------------ export

    def export(self, token: str, event: dict[str, Any] | None, *fields: Any) -> AsyncIterator[str]:
        """Export for one platform, or for all without an event. Yields the table."""
        wanted = None if event is None else str(event.get("name", ""))
        return self._export(token, wanted, fields)

    async def _export(self, token: str, wanted: str | None, fields: Any) -> AsyncIterator[str]:
        session = self.session(token)
        try:
            clip = session.editor.current()
            options = export_options(*fields)
        except UserError as error:
            yield self._export_refused(wanted, str(error))
            return
        rows = session.export_rows(clip, options)
        for index, row in enumerate(rows):
            if wanted in (None, row.platform):
                rows[index] = exporting.ExportRow(row.platform, row.title, row.asks, "busy")
                yield markup.export_table(rows)
                rows[index] = await asyncio.to_thread(
                    exporting.export_row, session, self.shelf, clip, row.platform, options
                )
                yield markup.export_table(rows)

    def _export_refused(self, wanted: str | None, message: str) -> str:
        """The reason beside the button that was pressed: in its row, or above all of them."""
        rows = exporting.open_rows()
        if wanted is None:
            return markup.notice(message) + markup.export_table(rows)
        return markup.export_table(
            [
                exporting.ExportRow(row.platform, row.title, row.asks, "refused", message)
                if row.platform == wanted
                else row
                for row in rows
            ]
        )

    def export_preview(self, token: str, *fields: Any) -> str:
        """How the first frame looks with outline, trim and background."""
        try:
            clip = self.session(token).editor.current()
            return markup.export_preview(exporting.preview(clip, export_options(*fields)))
        except UserError as error:
            return markup.notice(str(error))

    def export_view(self, token: str) -> str:
        """What was exported of the open clip, as long as it is the same."""
        session = self.session(token)
        return markup.export_table(session.export_rows(session.editor.clip, None))

    # ------------------------------------------------------------ pack

    def pack_view(self, token: str) -> str:
        return markup.pack_cards(self.session(token).visitor.pack)

    def pack_add(self, token: str, name: str, emojis: str) -> tuple[str, str]:
        """Add the edited clip; returns the cards and a notice."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                clip = session.editor.current()
                chosen = split_emojis(emojis[:64]) or ("🙂",)
                session.visitor.add_to_pack(clip, name.strip()[:40] or "sticker", chosen)
            except UserError as error:
                message = str(error)
        return markup.pack_cards(session.visitor.pack), markup.notice(message)

    def pack_change(self, token: str, event: dict[str, Any]) -> tuple[str, str]:
        """Move or remove one; returns the cards and a notice."""
        session, message = self.session(token), ""
        with session.lock:
            try:
                index, do = whole(event.get("index"), "place"), event.get("do")
                if do == "remove":
                    session.visitor.remove_from_pack(index)
                else:
                    session.visitor.move_in_pack(index, 1 if do == "later" else -1)
            except UserError as error:
                message = str(error)
        return markup.pack_cards(session.visitor.pack), markup.notice(message)

    def pack_build(self, token: str, platform: str, name: str, author: str, *fields: Any) -> str:
        """Export the pack; returns a download, or why there is none."""
        session = self.session(token)
        try:
            made, report = exporting.build_pack(
                session, self.shelf, platform, name.strip(), author.strip(), export_options(*fields)
            )
        except UserError as error:
            return markup.notice(str(error))
        return markup.pack_result(made, report)


def export_options(
    outline_px: float, trim: bool, close: str, speed: float, time: str, background: str
) -> ExportOptions:
    return exporting.make_options(
        float(outline_px or 0), bool(trim), close, float(speed or 1), time, background or ""
    )
