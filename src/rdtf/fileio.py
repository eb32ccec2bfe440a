"""Files that appear whole or not at all.

Everything is first written beside its destination and then renamed, so that a full disk, a signal
or a crash never leaves a half-written file under the final name. What a killed process leaves
behind has a name that starts with `.tmp-`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from rdtf.errors import UserError

_TEMPORARY = ".tmp-"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def ensure_folder(folder: Path | str, what: str = "output folder") -> Path:
    """Create `folder` if needed and make sure that it can be written; `UserError` otherwise."""
    folder = Path(folder)
    try:
        made = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for path in made:
            _fsync(path.parent)
    except OSError as error:
        raise UserError(f"{what} {folder} can't be made: {error.strerror}; name another") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{what} {folder} can't be written; name another or change its rights")
    return folder


def check_own_folder(folder: Path | str, ours: str, beside: Collection[str] = ()) -> None:
    """Refuse an output folder with other things in it than ours.

    Args:
        ours: a name that shows that the folder is ours.
        beside: names that may be there before that one.

    Raises:
        UserError: a file, or a folder with something else.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"output {folder} is a file; name a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = {name for name in names - {*beside, ".lock"} if not name.startswith(".tmp-")}
    if foreign and ours not in names:
        raise UserError(f"output {folder} holds something else; name a new or empty folder")


def check_apart(inputs: Iterable[Path | str], out: Path | str) -> None:
    """`UserError` if the output would lie inside of an input, or an input inside of the output."""
    place = Path(out).resolve()
    for name in inputs:
        source = Path(name).resolve()
        if place.is_relative_to(source):
            raise UserError(
                f"output {out} lies inside of the input {name}; name a folder elsewhere"
            )
        if source.is_relative_to(place):
            raise UserError(
                f"input {name} lies inside of the output {out}; name a folder elsewhere"
            )


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it is fsynced and renamed to `path`.

    The temporary name keeps the suffix of `path`, because writers choose the format by it. A file
    that can't be written, a full disk included, is a `UserError`; the old file is kept then.
    """
    path = Path(path)
    ensure_folder(path.parent)
    # The name is settled before the file exists: no signal can come between making and knowing it.
    temporary = path.with_name(f"{_TEMPORARY}{path.stem}-{secrets.token_hex(6)}{path.suffix}")
    try:
        temporary.open("xb").close()
        yield temporary
        _fsync(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        _fsync(path.parent)
    except Exception as error:
        reason = no_room(error)
        if isinstance(error, OSError) or reason:
            raise _unwritable(path, temporary, error) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path` by a rename.

    Every file and folder in it is fsynced before. A full disk is a `UserError`; whatever goes
    wrong, the old folder is kept and the temporary one is removed.
    """
    path = Path(path)
    ensure_folder(path.parent)
    if path.exists() and not path.is_dir():
        raise UserError(f"output folder {path} is a file; name another")
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{secrets.token_hex(6)}")
    filled = False
    try:
        temporary.mkdir(mode=0o700)
        yield temporary
        filled = True
        publish_folder(temporary, path)
    except Exception as error:
        # In the block only a full disk is told like this: other errors may be about other files.
        if no_room(error) or (isinstance(error, OSError) and (filled or not temporary.exists())):
            raise _unwritable(path, temporary, error) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def publish_folder(folder: Path, path: Path) -> None:
    """Rename the finished `folder` to `path` after all in it is on the disk; what was at `path`
    is at `folder` then, or gone. Both must be on one file system."""
    _settle(folder)
    _replace_folder(path, folder)
    _fsync(path.parent)


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Delete what killed processes left in `folder`, of outputs whose name starts with `name`.

    Only for who holds a lock on the folder: it would take away what others are writing just now.
    """
    for path in folder.glob(f"{_TEMPORARY}{name}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def delete_folder(path: Path) -> None:
    """Delete a folder so that a kill half way leaves nothing under its name.

    Raises:
        OSError: it can't be renamed; it is as it was.
    """
    doomed = path.with_name(f"{_TEMPORARY}{path.name}-{secrets.token_hex(6)}-old")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def exchange(first: Path, second: Path) -> bool:
    """Swap two names in a single step, where the system can: Linux, on most file systems."""
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0


# ------------------------------------------------------------------------ what went wrong


def no_room(error: BaseException | None) -> str:
    """What the system says if `error`, or what caused it, is a full disk; else an empty string.

    A quota and a limit on file sizes count too. Not only `OSError` tells: safetensors, written in
    Rust, has the number in its text, and numpy's `tofile` says how much of an array it wrote.
    """
    while error is not None:
        text = str(error)
        number = error.errno if isinstance(error, OSError) else None
        if found := re.search(r"\(os error (\d+)\)", text):
            number = int(found[1])
        if number is None and isinstance(error, OSError):
            number = errno.ENOSPC if re.search(r"requested and \d+ written", text) else None
        if number in _NO_ROOM:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return ""


def size_text(num_bytes: float) -> str:
    """Bytes for people: `812 bytes`, `3.4 MB`, `1.2 GB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def _unwritable(path: Path, temporary: Path, error: Exception) -> UserError:
    if reason := no_room(error):
        with contextlib.suppress(OSError):
            reason += f", {size_text(shutil.disk_usage(path.parent).free)} are free"
        return UserError(f"{path} can't be written: {reason}; make room or name another place")
    reason = getattr(error, "strerror", None) or str(error).replace(str(temporary), str(path))
    return UserError(f"{path} can't be written: {reason}; name another place")


# --------------------------------------------------------------------------- on the disk


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some can't do it for folders
            raise
    finally:
        os.close(descriptor)


def _settle(folder: Path) -> None:
    """Bring everything in `folder` to the disk; make it readable, which some writers do not."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
            _fsync(path)
    folder.chmod(0o755)
    _fsync(folder)


def _replace_folder(path: Path, new: Path) -> None:
    """Rename `new` to `path`; what was there is at `new` then, or gone."""
    if not path.exists():
        new.rename(path)
    elif not exchange(path, new):
        # Two steps: between them nothing is at `path`. Deleting may take long, so it is last.
        old = new.with_name(f"{new.name}-old")
        path.rename(old)
        try:
            new.rename(path)
        except OSError:
            old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)


# ------------------------------------------------------------------------------- content


def write_bytes(path: Path | str, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path | str, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path | str, what: str = "file") -> Any:
    """Parse a JSON file; a missing or damaged one is a `UserError` that names it."""
    path = Path(path)
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{what} {path} does not exist") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{what} {path} can't be read as JSON: {error}") from error
