"""Members of zip and tar files, found without unpacking them.

Only names, offsets and sizes are read; `rdtf.data.sources.read_member` reads a member later, under
a budget. Nothing is ever written under a name that stands in an archive. Compressed tar files are
unpacked once into the work folder, as one tar file of limited size.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import posixpath
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from rdtf.data.sources import Member
from rdtf.errors import StickerError
from rdtf.stickers import DEFAULT_BUDGET

_OPENERS = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
ARCHIVE_SUFFIXES = (".zip", ".wastickers", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_MAX_MEMBERS = 4_000_000
# Stickers are compressed already; what unpacks to more than this many times its size is a bomb.
_MAX_RATIO = 50
_ALWAYS_ALLOWED_BYTES = 64 * 2**20
_LOCAL_HEADER = 30  # bytes in front of the name of a zip's member

Refused = tuple[str, str]


def archive_members(path: Path, unpacked: Path | None) -> tuple[Path, list[Member], list[Refused]]:
    """The members of an archive, and (name, reason) of those that can't be used.

    Args:
        unpacked: folder where compressed tar files are unpacked; None: they are refused.

    Returns:
        The file that members are read from (another one where it had to be unpacked), and both
        lists.

    Raises:
        StickerError: it is no archive, damaged, or unpacks to far more than its size.
    """
    try:
        if zipfile.is_zipfile(path):
            return (path, *_zip_members(path))
        if path.suffix.lower() in _OPENERS:
            path = _unpacked_tar(path, unpacked)
        return (path, *_tar_members(path))
    except StickerError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
        raise StickerError(f"{path}: damaged archive ({error}); get it again") from error
    except (ValueError, OverflowError, NotImplementedError) as error:
        raise StickerError(f"{path}: archive can't be read ({error})") from error


def _zip_members(path: Path) -> tuple[list[Member], list[Refused]]:
    members: list[Member] = []
    refused: list[Refused] = []
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        infos = archive.infolist()
        _check_total(path, len(infos), sum(info.file_size for info in infos))
        for info in infos:
            if info.is_dir():
                continue
            methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            reason = _unsafe(info.filename, info.file_size)
            if info.flag_bits & 1:
                reason = "encrypted"
            elif info.compress_type not in methods:
                reason = f"compression method {info.compress_type} is not supported"
            elif (start := _data_offset(file, info.header_offset)) is None:
                reason = "damaged in its archive"
            elif reason is None:
                deflated = info.compress_type == zipfile.ZIP_DEFLATED
                sizes = (info.compress_size, info.file_size)
                members.append(Member(_clean(info.filename), start, *sizes, deflated, info.CRC))
            if reason is not None:
                refused.append((info.filename, reason))
    return members, refused


def _data_offset(file: IO[bytes], header_offset: int) -> int | None:
    """Where a member's data starts: its own header may differ from the directory's entry."""
    file.seek(header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or not header.startswith(b"PK\x03\x04"):
        return None
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return header_offset + _LOCAL_HEADER + lengths


def _tar_members(path: Path) -> tuple[list[Member], list[Refused]]:
    members: list[Member] = []
    refused: list[Refused] = []
    with tarfile.open(path, "r:") as archive:
        for number, info in enumerate(archive):
            archive.members = []  # type: ignore[attr-defined]  # or it keeps them all
            if number >= _MAX_MEMBERS:
                _check_total(path, number + 1, 0)
            if info.isdir():
                continue
            reason = _unsafe(info.name, info.size)
            if not info.isreg() or info.issparse():
                reason = "a link or special file"
            if reason is None:
                name = _clean(info.name)
                members.append(Member(name, info.offset_data, info.size, info.size))
            else:
                refused.append((info.name, reason))
    return members, refused


def _check_total(path: Path, num_members: int, num_bytes: int) -> None:
    if num_members > _MAX_MEMBERS:
        raise StickerError(f"{path}: more than {_MAX_MEMBERS} members; split it")
    limit = max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * path.stat().st_size)
    if num_bytes > limit:
        raise StickerError(
            f"{path}: unpacks to {num_bytes} bytes, more than {_MAX_RATIO} times its size; "
            "if it is no bomb, unpack it and name the folder"
        )


def _unsafe(name: str, size: int) -> str | None:
    """Why a member must not be used, if so."""
    clean = _clean(name)
    if clean.startswith(("/", "../")) or clean in ("..", ".") or ":" in clean or "\0" in name:
        return "its name points outside of the archive"
    if size > DEFAULT_BUDGET.max_bytes:
        return f"{size} bytes, more than the limit of {DEFAULT_BUDGET.max_bytes}"
    return None


def _clean(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _unpacked_tar(path: Path, folder: Path | None) -> Path:
    if folder is None:
        raise StickerError(f"{path}: a compressed tar file is for `rdtf data prepare` only")
    about = path.stat()
    identity = f"{path}:{about.st_size}:{about.st_mtime_ns}"
    target = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:16]}.tar"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".part")
    opener = _OPENERS[path.suffix.lower()]
    limit = max(_ALWAYS_ALLOWED_BYTES, _MAX_RATIO * about.st_size)
    limit = min(limit, shutil.disk_usage(folder).free // 2)
    done = 0
    with opener(path, "rb") as source, partial.open("wb") as sink:
        for block in _blocks(source):
            done += len(block)
            if done > limit:
                partial.unlink()
                _check_total(path, 0, done)
                raise StickerError(f"{path}: too little room to unpack it")
            sink.write(block)
    partial.replace(target)
    return target


def _blocks(file: IO[bytes]) -> Iterable[bytes]:
    while block := file.read(2**20):
        yield block
