"""Between decoding and shards: pixels wait in one file until the split is known.

The split needs every concept, and concepts are known only when the last sticker is read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from rdtf.data.clip import PreparedClip
from rdtf.data.shards import ShardInfo, ShardWriter
from rdtf.data.sources import Skipped, SourceItem
from rdtf.data.splits import SPLITS, Split


@dataclass(frozen=True)
class SpooledClip:
    """A prepared clip whose pixels wait in the spool file."""

    item: SourceItem
    durations_ms: tuple[int, ...]
    native_frames: int
    motion: float
    pixel_hash: str
    offset: int
    num_bytes: int

    @property
    def clip_id(self) -> str:
        """Readable, and the same however many other stickers there are."""
        stem = self.item.file.rpartition("/")[2].rpartition(".")[0] or "sticker"
        slug = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40]
        return f"{slug or 'sticker'}-{_sha256(self.item.file)[:12]}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def spool_results(
    results: Iterable[PreparedClip | Skipped], spool: IO[bytes], dedupe: bool
) -> tuple[list[SpooledClip], list[Skipped]]:
    """Append the pixels of clips to `spool`; with `dedupe`, of the first of equal ones only."""
    clips: list[SpooledClip] = []
    skipped: list[Skipped] = []
    owner_of: dict[str, str] = {}
    for result in results:
        if isinstance(result, Skipped):
            skipped.append(result)
            continue
        owner = owner_of.setdefault(result.pixel_hash, result.item.file)
        if dedupe and owner != result.item.file:
            reason = f"its pixels equal those of {owner}"
            skipped.append(Skipped(result.item.file, "duplicate", reason))
            continue
        place = (spool.tell(), spool.write(result.pixels))
        about = (result.item, result.durations_ms, result.native_frames, result.motion)
        clips.append(SpooledClip(*about, result.pixel_hash, *place))
    return clips, skipped


def write_shards(
    folder: Path,
    clips: Sequence[SpooledClip],
    spool: IO[bytes],
    sides: dict[str, Split],
    seed: int,
) -> tuple[list[dict[str, Any]], list[ShardInfo]]:
    """Move the clips from the spool into shards; one row a clip, in the order of the shards.

    They are shuffled once, because a reader that streams shards sees neighbours together.
    """
    rows: list[dict[str, Any]] = []
    shards: list[ShardInfo] = []
    shuffled = sorted(clips, key=lambda clip: _sha256(f"{seed}:{clip.item.file}"))
    for split in SPLITS:
        writer = ShardWriter(folder, split)
        chosen = [clip for clip in shuffled if sides[clip.item.concept] == split]
        for clip in chosen:
            spool.seek(clip.offset)
            writer.write(clip.clip_id, spool.read(clip.num_bytes), _row(clip, split))
        writer.close()
        places = (writer.locations[clip.clip_id] for clip in chosen)
        rows += [
            _row(clip, split) | asdict(place) for clip, place in zip(chosen, places, strict=True)
        ]
        shards += writer.shards
    return rows, shards


def _row(clip: SpooledClip, split: Split) -> dict[str, Any]:
    item = clip.item
    return {
        "id": clip.clip_id,
        "split": split,
        "concept": item.concept,
        "captions": list(item.captions),
        "durations_ms": list(clip.durations_ms),
        "num_frames": len(clip.durations_ms),
        "native_frames": clip.native_frames,
        "motion": round(clip.motion, 6),
        "pixel_hash": clip.pixel_hash,
        "file": item.file,
        "source": item.source,
        "license": item.license,
        "attribution": item.attribution,
        "attributes": dict(item.attributes),
    }
