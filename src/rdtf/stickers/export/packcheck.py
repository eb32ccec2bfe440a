"""Does a pack keep to the rules: archive or folder, every file in it, and what lists them?

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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rdtf.errors import StickerError
from rdtf.stickers import DEFAULT_BUDGET, Budget
from rdtf.stickers.budget import read_bytes
from rdtf.stickers.export.check import CheckReport, Finding, check_bytes
from rdtf.stickers.export.platforms import Limit, Platform, dated, find_platform, image_platform

MANIFEST = "manifest.json"
_MAX_FILES = 500
_ZIP_START = b"PK\x03\x04"
_IDENTIFIER = re.compile(r"[A-Za-z0-9_\-.,' ]{1,128}")


@dataclass(frozen=True)
class PackReport:
    """Findings for the pack as a whole, and a report for each picture in it."""

    name: str
    platform: str
    findings: tuple[Finding, ...]
    files: tuple[CheckReport, ...]
    dated: str

    @property
    def passed(self) -> bool:
        return all(f.passed or f.is_advice for f in self.findings) and all(
            report.passed for report in self.files
        )

    @property
    def first_failure(self) -> str:
        """The first rule that is broken, in words; "" if none is."""
        for finding in self.findings:
            if not finding.passed and not finding.is_advice:
                return str(finding)
        for report in self.files:
            if not report.passed:
                return f"{report.name}: {report.failures[0]}"
        return ""

    def to_dict(self) -> dict[str, Any]:
        files = [report.to_dict() for report in self.files]
        return {**asdict(self), "files": files, "passed": self.passed}

    def __str__(self) -> str:
        verdict = "passes" if self.passed else "FAILS"
        head = f"{self.name}: {verdict} for {self.platform} packs (limits as of {self.dated})"
        lines = [head, *(f"  {finding}" for finding in self.findings)]
        for report in self.files:
            broken = [f"    {finding}" for finding in report.failures]
            lines += [f"  {'ok  ' if report.passed else 'FAIL'} {report.name}", *broken]
        return "\n".join(lines)


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
) -> PackReport:
    """Hold a pack on the disk, an archive or a folder, against the rules of `platform`.

    Raises:
        StickerError: it does not exist, or can't be opened safely.
        ExportError: (pack) the platform has no packs.
    """
    path, platform = Path(path), find_platform(platform)
    files = _read_folder(path, budget) if path.is_dir() else _read_archive(path, budget)
    return check_pack_files(files, platform, path.name, budget)


def check_pack_files(
    files: Mapping[str, bytes], platform: Platform, name: str, budget: Budget = DEFAULT_BUDGET
) -> PackReport:
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
        check_bytes(files[path], image_platform(platform, image), path, budget)
        for path, image in images.items()
        if path in files
    ]
    return PackReport(name, platform.id, tuple(findings), tuple(reports), dated())


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" and more" if len(names) > 5 else "")


def check_count(count: int, limit: Limit) -> Finding:
    """Whether a pack may hold so many stickers."""
    if limit.rule == "one of":
        passed, asked = count in limit.value, " or ".join(map(str, limit.value))
    else:
        passed = limit.value[0] <= count <= limit.value[1]
        asked = "{} to {}".format(*limit.value)
    rule = "number of stickers"
    return Finding(rule, passed, str(count), asked, False, limit.source, limit.confidence)


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
    return {path.relative_to(folder).as_posix(): read_bytes(path, budget) for path in paths}


def _read_archive(path: Path, budget: Budget) -> dict[str, bytes]:
    data = read_bytes(path, budget)
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
