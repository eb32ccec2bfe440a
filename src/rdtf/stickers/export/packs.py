"""Sticker packs: the stickers, and the extra files, names and emojis that a platform requires."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rdtf.errors import UserError
from rdtf.fileio import atomic_folder, write_bytes
from rdtf.stickers import Sticker
from rdtf.stickers.export.exporter import Export, export_sticker
from rdtf.stickers.export.loops import fullest_frame
from rdtf.stickers.export.options import ExportOptions
from rdtf.stickers.export.packcheck import MANIFEST, PackReport, check_count, check_pack_files
from rdtf.stickers.export.platforms import ExportError, Platform, find_platform, image_platform

DEFAULT_EMOJI = "🙂"
_TYPES = {".png": "image/png", ".apng": "image/apng", ".webp": "image/webp"}


@dataclass(frozen=True)
class PackItem:
    """One sticker of a pack before its export.

    Attributes:
        sticker: the clip.
        name: for its file; letters and digits of it are used.
        emojis: what it is found by.
        text: what it shows, for who can't see it; its first caption by default.
    """

    sticker: Sticker
    name: str = "sticker"
    emojis: tuple[str, ...] = (DEFAULT_EMOJI,)
    text: str = ""


@dataclass(frozen=True)
class Pack:
    """A finished pack.

    Attributes:
        name: as given.
        files: content by the path inside the pack.
        archive: ending of the single file that it is delivered as; "" for a folder.
        exports: the stickers, in order, with their reports.
        check: the finished pack, read again and held against the rules.
    """

    name: str
    files: Mapping[str, bytes]
    archive: str
    exports: tuple[Export, ...]
    check: PackReport

    def to_bytes(self) -> bytes:
        """The archive; always the same bytes for the same files."""
        return zipped(self.files)

    def save(self, folder: Path | str) -> Path:
        """Write it into `folder`, whole or not at all; returns the archive, or the pack's folder.

        Raises:
            UserError: a folder of that name holds something else than a pack of ours.
        """
        path = Path(folder) / f"{_slug(self.name)}{self.archive}"
        if self.archive:
            write_bytes(path, self.to_bytes())
            return path
        if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
            raise UserError(
                f"{path} is not empty and not a sticker pack; choose another name or folder"
            )
        with atomic_folder(path) as temporary:
            for name, data in self.files.items():
                (temporary / name).write_bytes(data)
        return path


def export_pack(
    items: Sequence[PackItem],
    platform: str | Platform,
    *,
    name: str,
    author: str = "",
    options: ExportOptions | None = None,
) -> Pack:
    """Export every sticker and put the pack together.

    Args:
        items: the stickers in their order.
        platform: one that has packs: telegram, telegram-emoji, whatsapp, whatsapp-static, signal,
            line, wechat.
        name: title of the pack.
        author: who made it; some platforms show it.
        options: for all stickers.

    Raises:
        ExportError: a sticker, their number, a name or an emoji does not comply.
    """
    platform = find_platform(platform)
    options = options or ExportOptions()
    if platform.pack is None or platform.id not in _BUILDERS:
        known = ", ".join(_BUILDERS)
        raise ExportError("pack", f"{platform.title} has no sticker packs; these have: {known}")
    _check_count(len(items), platform)
    _check_texts(items, platform, name, author)
    exports = []
    for item in items:
        try:
            exports.append(export_sticker(item.sticker, platform, options))
        except ExportError as error:
            raise ExportError(error.reason, f"{item.name}: {error}") from error
    build, archive = _BUILDERS[platform.id]
    draft = _Draft(platform, name, author, list(items), exports, options)
    files = {**draft.sticker_files(), **draft.images(), **build(draft)}
    pack = Pack(name, files, archive, tuple(exports), check_pack_files(files, platform, name))
    if not pack.check.passed:
        raise ExportError("validation", f"{platform.title}: {pack.check.first_failure}")
    longest = platform.pack.value("max_pack_bytes")
    if longest is not None and len(pack.to_bytes()) > longest:
        raise ExportError("pack", f"{platform.title}: the pack is larger than {longest:,} bytes")
    return pack


def _check_count(count: int, platform: Platform) -> None:
    assert platform.pack is not None
    finding = check_count(count, platform.pack.limits["count"])
    if not finding.passed:
        message = f"{platform.title}: a pack must have {finding.asked} stickers, not {count}"
        raise ExportError("pack", f"{message}; add some, or leave out --pack for single files")


def _check_texts(items: Sequence[PackItem], platform: Platform, name: str, author: str) -> None:
    assert platform.pack is not None
    longest = platform.pack.value("name_length", 128)
    for what, text in (("name", name), ("author", author)):
        if len(text) > longest:
            raise ExportError(
                "pack", f"{platform.title}: the {what} is longer than {longest} characters"
            )
    if not name.strip():
        raise ExportError("pack", f"{platform.title}: the pack needs a name")
    least, most = platform.pack.value("emojis", (0, 20))
    for item in items:
        if not least <= len(item.emojis) <= most:
            count = len(item.emojis)
            message = (
                f"{item.name}: {platform.title} requires {least} to {most} emojis, not {count}"
            )
            raise ExportError("pack", message)
        for emoji in item.emojis:
            if not _is_emoji(emoji):
                raise ExportError("pack", f"{item.name}: {emoji!r} is not an emoji")


def _is_emoji(text: str) -> bool:
    """Nothing that is a letter or a space, and something beyond the simple signs."""
    if not 1 <= len(text) <= 12 or any(c.isalpha() or c.isspace() for c in text):
        return False
    return any(ord(c) >= 0x2190 or c in "©®\u203c\u2049\u2122\u2139\u20e3" for c in text)


def split_emojis(text: str) -> tuple[str, ...]:
    """`😀,🎉` -> two; commas or spaces between."""
    return tuple(part for part in re.split(r"[,\s]+", text) if part)


@dataclass(frozen=True)
class _Draft:
    """A pack whose stickers are exported and whose other files are to be made."""

    platform: Platform
    name: str
    author: str
    items: list[PackItem]
    exports: list[Export]
    options: ExportOptions

    def names(self) -> list[str]:
        """File names of the stickers: numbers, and the item's name where the platform lets us."""
        plain = self.platform.id in ("line", "wechat")
        names = []
        for number, (item, export) in enumerate(zip(self.items, self.exports, strict=True), 1):
            stem = f"{number:02d}" if plain else f"{number:02d}_{_slug(item.name)}"
            names.append(stem + export.suffix)
        return names

    def sticker_files(self) -> dict[str, bytes]:
        return {n: e.data for n, e in zip(self.names(), self.exports, strict=True)}

    def images(self) -> dict[str, bytes]:
        """What the platform requires besides the stickers: from the first, or from each."""
        assert self.platform.pack is not None
        files = {}
        for name, image in self.platform.pack.images.items():
            if image.each:
                for number, item in enumerate(self.items, 1):
                    files[f"{number:02d}_{name}.png"] = self._image(name, item)
            else:
                suffix = ".webm" if image.format == "webm" else ".png"
                stem = _IMAGE_NAMES.get((self.platform.id, name), name)
                files[f"{stem}{suffix}"] = self._image(name, self.items[0])
        return files

    def _image(self, name: str, item: PackItem) -> bytes:
        assert self.platform.pack is not None
        image = self.platform.pack.images[name]
        sticker, options = item.sticker, replace(self.options, max_bytes=None)
        if image.format == "png":
            # A still has no time, and what is to be seen in it is the whole picture.
            options = replace(options, first=0, close="none", speed=1.0, time="refuse")
            sticker = sticker.select([fullest_frame(sticker)])
        if image.opaque and options.background is None:
            options = replace(options, background=(255, 255, 255))
        if image.height < 128:
            options = replace(options, outline_px=options.outline_px / 4)
        return export_sticker(sticker, image_platform(self.platform, name), options).data

    def entries(self) -> list[dict[str, Any]]:
        """File, emojis and text of each sticker."""
        assert self.platform.pack is not None
        longest = self.platform.pack.value("text_length", 255)
        return [
            {
                "file": name,
                "emojis": list(item.emojis),
                "text": (item.text or next(iter(item.sticker.captions), ""))[:longest],
            }
            for name, item in zip(self.names(), self.items, strict=True)
        ]


#: Where a pack image has another name than in the data file.
_IMAGE_NAMES = {("whatsapp", "tray"): "cover", ("whatsapp-static", "tray"): "cover"}


def _whatsapp(draft: _Draft) -> dict[str, bytes]:
    """contents.json as WhatsApp's sample apps read it; title.txt and author.txt for importers."""
    stickers = [
        {"image_file": e["file"], "emojis": e["emojis"], "accessibility_text": e["text"]}
        for e in draft.entries()
    ]
    pack = {
        "identifier": _slug(draft.name),
        "name": draft.name,
        "publisher": draft.author or draft.name,
        "tray_image_file": "cover.png",
        "image_data_version": "1",
        "animated_sticker_pack": draft.platform.still == "no",
        "stickers": stickers,
    }
    contents = {"android_play_store_link": "", "ios_app_store_link": "", "sticker_packs": [pack]}
    return {
        "contents.json": _json(contents),
        "title.txt": draft.name.encode(),
        "author.txt": (draft.author or draft.name).encode(),
    }


def _folder(draft: _Draft) -> dict[str, bytes]:
    """A manifest of our own: what to type in while uploading."""
    manifest = {
        "made_by": "rdtf export",
        "platform": draft.platform.id,
        "title": draft.name,
        "author": draft.author,
        "stickers": draft.entries(),
    }
    return {MANIFEST: _json(manifest)}


def _signal(draft: _Draft) -> dict[str, bytes]:
    """The manifest in the form that Signal's command line uploads."""
    stickers = [
        {
            "file": entry["file"],
            "contentType": _TYPES[Path(entry["file"]).suffix],
            "emoji": entry["emojis"][0],
        }
        for entry in draft.entries()
    ]
    manifest = {
        "title": draft.name,
        "author": draft.author or draft.name,
        "cover": stickers[0],
        "stickers": stickers,
    }
    return {MANIFEST: _json(manifest)}


def _nothing(draft: _Draft) -> dict[str, bytes]:
    return {}


_BUILDERS: dict[str, tuple[Callable[[_Draft], dict[str, bytes]], str]] = {
    "telegram": (_folder, ""),
    "telegram-emoji": (_folder, ""),
    "whatsapp": (_whatsapp, ".wastickers"),
    "whatsapp-static": (_whatsapp, ".wastickers"),
    "signal": (_signal, ""),
    "line": (_nothing, ".zip"),
    "wechat": (_folder, ""),
}


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _slug(text: str) -> str:
    """Letters, digits, `_` and `-`: a name for files, and an identifier for WhatsApp."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:60] or "stickers"


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP archive; always the same bytes for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return stream.getvalue()
