"""Sticker packs: the stickers, the extra files that a platform requires, and the check of it all.

Archives may be hostile: names and sizes are checked before anything is unpacked, and nothing is
ever written.
"""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from rdtf.errors import StickerError
from rdtf.fileio import write_bytes
from rdtf.stickers import DEFAULT_BUDGET, Budget, Sticker
from rdtf.stickers.export.check import CheckReport, Finding, check_bytes, check_count
from rdtf.stickers.export.edit import ExportOptions, visible_shares
from rdtf.stickers.export.exporter import Export, export_sticker, save_folder
from rdtf.stickers.export.platforms import (
    ExportError,
    Platform,
    dated,
    find_platform,
)

DEFAULT_EMOJI = "🙂"
_Entries = list[dict[str, Any]]  # file, emojis and text of each sticker
_TYPES = {".png": "image/png", ".apng": "image/apng", ".webp": "image/webp"}


@dataclass(frozen=True)
class PackItem:
    """One sticker of a pack before its export."""

    sticker: Sticker  # the clip
    name: str = "sticker"  # for its file; letters and digits of it are used
    emojis: tuple[str, ...] = (DEFAULT_EMOJI,)  # what it is found by


@dataclass(frozen=True)
class Pack:
    """A finished pack."""

    name: str  # as given
    files: Mapping[str, bytes]  # content by the path inside the pack
    archive: str  # ending of the single file that it is delivered as; "" for a folder
    exports: tuple[Export, ...]  # the stickers, in order, with their reports
    check: CheckReport  # the finished pack, read again and held against the rules

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
        return save_folder(path, self.files, MANIFEST, "sticker pack")


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
        entries = []
        for file, item in zip(names, items, strict=True):
            text = "".join(item.sticker.captions[:1])[:longest]
            entries.append({"file": file, "emojis": list(item.emojis), "text": text})
        files |= manifest(platform, name, author, entries)
    pack = Pack(name, files, archive, tuple(exports), _check_files(files, platform, name))
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
            sticker = sticker.select([int(np.argmax(visible_shares(sticker.frames)))])
        stem = f"{number:02d}_{name}" if image.each else _IMAGE_NAMES.get((platform.id, name), name)
        suffix = ".webm" if image.format == "webm" else ".png"
        files[stem + suffix] = export_sticker(sticker, platform.image(name), options).data
    return files


#: Where a pack image has another name than in the data file.
_IMAGE_NAMES = {("whatsapp", "tray"): "cover", ("whatsapp-static", "tray"): "cover"}


def _whatsapp(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """contents.json as WhatsApp's sample apps read it; title.txt and author.txt for importers."""
    stickers = [
        {"image_file": e["file"], "emojis": e["emojis"], "accessibility_text": e["text"]}
        for e in entries
    ]
    pack = {"identifier": _slug(name), "name": name, "publisher": author or name}
    pack |= {"tray_image_file": "cover.png", "image_data_version": "1"}
    pack |= {"animated_sticker_pack": platform.still == "no", "stickers": stickers}
    contents = {"android_play_store_link": "", "ios_app_store_link": "", "sticker_packs": [pack]}
    texts = {"title.txt": name.encode(), "author.txt": (author or name).encode()}
    return {"contents.json": _json(contents), **texts}


def _folder(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """A manifest of our own: what to type in while uploading."""
    head = {"made_by": "rdtf export", "platform": platform.id, "title": name, "author": author}
    return {MANIFEST: _json({**head, "stickers": entries})}


def _signal(platform: Platform, name: str, author: str, entries: _Entries) -> dict[str, bytes]:
    """The manifest in the form that Signal's command line uploads."""
    stickers = [
        {"file": e["file"], "contentType": _TYPES[Path(e["file"]).suffix], "emoji": e["emojis"][0]}
        for e in entries
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


MANIFEST = "manifest.json"
_MAX_FILES = 500
_ZIP_START = b"PK\x03\x04"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_\-.,' ]{1,128}")


def is_pack(path: Path) -> bool:
    """Whether a path is to be checked as a pack: a folder or an archive."""
    if path.is_dir():
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == _ZIP_START or path.suffix.lower() in (".wastickers", ".zip")
    except OSError:
        return False


def check_pack(
    path: Path | str, platform: str | Platform, budget: Budget = DEFAULT_BUDGET
) -> CheckReport:
    """Hold a pack on the disk, an archive or a folder, against the rules of `platform`.

    Raises:
        StickerError: it does not exist, or can't be opened safely.
        ExportError: (pack) the platform has no packs.
    """
    path, platform = Path(path), find_platform(platform)
    files = _read_folder(path, budget) if path.is_dir() else _read_archive(path, budget)
    return _check_files(files, platform, path.name, budget)


def _check_files(
    files: Mapping[str, bytes], platform: Platform, name: str, budget: Budget = DEFAULT_BUDGET
) -> CheckReport:
    """Like `check_pack`, for files by their path inside the pack."""
    limit = platform.pack_rules.limits["count"]
    findings: list[Finding] = []
    images = _image_names(files, platform)
    listed = _LISTERS.get(platform.id, _numbered)(files, platform, findings)
    findings.append(check_count(len(listed), limit))
    missing, every = [name for name in (*listed, *images) if name not in files], "all files present"
    findings.append(Finding("complete", not missing, _names(missing) or every, every))
    known = {*listed, *images, *_TEXTS.get(platform.id, (MANIFEST,))}
    others = [name for name in files if name not in known]
    findings.append(Finding("nothing else", not others, _names(others) or "nothing", "nothing"))
    reports = [check_bytes(files[n], platform, n, budget) for n in listed if n in files]
    reports += [
        check_bytes(files[path], platform.image(image), path, budget)
        for path, image in images.items()
        if path in files
    ]
    return CheckReport(name, platform.id, tuple(findings), dated(), tuple(reports))


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")


# ------------------------------------------------------------------- what a pack lists


def _image_names(files: Mapping[str, bytes], platform: Platform) -> dict[str, str]:
    """Path -> which image of the pack it has to be."""
    names = {}
    for image, spec in platform.pack_rules.images.items():
        if spec.each:
            stems = [PurePosixPath(name).stem for name in _numbered(files, platform, [])]
            names |= {f"{stem}_{image}.png": image for stem in stems}
        elif not platform.id.startswith("whatsapp"):
            names[f"{image}.webm" if spec.format == "webm" else f"{image}.png"] = image
        elif tray := _whatsapp_pack(files).get("tray_image_file"):
            names[str(tray)] = image
    return names


def _numbered(files: Mapping[str, bytes], platform: Platform, findings: list[Finding]) -> list[str]:
    """Files that begin with a number and have the platform's ending; nothing lists them."""
    ending = f".{platform.format}"
    return sorted(n for n in files if re.match(r"\d+", n) and n.endswith(ending))


def _by_manifest(
    files: Mapping[str, bytes], platform: Platform, findings: list[Finding]
) -> list[str]:
    """The files that our manifest, or Signal's, names, with their emojis."""
    stickers = _list_of_dicts(_parse(files.get(MANIFEST)).get("stickers"))
    found = f"{len(stickers)} stickers" if stickers else "no stickers listed"
    findings.append(Finding("manifest", bool(stickers), found, f"a list of stickers in {MANIFEST}"))
    for entry in stickers:
        emojis = entry.get("emojis", [entry["emoji"]] if "emoji" in entry else [])
        findings += _emojis(str(entry.get("file")), emojis, platform)
    return [str(entry.get("file")) for entry in stickers]


def _by_contents(
    files: Mapping[str, bytes], platform: Platform, findings: list[Finding]
) -> list[str]:
    """WhatsApp's contents.json: one pack, with what its validator asks for."""
    pack = _whatsapp_pack(files)
    findings.append(
        Finding("contents.json", bool(pack), "one pack" if pack else "no pack", "one pack")
    )
    longest = platform.pack_rules.value("name_length", 128)
    identifier = str(pack.get("identifier", ""))
    passed = bool(_IDENTIFIER.fullmatch(identifier)) and ".." not in identifier
    asked = "up to 128 letters, digits, spaces and _-.,'"
    findings.append(Finding("identifier", passed, identifier[:140], asked))
    for field in ("name", "publisher"):
        text = str(pack.get(field, ""))
        passed = 0 < len(text) <= longest
        findings.append(Finding(field, passed, f"{len(text)} characters", f"1 to {longest}"))
    version = str(pack.get("image_data_version", ""))
    findings.append(Finding("image_data_version", bool(version), version or "none", "a version"))
    moves, stated = platform.still == "no", pack.get("animated_sticker_pack", False)
    words = {True: "animated", False: "static"}
    findings.append(Finding("kind of pack", stated is moves, words[bool(stated)], words[moves]))
    stickers = _list_of_dicts(pack.get("stickers"))
    for entry in stickers:
        findings += _emojis(str(entry.get("image_file")), entry.get("emojis"), platform)
    return [str(entry.get("image_file")) for entry in stickers]


def _emojis(name: str, emojis: Any, platform: Platform) -> Iterator[Finding]:
    """A finding only where the number is wrong: a pack has many stickers."""
    least, most = platform.pack_rules.value("emojis", (0, 20))
    count = len(emojis) if isinstance(emojis, list) else 0
    if not least <= count <= most:
        yield Finding(f"emojis of {name}", False, str(count), f"{least} to {most}")


def _whatsapp_pack(files: Mapping[str, bytes]) -> dict[str, Any]:
    packs = _list_of_dicts(_parse(files.get("contents.json")).get("sticker_packs"))
    return packs[0] if len(packs) == 1 else {}


def _parse(data: bytes | None) -> dict[str, Any]:
    try:
        value = json.loads((data or b"{}").decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _list_of_dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


_LISTERS: dict[str, Callable[[Mapping[str, bytes], Platform, list[Finding]], list[str]]] = {
    "telegram": _by_manifest,
    "telegram-emoji": _by_manifest,
    "whatsapp": _by_contents,
    "whatsapp-static": _by_contents,
    "signal": _by_manifest,
}
_TEXTS = {
    "whatsapp": ("contents.json", "title.txt", "author.txt"),
    "whatsapp-static": ("contents.json", "title.txt", "author.txt"),
    "line": (),
}


# ------------------------------------------------------------------------- opening it


def _read_folder(folder: Path, budget: Budget) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    if len(paths) > _MAX_FILES:
        raise StickerError(f"{folder} holds {len(paths)} files; a pack has at most {_MAX_FILES}")
    if any(path.is_symlink() for path in paths):
        raise StickerError(f"{folder} holds links; a pack may hold only files")
    budget.check_bytes(str(folder), sum(path.stat().st_size for path in paths))
    return {path.relative_to(folder).as_posix(): budget.read(path) for path in paths}


def _read_archive(path: Path, budget: Budget) -> dict[str, bytes]:
    data = budget.read(path)
    if not data.startswith(_ZIP_START):
        raise StickerError(
            f"{path} is not a sticker pack; give a .wastickers or .zip file, or a folder"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.comment:
                raise StickerError(
                    f"{path}: the archive has a comment, which can hide other data; refused"
                )
            _check_entries(path, archive.infolist(), budget)
            return {e.filename: archive.read(e) for e in archive.infolist() if not e.is_dir()}
    except StickerError:
        raise
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError) as error:
        raise StickerError(f"{path}: the archive is damaged ({error}); get it again") from error


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], budget: Budget) -> None:
    """Sizes as stated; Python's reader stops where a stated size ends."""
    if len(entries) > _MAX_FILES:
        raise StickerError(f"{path} holds {len(entries)} files; a pack has at most {_MAX_FILES}")
    budget.check_bytes(f"{path}, unpacked", sum(entry.file_size for entry in entries))
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise StickerError(f"{path}: two files inside have the same name; refused")
    for entry in entries:
        parts = PurePosixPath(entry.filename).parts
        strange = "\\" in entry.filename or ":" in entry.filename or ".." in parts
        is_link = stat.S_ISLNK(entry.external_attr >> 16)
        if strange or is_link or entry.filename.startswith("/") or not parts:
            name = ascii(entry.filename)[:60]
            raise StickerError(f"{path}: {name} points outside the archive; refused")
        if entry.flag_bits & 1:
            raise StickerError(f"{path}: {ascii(entry.filename)[:60]} is encrypted; refused")
