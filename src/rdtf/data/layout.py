"""The folder of a prepared training set: names, version and content fingerprint.

OUT/dataset.json    version, counts, content fingerprint, how it was made
OUT/clips.jsonl     one row a clip
OUT/skipped.jsonl   what was left out, and why
OUT/shards/*.tar    WebDataset shards (frames and metadata)
OUT/cache/...       made when first needed, may be deleted
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DATASET_FORMAT = "rdtf-dataset"
DATASET_VERSION = 1

HEAD_FILE = "dataset.json"
CLIPS_FILE = "clips.jsonl"
SKIPPED_FILE = "skipped.jsonl"
SHARDS_FOLDER = "shards"
CACHE_FOLDER = "cache"
DATASET_NAMES = frozenset((HEAD_FILE, CLIPS_FILE, SKIPPED_FILE, SHARDS_FOLDER, CACHE_FOLDER))


def json_bytes(value: Any) -> bytes:
    """One line of JSON in UTF-8; what no UTF-8 file can hold becomes a question mark."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("wb") as file:
        file.writelines(json_bytes(row) + b"\n" for row in rows)


def is_dataset(folder: Path) -> bool:
    return (folder / HEAD_FILE).is_file() and (folder / CLIPS_FILE).is_file()


def content_fingerprint(canvas: int, clips_file: Path, shard_hashes: Iterable[str]) -> str:
    """SHA-256 over all that training reads: the rows of the clips and the bytes of the shards."""
    digest = hashlib.sha256(f"{DATASET_FORMAT} {DATASET_VERSION} {canvas}\n".encode())
    with clips_file.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
    for shard_hash in shard_hashes:
        digest.update(bytes.fromhex(shard_hash))
    return digest.hexdigest()
