from __future__ import annotations

import ctypes
import errno
import json
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fixtures_disk import largest_file
from rdtf.errors import UserError
from rdtf.fileio import (
    atomic_folder,
    atomic_path,
    delete_folder,
    ensure_folder,
    no_room,
    read_json,
    remove_leftovers,
    size_text,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ----------------------------------------------------------------------------- a file


def test_a_file_appears_whole(tmp_path):
    with atomic_path(tmp_path / "deep" / "cat.webp") as temporary:
        assert temporary.suffix == ".webp" and temporary.parent == tmp_path / "deep"
        temporary.write_bytes(b"half")
        assert not (tmp_path / "deep" / "cat.webp").exists()
    assert (tmp_path / "deep" / "cat.webp").read_bytes() == b"half"
    assert names(tmp_path / "deep") == ["cat.webp"]
    assert stat.S_IMODE((tmp_path / "deep" / "cat.webp").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    write_text(tmp_path / "notes.txt", "old")
    with pytest.raises(error), atomic_path(tmp_path / "notes.txt") as temporary:
        temporary.write_text("new")
        raise error
    assert names(tmp_path) == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "cat.gif", tmp_path / "folder"):
        with pytest.raises(UserError) as caught, atomic_path(path) as temporary:
            temporary.write_bytes(b"new")
        assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert names(tmp_path) == ["file", "folder"] and names(tmp_path / "folder") == []


# --------------------------------------------------------------------------- a folder


def fill(folder: Path, text: str) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text(text)


def test_a_folder_appears_whole(tmp_path):
    with atomic_folder(tmp_path / "deep" / "set") as temporary:
        fill(temporary, "new")
        assert not (tmp_path / "deep" / "set").exists()
    assert (tmp_path / "deep" / "set" / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path / "deep") == ["set"]
    assert stat.S_IMODE((tmp_path / "deep" / "set").stat().st_mode) == 0o755


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for text in ("old", "new"):
        with atomic_folder(tmp_path / "set") as temporary:
            fill(temporary, text)
            (temporary / f"{text}.txt").touch()
    assert names(tmp_path) == ["set"] and names(tmp_path / "set") == ["new.txt", "sub"]
    assert (tmp_path / "set" / "sub" / "a.txt").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    with atomic_folder(tmp_path / "set") as temporary:
        fill(temporary, "old")
    with pytest.raises(error), atomic_folder(tmp_path / "set") as temporary:
        fill(temporary, "new")
        raise error
    assert names(tmp_path) == ["set"]
    assert (tmp_path / "set" / "sub" / "a.txt").read_text() == "old"


def test_a_folder_never_replaces_a_file(tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    for path in (tmp_path / "thesis", tmp_path / "thesis" / "set"):
        with pytest.raises(UserError) as caught, atomic_folder(path):
            pytest.fail("the block must not be entered")
        assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["thesis"]
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_folders_are_made_or_refused(tmp_path):
    assert ensure_folder(tmp_path / "a" / "b").is_dir()
    assert ensure_folder(str(tmp_path / "a")) == tmp_path / "a"
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"run folder .*file can't be made: .*name another"):
        ensure_folder(tmp_path / "file", "run folder")


def test_a_folder_is_replaced_where_names_cannot_be_swapped(tmp_path, monkeypatch):
    def no_library(name: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    test_a_folder_is_replaced_as_a_whole(tmp_path)


def test_everybody_may_read_what_was_written(tmp_path):
    with atomic_folder(tmp_path / "set") as temporary:
        fill(temporary, "new")
        (temporary / "sub").chmod(0o700)
        (temporary / "sub" / "a.txt").chmod(0o600)
    assert stat.S_IMODE((tmp_path / "set" / "sub").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "set" / "sub" / "a.txt").stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file", "other"), OSError("odd")])
def test_errors_about_other_files_are_not_told_as_ours(tmp_path, error):
    with pytest.raises(OSError) as caught, atomic_folder(tmp_path / "set"):
        raise error
    assert caught.value is error and names(tmp_path) == []


# ----------------------------------------------------------- deleting, and what was left


def test_a_folder_is_deleted(tmp_path):
    fill(tmp_path, "old")
    delete_folder(tmp_path / "sub")
    assert names(tmp_path) == []
    with pytest.raises(OSError):
        delete_folder(tmp_path / "sub")


def test_what_killed_processes_left_is_removed(tmp_path):
    for name in (".tmp-set-1a", ".tmp-set-1a-old", ".tmp-other-2b", "set"):
        (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / ".tmp-setting-3c.json").touch()
    (tmp_path / ".tmp-set-link").symlink_to(tmp_path / "set")
    remove_leftovers(tmp_path, "set-")
    assert names(tmp_path) == [".tmp-other-2b", ".tmp-setting-3c.json", "set"]
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["set"] and names(tmp_path / "set") == ["sub"]


# ----------------------------------------------------------------------- no room for it


def with_python(path: Path) -> None:
    path.write_bytes(bytes(2_000_000))


def with_numpy(path: Path) -> None:
    with path.open("wb") as file:
        np.zeros(2_000_000, np.uint8).tofile(file)


def with_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(2_000_000, dtype=torch.uint8)}, path)


WRITERS = [with_python, with_numpy, with_safetensors]


@pytest.mark.parametrize("write", WRITERS)
def test_no_room_for_a_file(tmp_path, write: Callable[[Path], None]):
    write_text(tmp_path / "a.bin", "old")
    with (
        pytest.raises(
            UserError, match=r"a\.bin can't be written: .* are free; make room"
        ) as caught,
        largest_file(1_000_000),
        atomic_path(tmp_path / "a.bin") as temporary,
    ):
        write(temporary)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["a.bin"] and (tmp_path / "a.bin").read_text() == "old"


@pytest.mark.parametrize("write", [*WRITERS, lambda path: write_bytes(path, bytes(2_000_000))])
def test_no_room_for_a_folder(tmp_path, write: Callable[[Path], None]):
    with atomic_folder(tmp_path / "set") as temporary:
        fill(temporary, "old")
    with (
        pytest.raises(UserError, match=r"set can't be written: .* are free; make room") as caught,
        largest_file(1_000_000),
        atomic_folder(tmp_path / "set") as temporary,
    ):
        fill(temporary, "new")
        write(temporary / "big")
    assert "\n" not in str(caught.value) and ".tmp-" not in str(caught.value)
    assert names(tmp_path) == ["set"]
    assert (tmp_path / "set" / "sub" / "a.txt").read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_counts_as_no_room(number):
    told = OSError(number, "as the system says it")
    assert no_room(told)
    try:
        raise UserError("a.json can't be written") from told
    except UserError as error:
        assert no_room(error) == no_room(told)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOENT, "missing"), OSError("odd"), ValueError("full"), None]
)
def test_what_does_not(error):
    assert no_room(error) == ""


def test_sizes_for_people():
    assert [size_text(n) for n in (0, 999, 1000, 3.44e6, 12e9)] == [
        "0 bytes", "999 bytes", "1.0 kB", "3.4 MB", "12.0 GB",
    ]  # fmt: skip


# ------------------------------------------------------------------------------- JSON


def test_json_comes_back(tmp_path):
    value = {"name": "Katze 🐈", "numbers": [1, 0.1 + 0.2, None, True]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "🐈" in (tmp_path / "a.json").read_text("utf-8")


def test_json_that_cannot_be_written_leaves_the_old(tmp_path):
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {1, 2})
    assert json.loads((tmp_path / "a.json").read_text()) == 1 and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1,", b"\xff\xfe", b"<html>"])
def test_damaged_json_is_named(tmp_path, content):
    write_bytes(tmp_path / "a.json", content)
    with pytest.raises(UserError, match=r"run config .*a\.json can't be read as JSON"):
        read_json(tmp_path / "a.json", "run config")


def test_missing_json_is_named(tmp_path):
    with pytest.raises(UserError, match=r"run config .*a\.json does not exist"):
        read_json(tmp_path / "a.json", "run config")
    with pytest.raises(UserError, match="can't be read"):
        read_json(tmp_path)
