"""Caches of a training set: built once, whole or not at all, found again by their fingerprint.

    OUT/cache/KIND-FINGERPRINT/meta.json     what it was built from
    OUT/cache/KIND-FINGERPRINT/...           the rows

A fingerprint covers the contents of the training set, the encoder and its settings, so a stale
cache is never read. Where the training set can't be written, caches live in the user's own folder
(`$XDG_CACHE_HOME/rdtf`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rdtf.data.dataset import PreparedDataset
from rdtf.data.layout import CACHE_FOLDER
from rdtf.errors import UserError
from rdtf.fileio import atomic_folder, ensure_folder, read_json, write_json

CACHE_VERSION = 1
META_FILE = "meta.json"

Cache = TypeVar("Cache")


def build_once(
    dataset: PreparedDataset,
    kind: str,
    identity: Mapping[str, Any],
    build: Callable[[Path], None],
    open_cache: Callable[[Path], Cache],
) -> Cache:
    """Open the cache of `kind` for `identity`; build it first where it is missing or damaged.

    `build` fills an empty folder. Several processes may ask at once: one builds, the others wait.
    """
    meta = {"kind": kind, "version": CACHE_VERSION, "dataset": dataset.fingerprint, **identity}
    text = json.dumps(meta, sort_keys=True)
    name = f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    for parent in (dataset.path / CACHE_FOLDER, user_cache_folder()):
        if (cache := _try_open(parent / name, meta, open_cache)) is not None:
            return cache
    parent = _writable_parent(dataset)
    with _locked(parent):
        if (cache := _try_open(parent / name, meta, open_cache)) is not None:
            return cache
        with atomic_folder(parent / name) as folder:
            build(folder)
            write_json(folder / META_FILE, meta)
        return open_cache(parent / name)


def user_cache_folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "rdtf"


def _try_open(
    folder: Path, meta: Mapping[str, Any], open_cache: Callable[[Path], Cache]
) -> Cache | None:
    if not (folder / META_FILE).is_file():
        return None
    try:
        return open_cache(folder) if read_json(folder / META_FILE) == meta else None
    except UserError:  # damaged: it is built again in its place
        return None


def _writable_parent(dataset: PreparedDataset) -> Path:
    try:
        return ensure_folder(dataset.path / CACHE_FOLDER, "cache folder")
    except UserError:
        return ensure_folder(user_cache_folder(), "cache folder")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
