"""Sticker packs: the stickers, and the extra files, names and emojis that a platform requires."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from rdtf.errors import UserError
from rdtf.fileio import atomic_folder, write_bytes
from rdtf.stickers import Sticker
from rdtf.stickers.export.exporter import Export, export_sticker
from rdtf.stickers.export.loops import fullest_frame
from rdtf.stickers.export.options import ExportOptions
from rdtf.stickers.export.packcheck import MANIFEST, PackReport, check_count, check_pack_files
from rdtf.stickers.export.platforms import ExportError, Platform, find_platform, image_platform

DEFAULT_EMOJI = "🙂"
_Entries = list[dict[str, Any]]  # file, emojis and text of each sticker
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

    @property
    def description(self) -> str:
        return self.text or next(iter(self.sticker.captions), "")


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
    rules = platform.pack_rules
    _check_texts(items, platform, name, author)
    exports = []
    for item in items:
        try:
            exports.append(export_sticker(item.sticker, platform, options))
        except ExportError as error:
            raise ExportError(error.reason, f"{item.name}: {error}") from error
    names = _file_names(items, exports, platform)
    files = {file: export.data for file, export in zip(names, exports, strict=True)}
    for image in rules.images:
        files |= _images(image, items, platform, options)
    manifest, archive = _BUILDERS[platform.id]
    if manifest is not None:
        longest = rules.value("text_length", 255)
        entries = [
            {"file": file, "emojis": list(item.emojis), "text": item.description[:longest]}
            for file, item in zip(names, items, strict=True)
        ]
        files |= manifest(platform, name, author, entries)
    pack = Pack(name, files, archive, tuple(exports), check_pack_files(files, platform, name))
    if not pack.check.passed:
        raise ExportError("validation", f"{platform.title}: {pack.check.first_failure}")
    most = rules.value("max_pack_bytes")
    if most is not None and len(zipped(files)) > most:
        raise ExportError("pack", f"{platform.title}: the pack is larger than {most:,} bytes")
    return pack


def _check_texts(items: Sequence[PackItem], platform: Platform, name: str, author: str) -> None:
    def refuse(message: str) -> NoReturn:
        raise ExportError("pack", message)

    rules, title = platform.pack_rules, platform.title
    count = check_count(len(items), rules.limits["count"])
    if not count.passed:
        message = f"{title}: a pack must have {count.asked} stickers, not {count.found}"
        refuse(f"{message}; add some, or leave out --pack for single files")
    longest = rules.value("name_length", 128)
    for what, text in (("name", name), ("author", author)):
        if len(text) > longest:
            refuse(f"{title}: the {what} is longer than {longest} characters")
    if not name.strip():
        refuse(f"{title}: the pack needs a name")
    least, most = rules.value("emojis", (0, 20))
    for item in items:
        if not least <= len(item.emojis) <= most:
            wanted = f"{least} to {most} emojis, not {len(item.emojis)}"
            refuse(f"{item.name}: {title} requires {wanted}")
        for emoji in item.emojis:
            if not _is_emoji(emoji):
                refuse(f"{item.name}: {emoji!r} is not an emoji")


def _is_emoji(text: str) -> bool:
    """Nothing that is a letter or a space, and something beyond the simple signs."""
    if not 1 <= len(text) <= 12 or any(c.isalpha() or c.isspace() for c in text):
        return False
    return any(ord(c) >= 0x2190 or c in "©®\u203c\u2049\u2122\u2139\u20e3" for c in text)


def split_emojis(text: str) -> tuple[str, ...]:
    """`😀,🎉` -> two; commas or spaces between."""
    return tuple(part for part in re.split(r"[,\s]+", text) if part)


def _file_names(
    items: Sequence[PackItem], exports: Sequence[Export], platform: Platform
) -> list[str]:
    """Numbers, and the item's name where the platform lets us."""
    plain = platform.id in ("line", "wechat")
    return [
        f"{number:02d}{'' if plain else '_' + _slug(item.name)}{export.suffix}"
        for number, (item, export) in enumerate(zip(items, exports, strict=True), 1)
    ]


def _images(
    name: str, items: Sequence[PackItem], platform: Platform, options: ExportOptions
) -> dict[str, bytes]:
    """A picture that the platform requires besides the stickers: of the first, or of each."""
    image = platform.pack_rules.images[name]
    options = replace(options, max_bytes=None)
    if image.format == "png":  # a still has no time
        options = replace(options, first=0, close="none", speed=1.0, time="refuse")
    if image.opaque and options.background is None:
        options = replace(options, background=(255, 255, 255))
    if image.height < 128:
        options = replace(options, outline_px=options.outline_px / 4)
    files = {}
    for number, item in enumerate(items if image.each else items[:1], 1):
        sticker = item.sticker
        if image.format == "png":  # what is to be seen is the whole picture
            sticker = sticker.select([fullest_frame(sticker)])
        stem = f"{number:02d}_{name}" if image.each else _IMAGE_NAMES.get((platform.id, name), name)
        suffix = ".webm" if image.format == "webm" else ".png"
        files[stem + suffix] = export_sticker(sticker, image_platform(platform, name), options).data
    return files


#: Where a pack image has another name than in the data file.
_IMAGE_NAMES = {("whatsapp", "tray"): "cover", ("whatsapp-static", "tray"): "cover"}


def _whatsapp(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """contents.json as WhatsApp's sample apps read it; title.txt and author.txt for importers."""
    stickers = [
        {"image_file": e["file"], "emojis": e["emojis"], "accessibility_text": e["text"]}
        for e in entries
    ]
    pack = {
        "identifier": _slug(name),
        "name": name,
        "publisher": author or name,
        "tray_image_file": "cover.png",
        "image_data_version": "1",
        "animated_sticker_pack": platform.still == "no",
        "stickers": stickers,
    }
    contents = {"android_play_store_link": "", "ios_app_store_link": "", "sticker_packs": [pack]}
    texts = {"title.txt": name.encode(), "author.txt": (author or name).encode()}
    return {"contents.json": _json(contents), **texts}


def _folder(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """A manifest of our own: what to type in while uploading."""
    manifest = {
        "made_by": "rdtf export",
        "platform": platform.id,
        "title": name,
        "author": author,
        "stickers": entries,
    }
    return {MANIFEST: _json(manifest)}


def _signal(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """The manifest in the form that Signal's command line uploads."""
    stickers = [
        {
            "file": entry["file"],
            "contentType": _TYPES[Path(entry["file"]).suffix],
            "emoji": entry["emojis"][0],
        }
        for entry in entries
    ]
    head = {"title": name, "author": author or name, "cover": stickers[0]}
    return {MANIFEST: _json({**head, "stickers": stickers})}


#: What lists the stickers (None: nothing), and the ending of the archive ("": a folder).
_BUILDERS: dict[str, tuple[Callable[[Platform, str, str, _Entries], dict[str, bytes]] | None, str]]
_BUILDERS = {
    "telegram": (_folder, ""),
    "telegram-emoji": (_folder, ""),
    "whatsapp": (_whatsapp, ".wastickers"),
    "whatsapp-static": (_whatsapp, ".wastickers"),
    "signal": (_signal, ""),
    "line": (None, ".zip"),
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
