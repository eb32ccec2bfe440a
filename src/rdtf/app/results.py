"""From finished clips to files that can be fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rdtf.app.spec import JobSpec
from rdtf.app.store import Store
from rdtf.stickers import Sticker, decode_sticker, encode_sticker

#: The clip itself, with every pixel.
CLIP_PLATFORM = "webp"
MEDIA_TYPES = {
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".png": "image/png",
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".webm": "video/webm",
    ".mp4": "video/mp4",
    ".zip": "application/zip",
    ".json": "application/json",
}


@dataclass(frozen=True)
class Result:
    """One variant, stored.

    Attributes:
        clip_path: lossless WebP of the clip.
        path: what the client asked for; the same if that is the clip.
        media_type, suffix: of `path`.
        num_bytes: of `path`; num_bytes_stored: of both.
    """

    seed: int
    clip_path: Path
    path: Path
    media_type: str
    suffix: str
    num_frames: int
    total_ms: int
    width: int
    height: int
    num_bytes: int
    num_bytes_stored: int

    def clip(self) -> Sticker:
        return decode_sticker(self.clip_path.read_bytes(), "clip")


def media_type(suffix: str) -> str:
    return MEDIA_TYPES.get(suffix, "application/octet-stream")


def finish(
    store: Store,
    job_id: str,
    spec: JobSpec,
    stickers: Sequence[Sticker],
    check: Callable[[], None],
) -> tuple[Result, ...]:
    """Encode, export and store each clip; `check` may raise in between."""
    results = []
    for index, (seed, sticker) in enumerate(zip(spec.seeds, stickers, strict=True)):
        check()
        sticker = at_output_size(sticker, spec)
        clip = encode_sticker(sticker, ".webp", exact=True)
        path = store.save("jobs", job_id, f"clip-{index}.webp", clip)
        result = Result(
            seed=seed,
            clip_path=path,
            path=path,
            media_type=media_type(".webp"),
            suffix=".webp",
            num_frames=sticker.num_frames,
            total_ms=sticker.total_ms,
            width=sticker.width,
            height=sticker.height,
            num_bytes=len(clip),
            num_bytes_stored=len(clip),
        )
        if spec.platform != CLIP_PLATFORM:
            result = _exported(store, job_id, index, sticker, spec.platform, result)
        results.append(result)
    return tuple(results)


def at_output_size(sticker: Sticker, spec: JobSpec) -> Sticker:
    return sticker.fit_canvas(spec.output) if isinstance(spec.output, tuple) else sticker


def _exported(
    store: Store, job_id: str, index: int, sticker: Sticker, platform: str, result: Result
) -> Result:
    data, suffix = export_bytes(sticker, platform)
    path = store.save("jobs", job_id, f"file-{index}{suffix}", data)
    return replace(
        result,
        path=path,
        media_type=media_type(suffix),
        suffix=suffix,
        num_bytes=len(data),
        num_bytes_stored=result.num_bytes_stored + len(data),
    )


def export_bytes(sticker: Sticker, platform: str) -> tuple[bytes, str]:
    """The export as one file and its suffix; several files become a ZIP archive.

    Raises:
        ExportError: the clip can't comply with the platform.
    """
    from rdtf.stickers.export import export_sticker

    export = export_sticker(sticker, platform)
    if len(export.files) == 1 and not export.suffix.startswith("/"):
        return export.data, export.suffix
    from rdtf.stickers.export.packs import zipped

    return zipped({_file_name(name): data for name, data in export.files.items()}), ".zip"


def _file_name(ending: str) -> str:
    return ending.removeprefix("/") if ending.startswith("/") else f"sticker{ending}"
